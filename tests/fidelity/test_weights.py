# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from ditfuse_jax import fidelity
from ditfuse_jax.fidelity.weights import REACH, blur


def pictures(*shape, seed=0):
    rng = np.random.default_rng(seed)
    return rng.uniform(-0.5, 0.5, shape).astype(np.float32)


def test_a_window_is_the_weighted_mean_of_its_definition():
    x = pictures(1, 12, 11)
    got, sigma = np.asarray(blur(x, 1.5)), 1.5
    reach = int(np.ceil(REACH * sigma))
    padded = np.pad(x[0], reach, mode="reflect")
    steps = np.arange(-reach, reach + 1)
    kernel = np.exp(-0.5 * (steps[:, None] ** 2 + steps[None] ** 2) / sigma**2)
    kernel /= kernel.sum()
    for row, column in ((0, 0), (5, 7), (11, 10)):
        window = padded[row : row + 2 * reach + 1, column : column + 2 * reach + 1]
        assert got[0, row, column] == pytest.approx(np.sum(window * kernel), abs=1e-6)


@pytest.mark.parametrize("weight", [0.0, 0.25, 1.0])
def test_what_is_lost_on_all_sides_cancels(weight):
    """The result is a mix of the degraded sources; the rebuilt one is the same mix of the originals."""
    originals, lost = pictures(1, 2, 40, 40, 3), pictures(1, 1, 40, 40, 3, seed=1)
    trips = originals + lost
    result = trips[:, 1] + weight * (trips[:, 0] - trips[:, 1])
    made = fidelity.rebuild(result, trips, originals)
    wanted = originals[:, 1] + weight * (originals[:, 0] - originals[:, 1])
    np.testing.assert_allclose(made.pixels, wanted, atol=2e-3)  # the ridge
    np.testing.assert_allclose(made.weights, weight, atol=2e-3)
    assert float(np.max(made.invented)) < 0.5


def test_what_no_source_holds_is_told():
    originals = pictures(1, 2, 64, 64, 3)
    result = originals[:, 0].copy()
    result[:, 24:40, 24:40] = 1.0
    made = fidelity.rebuild(result, originals, originals)
    assert float(made.invented[0, 32, 32]) > fidelity.EXPLAINED
    assert float(made.invented[0, 2, 2]) < 1


def test_a_pixel_depends_on_its_halo_alone():
    originals, result = pictures(1, 2, 90, 90, 3), pictures(1, 90, 90, 3, seed=1)
    trips = originals + 0.1
    whole = fidelity.rebuild(result, trips, originals)
    cut = np.s_[..., 10:80, 10:80, :]
    part = fidelity.rebuild(result[cut], trips[cut], originals[cut])
    inner = fidelity.HALO
    for name in ("weights", "invented"):
        got, want = (np.asarray(getattr(each, name)) for each in (part, whole))
        np.testing.assert_allclose(
            got[:, inner:-inner, inner:-inner],
            want[:, 10 + inner : 80 - inner, 10 + inner : 80 - inner],
            atol=1e-4,
        )
