# SPDX-License-Identifier: Apache-2.0
"""int8 weights: the nearest ones, and their product."""

import jax.numpy as jnp
import numpy as np
import pytest

from ditfuse_jax.ops import int8

RNG = np.random.default_rng(0)
KERNEL = RNG.standard_normal((128, 10), np.float32) * np.logspace(-3, 2, 10, dtype=np.float32)


@pytest.mark.parametrize(("num_in", "runs"), [(128, 2), (96, 3), (7, 7)])
def test_runs_divide_the_inputs(num_in, runs):
    assert int8.runs(num_in) == runs


def test_no_weight_is_further_away_than_half_a_step():
    kernel, step = int8.quantize(KERNEL)
    assert (kernel.dtype, step.dtype, step.shape) == (np.int8, np.float32, (2, 10))
    np.testing.assert_array_equal(
        np.abs(kernel.reshape(2, 64, 10)).max(axis=1), 127
    )  # the whole range is used
    far = np.abs(int8.weights(kernel, step) - KERNEL).reshape(2, 64, 10)
    assert (far <= 0.5001 * step[:, None]).all()  # the division rounds in float32


def test_signs_are_alike_and_zeros_stay_zero():
    kernel = KERNEL.copy()
    kernel[:, 3] = 0
    there, back = int8.quantize(kernel), int8.quantize(-kernel)
    np.testing.assert_array_equal(there.kernel, -back.kernel)
    assert not there.kernel[:, 3].any()
    assert np.isfinite(there.step).all()


def test_the_product_is_that_of_the_weights():
    kernel, step = int8.quantize(KERNEL)
    x = jnp.asarray(RNG.standard_normal((2, 3, 128), np.float32))
    want = x @ int8.weights(kernel, step)
    exact, low = (int8.int8_matmul(x, kernel, step, dtype) for dtype in ("float32", "bfloat16"))
    np.testing.assert_allclose(exact, want, rtol=0, atol=1e-5 * np.abs(want).max())  # order of the sums
    assert np.linalg.norm(low - want) < 1e-2 * np.linalg.norm(want)  # both operands have 8 bits
