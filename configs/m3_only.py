# SPDX-License-Identifier: Apache-2.0
"""Ablation of the paper (IV-H2): M3 alone."""

import dataclasses
from pathlib import Path

from ditfuse_jax.training.config import load

EPOCHS = 2  # paper IV-A

base = load(Path(__file__).with_name("ditfuse_lora.py"))

m3 = tuple(source for source in base.mixture.sources if source.name == "m3")
mixture = dataclasses.replace(base.mixture, sources=m3)
# As many epochs as the base, so fewer steps; the paper says neither. As many steps: --set steps=9887.
config = dataclasses.replace(
    base, name="m3_only", mixture=mixture, steps=mixture.steps(EPOCHS, base.batch_size)
)
