# SPDX-License-Identifier: Apache-2.0
"""AdamW, its schedule and gradient clipping."""

import optax

from ditfuse_jax.train_config import OptimConfig


def learning_rate(cfg: OptimConfig, steps: int) -> optax.Schedule:
    """Linear warm-up from zero, then constant, or a cosine that ends at zero after `steps`."""
    if cfg.schedule == "cosine":
        after = optax.cosine_decay_schedule(cfg.learning_rate, max(1, steps - cfg.warmup_steps))
    else:
        after = optax.constant_schedule(cfg.learning_rate)
    ramp = optax.linear_schedule(0.0, cfg.learning_rate, max(1, cfg.warmup_steps))
    return optax.join_schedules([ramp, after], [cfg.warmup_steps]) if cfg.warmup_steps else after


def optimizer(cfg: OptimConfig, steps: int) -> optax.GradientTransformation:
    """Clip by the global norm, then AdamW. `steps` is the length of the run, for the schedule."""
    rate = learning_rate(cfg, steps)
    adamw = optax.adamw(rate, b1=cfg.beta1, b2=cfg.beta2, eps=cfg.eps, weight_decay=cfg.weight_decay)
    return optax.chain(optax.clip_by_global_norm(cfg.clip_norm), adamw) if cfg.clip_norm else adamw
