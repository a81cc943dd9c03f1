# SPDX-License-Identifier: Apache-2.0
"""Ablation of the paper (IV-H2): fusion data alone."""

import dataclasses
from pathlib import Path

from ditfuse_jax.training.config import load

base = load(Path(__file__).with_name("ditfuse_lora.py"))

FUSION = ("ivif", "focus", "exposure")
fusion = tuple(source for source in base.mixture.sources if source.name in FUSION)
config = dataclasses.replace(
    base, name="fusion_only", mixture=dataclasses.replace(base.mixture, sources=fusion)
)
