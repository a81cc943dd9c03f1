# SPDX-License-Identifier: Apache-2.0
"""Ablation of the paper (IV-H3): M3 degrades with mask alone; the base config has all three."""

import dataclasses
from pathlib import Path

from ditfuse_jax.training.config import load

base = load(Path(__file__).with_name("ditfuse_lora.py"))
config = dataclasses.replace(
    base,
    name="m3_mask",
    mixture=dataclasses.replace(base.mixture, m3=dataclasses.replace(base.mixture.m3, operations=("mask",))),
)
