# SPDX-License-Identifier: Apache-2.0
"""Weights as int8 with one step per output channel, symmetric about zero; sums stay float32."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ditfuse_jax.ops.products import matmul

MOST = 127  # -128 is left out, so that a weight and its negative are stored alike


class Int8(NamedTuple):
    kernel: np.ndarray  # int8 [in, out]
    step: np.ndarray  # float32 [out]: kernel * step is the weight


def quantize(kernel: np.ndarray) -> Int8:
    """The nearest int8 of each weight of kernel [in, out]; the largest of a channel is 127 steps."""
    kernel = kernel.astype(np.float32)
    step = np.abs(kernel).max(axis=0) / MOST
    step[step == 0] = 1.0  # a channel of zeros
    return Int8(np.rint(kernel / step).astype(np.int8), step)


def plain_int8_matmul(x: jax.Array, kernel: jax.Array, step: jax.Array, dtype: str) -> jax.Array:
    """x [..., in] @ (kernel int8 [in, out] * step [out]), multiplied in `dtype`, float32."""
    return matmul(x, kernel.astype(jnp.float32) * jnp.broadcast_to(step, kernel.shape), dtype)


def int8_matmul(x: jax.Array, kernel: jax.Array, step: jax.Array, dtype: str) -> jax.Array:
    """`plain_int8_matmul` with the steps on the result; the int8 numbers are exact in bfloat16.

    Behind the barrier a layer's kernel is converted where it is used; XLA could otherwise convert the whole
    stack of layers ahead of the loop over them, and keep it.
    """
    kernel = jax.lax.optimization_barrier(kernel)
    y = matmul(x, kernel.astype(dtype), dtype)
    return y * jnp.broadcast_to(step, y.shape)
