# SPDX-License-Identifier: Apache-2.0
"""Ablation of the paper (IV-H2): fusion data and M3."""

import dataclasses

from configs.ditfuse_lora import config as base

BOTH = ("m3", "ivif", "focus", "exposure")
both = tuple(source for source in base.mixture.sources if source.name in BOTH)
config = dataclasses.replace(
    base, name="fusion_and_m3", mixture=dataclasses.replace(base.mixture, sources=both)
)
