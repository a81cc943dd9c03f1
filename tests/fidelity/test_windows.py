# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from ditfuse_jax.fidelity.windows import blur, reach


def test_a_window_is_the_weighted_mean_of_its_definition():
    x = np.random.default_rng(0).uniform(-0.5, 0.5, (1, 12, 11, 2)).astype(np.float32)
    got, sigma = np.asarray(blur(x, 1.5)), 1.5
    size = reach(sigma)
    padded = np.pad(x[0], ((size, size), (size, size), (0, 0)), mode="reflect")
    steps = np.arange(-size, size + 1)
    kernel = np.exp(-0.5 * (steps[:, None] ** 2 + steps[None] ** 2) / sigma**2)
    kernel /= kernel.sum()
    for row, column in ((0, 0), (5, 7), (11, 10)):
        window = padded[row : row + 2 * size + 1, column : column + 2 * size + 1]
        wanted = np.sum(window * kernel[..., None], axis=(0, 1))
        assert got[0, row, column] == pytest.approx(wanted, abs=1e-6)
    np.testing.assert_allclose(blur(x[..., 0], 1.5), got[..., 0], atol=1e-6)
