# SPDX-License-Identifier: Apache-2.0
"""AdamW or Muon, their schedule and gradient clipping."""

import re

import optax
from optax.contrib import MuonDimensionNumbers, muon

from ditfuse_jax.training.config import OptimConfig

MUON_MOMENTUM = 0.95  # optax's default
MUON_RMS = 0.2  # of an update; AdamW's are at 0.2 to 0.4


def learning_rate(cfg: OptimConfig, steps: int) -> optax.Schedule:
    """Linear warm-up from zero, then constant, or a cosine that ends at zero after `steps`."""
    if cfg.schedule == "cosine":
        end = max(steps, cfg.warmup_steps + 1)
        return optax.warmup_cosine_decay_schedule(0.0, cfg.learning_rate, cfg.warmup_steps, end)
    if not cfg.warmup_steps:  # optax's warm-up of no steps stays at its first value
        return optax.constant_schedule(cfg.learning_rate)
    return optax.warmup_constant_schedule(0.0, cfg.learning_rate, cfg.warmup_steps)


def optimizer(cfg: OptimConfig, steps: int) -> optax.GradientTransformation:
    """Clip by the global norm, then AdamW or Muon. `steps` is the length of the run, for the schedule."""
    update = KINDS[cfg.kind](cfg, learning_rate(cfg, steps))
    return optax.chain(optax.clip_by_global_norm(cfg.clip_norm), update) if cfg.clip_norm else update


def _adamw(cfg: OptimConfig, rate: optax.Schedule) -> optax.GradientTransformation:
    return optax.adamw(rate, b1=cfg.beta1, b2=cfg.beta2, eps=cfg.eps, weight_decay=cfg.weight_decay)


def _muon(cfg: OptimConfig, rate: optax.Schedule) -> optax.GradientTransformation:
    """Muon (Jordan et al. 2024) on the kernels of the blocks, AdamW on the rest, at one learning rate.

    The updates are scaled to the size that AdamW's have (Liu et al. 2025, arXiv 2502.16982, section 2.2).
    """
    return muon(
        rate,
        beta=MUON_MOMENTUM,
        weight_decay=cfg.weight_decay,
        adam_b1=cfg.beta1,
        adam_b2=cfg.beta2,
        adam_weight_decay=cfg.weight_decay,
        muon_weight_dimension_numbers=_block_kernels,
        consistent_rms=MUON_RMS,
    )


def _block_kernels(params):
    """Which parameters Muon takes: kernels [L, in, out], each layer a matrix of its own."""
    matrix = MuonDimensionNumbers(reduction_axis=1, output_axis=2)
    return {name: matrix if re.fullmatch(r"layers\..*\.kernel", name) else None for name in params}


KINDS = {"adamw": _adamw, "muon": _muon}
