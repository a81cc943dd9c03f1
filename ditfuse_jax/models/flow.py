# SPDX-License-Identifier: Apache-2.0
"""Flow matching: times, interpolation, guidance, the Euler sampler and the training loss.

t = 0 is noise, t = 1 is the image.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

BRANCHES = ("cond", "uncond", "img_cond")  # their order on the batch axis


class Guidance(NamedTuple):
    """Static scales of text and image guidance; 1, 1 is the plain conditional model."""

    text: float
    image: float


def times(steps: int) -> np.ndarray:
    """float32 [steps + 1], evenly from 0 to 1."""
    return np.linspace(0.0, 1.0, steps + 1, dtype=np.float32)


def interpolate(x_0: jax.Array, x_1: jax.Array, t: jax.Array) -> jax.Array:
    """x_t = t * x_1 + (1 - t) * x_0 (paper eq. 4); t [B] against x [B, ...]."""
    t = t.reshape(-1, *[1] * (x_1.ndim - 1))
    return t * x_1 + (1.0 - t) * x_0


def coefficients(guidance: Guidance) -> dict[str, float]:
    """Weight of each branch in u + i (m - u) + s (c - m); they sum to 1."""
    return {"cond": guidance.text, "uncond": 1.0 - guidance.image, "img_cond": guidance.image - guidance.text}


def branches(guidance: Guidance) -> tuple[str, ...]:
    """The branches whose weight is not exactly zero, in their order on the batch axis."""
    weights = coefficients(guidance)
    return tuple(name for name in BRANCHES if weights[name] != 0.0)


def guide(velocity: jax.Array, guidance: Guidance) -> jax.Array:
    """Combines the branches of velocity [len(branches) * B, ...] into [B, ...]."""
    weights, names = coefficients(guidance), branches(guidance)
    parts = jnp.split(velocity, len(names))
    return sum(weights[name] * part for name, part in zip(names, parts, strict=True))


def sample(velocity_fn, noise: jax.Array, times: jax.Array) -> jax.Array:
    """Integrates dx/dt = velocity_fn(x, t) from noise (t = 0) to image (t = 1) with Euler steps.

    velocity_fn takes t as a scalar; times float32 [steps + 1].
    """

    def step(x, span):
        t, t_next = span
        return x + (t_next - t) * velocity_fn(x, t), None

    times = jnp.asarray(times)
    return jax.lax.scan(step, noise, (times[:-1], times[1:]))[0]


def loss(velocity: jax.Array, x_0: jax.Array, x_1: jax.Array, num_target: jax.Array) -> jax.Array:
    """Per-sample mean square error against the target velocity x_1 - x_0 (paper eq. 5), float32 [B].

    Args: velocity, x_0, x_1 float32 [B, P, C]; num_target int32 [B]: patches from there on are padding, which
    does not count.
    """
    error = jnp.square(velocity - (x_1 - x_0)).mean(axis=-1)  # [B, P]
    real = jnp.arange(error.shape[1])[None, :] < num_target[:, None]
    return jnp.sum(error * real, axis=1) / num_target
