# SPDX-License-Identifier: Apache-2.0
"""Weights as int8, symmetric about zero, with one step for each output channel and run of inputs.

One step for all inputs of a channel made the demo's exposure pairs 0.5 dB worse (docs/speed.md).
"""

import math
from typing import NamedTuple

import jax
import numpy as np

from ditfuse_jax.ops.products import matmul

MOST = 127  # -128 is left out, so that a weight and its negative are stored alike
RUN = 64  # inputs that share a step


class Int8(NamedTuple):
    kernel: np.ndarray  # int8 [in, out]
    step: np.ndarray  # float32 [runs, out]


def runs(num_in: int) -> int:
    """How many steps an output channel has: one for RUN inputs, or for fewer that divide num_in."""
    return num_in // math.gcd(num_in, RUN)


def quantize(kernel: np.ndarray) -> Int8:
    """The nearest int8 of each weight of kernel [in, out]; the largest of a run is 127 steps."""
    parts = kernel.astype(np.float32).reshape(runs(len(kernel)), -1, kernel.shape[1])
    step = np.abs(parts).max(axis=1) / MOST
    step[step == 0] = 1.0  # a run of zeros
    return Int8(np.rint(parts / step[:, None]).astype(np.int8).reshape(kernel.shape), step)


def weights(kernel, step):
    """float32 [in, out] of kernel int8 [in, out] and step [runs, out], of JAX or NumPy."""
    parts = kernel.reshape(step.shape[0], -1, kernel.shape[1])
    return (parts.astype(step.dtype) * step[:, None]).reshape(kernel.shape)


def int8_matmul(x: jax.Array, kernel: jax.Array, step: jax.Array, dtype: str) -> jax.Array:
    """x [..., in] @ `weights`, multiplied in `dtype`, float32.

    Behind the barrier a layer's kernel is converted where it is used; XLA could otherwise convert the whole
    stack of layers ahead of the loop over them, and keep it.
    """
    return matmul(x, weights(jax.lax.optimization_barrier(kernel), step), dtype)
