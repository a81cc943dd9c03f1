# SPDX-License-Identifier: Apache-2.0
"""Ablation of the paper (IV-H2): fusion data alone."""

import dataclasses

from configs.ditfuse_lora import config as base

FUSION = ("ivif", "focus", "exposure")
fusion = tuple(source for source in base.mixture.sources if source.name in FUSION)
config = dataclasses.replace(
    base, name="fusion_only", mixture=dataclasses.replace(base.mixture, sources=fusion)
)
