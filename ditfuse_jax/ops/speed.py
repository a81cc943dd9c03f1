# SPDX-License-Identifier: Apache-2.0
"""How fast this machine multiplies."""

import functools
import math
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp

from ditfuse_jax.ops.products import matmul

SIDE, REPEATS = 1024, 5
TOKENS, MARGIN = 1024, 1.1


@functools.cache
def product_speed(dtype: str) -> float:
    """FLOP/s of a square product of `dtype` that returns float32: the best of a few, once a process."""
    x = jnp.ones((SIDE, SIDE), dtype)
    product = jax.jit(lambda x: jnp.dot(x, x, preferred_element_type=jnp.float32))
    return 2.0 * SIDE**3 / _best(lambda: product(x).block_until_ready())


@functools.cache
def faster_dtype(num_in: int, num_out: int) -> str:
    """The dtype, float32 or bfloat16, that multiplies a layer's kernel [num_in, num_out] faster here.

    bfloat16 has to be faster by more than a measurement's error (MARGIN), as it is less exact.
    """
    seconds = {dtype: layer_seconds(dtype, num_in, num_out) for dtype in ("float32", "bfloat16")}
    return "bfloat16" if MARGIN * seconds["bfloat16"] < seconds["float32"] else "float32"


def layer_seconds(dtype: str, num_in: int, num_out: int) -> float:
    """Of the model's own product of TOKENS rows with such a kernel, the best of a few."""
    x, kernel = jnp.ones((TOKENS, num_in)), jnp.ones((num_in, num_out), dtype)
    run = jax.jit(functools.partial(matmul, dtype=dtype))
    return _best(lambda: run(x, kernel).block_until_ready())


def _best(run: Callable) -> float:
    """Seconds of the fastest of a few runs, after one that compiles."""
    run()
    best = math.inf
    for _ in range(REPEATS):
        start = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - start)
    return best
