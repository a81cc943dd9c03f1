# SPDX-License-Identifier: Apache-2.0
"""Ablation of the paper (IV-H1): prompts without task tags."""

import dataclasses

from configs.ditfuse_lora import config as base

config = dataclasses.replace(
    base, name="no_tags", mixture=dataclasses.replace(base.mixture, untagged_share=1.0)
)
