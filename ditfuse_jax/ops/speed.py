# SPDX-License-Identifier: Apache-2.0
"""How fast this machine multiplies."""

import functools
import math
import time

import jax
import jax.numpy as jnp

SIDE, REPEATS = 1024, 5


@functools.cache
def product_speed(dtype: str) -> float:
    """FLOP/s of a square product of `dtype` that returns float32: the best of a few, once a process."""
    x = jnp.ones((SIDE, SIDE), dtype)
    product = jax.jit(lambda x: jnp.dot(x, x, preferred_element_type=jnp.float32))
    product(x).block_until_ready()
    best = math.inf
    for _ in range(REPEATS):
        start = time.perf_counter()
        product(x).block_until_ready()
        best = min(best, time.perf_counter() - start)
    return 2.0 * SIDE**3 / best
