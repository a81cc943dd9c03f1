# SPDX-License-Identifier: Apache-2.0
"""int8 weights: the nearest ones, and their product."""

import jax.numpy as jnp
import numpy as np

from ditfuse_jax.ops import int8

RNG = np.random.default_rng(0)
KERNEL = RNG.standard_normal((24, 10), np.float32) * np.logspace(-3, 2, 10, dtype=np.float32)


def test_no_weight_is_further_away_than_half_a_step():
    kernel, step = int8.quantize(KERNEL)
    assert (kernel.dtype, step.dtype) == (np.int8, np.float32)
    np.testing.assert_array_equal(np.abs(kernel).max(axis=0), 127)  # every channel uses the whole range
    assert (np.abs(kernel * step - KERNEL) <= 0.5001 * step).all()  # the division rounds in float32


def test_signs_are_alike_and_zeros_stay_zero():
    kernel = KERNEL.copy()
    kernel[:, 3] = 0
    there, back = int8.quantize(kernel), int8.quantize(-kernel)
    np.testing.assert_array_equal(there.kernel, -back.kernel)
    assert not there.kernel[:, 3].any()
    assert np.isfinite(there.step).all()


def test_steps_on_the_result_are_those_on_the_weights():
    kernel, step = int8.quantize(KERNEL)
    x = jnp.asarray(RNG.standard_normal((2, 3, 24), np.float32))
    ours, plain = (f(x, kernel, step, "float32") for f in (int8.int8_matmul, int8.plain_int8_matmul))
    np.testing.assert_allclose(ours, plain, rtol=0, atol=1e-5 * np.abs(plain).max())  # order of rounding
    low = int8.int8_matmul(x, kernel, step, "bfloat16")
    assert np.linalg.norm(low - plain) < 5e-3 * np.linalg.norm(plain)  # x is rounded to 8 bits, int8 is exact
