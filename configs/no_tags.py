# SPDX-License-Identifier: Apache-2.0
"""Ablation of the paper (IV-H1): prompts without task tags."""

import dataclasses
from pathlib import Path

from ditfuse_jax.training.config import load

base = load(Path(__file__).with_name("ditfuse_lora.py"))
config = dataclasses.replace(
    base, name="no_tags", mixture=dataclasses.replace(base.mixture, untagged_share=1.0)
)
