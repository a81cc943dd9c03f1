# SPDX-License-Identifier: Apache-2.0
"""The estimator: it cancels the autoencoder's loss, follows the model, and keeps what was drawn."""

import functools

import jax
import numpy as np
import pytest

from ditfuse_jax import fidelity
from ditfuse_jax.fidelity.windows import blur

KINDS = (None, "multi-focus", "multi-exposure", "light+", "seg")
rebuild = jax.jit(fidelity.rebuild, static_argnames="kind")


@functools.cache
def pictures(*shape, seed=0):
    """Detail of an amplitude that photographs have, float32 in [-0.5, 0.5]."""
    rng = np.random.default_rng(seed)
    return rng.uniform(-0.5, 0.5, shape).astype(np.float32)


def smooth(x, sigma):
    """What an autoencoder keeps of x [B, 2, H, W, 3]."""
    return np.stack([np.asarray(blur(x[:, i], sigma)) for i in range(2)], 1)


@pytest.mark.parametrize("kind", KINDS)
def test_equal_sources_come_back_whatever_the_autoencoder_lost(kind):
    picture = pictures(1, 64, 64, 3)
    originals = np.stack([picture, picture], 1)
    trips = smooth(originals, 1.0)
    made = rebuild(trips[:, 0], trips, originals, kind=kind)
    np.testing.assert_allclose(made.pixels, picture, atol=1e-4)
    assert float(np.max(made.invented)) < 0.1


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("kind", [None, "seg"])
def test_the_source_that_the_model_shows_is_taken_at_full_detail(kind, side):
    originals = pictures(1, 2, 64, 64, 3)
    trips = smooth(originals, 1.0)
    made = rebuild(trips[:, side], trips, originals, kind=kind)
    error = np.abs(np.asarray(made.pixels) - originals[:, side])
    lost = np.abs(trips[:, side] - originals[:, side])
    assert error.mean() < 0.05 * lost.mean()
    np.testing.assert_allclose(made.weights, 1.0 - side, atol=0.01)


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("multi-exposure", 0.1),
        ("multi-modalities", 0.1),
        ("contrast+", 0.02),
    ],  # the larger ridge, and the small
)
def test_gain_and_offset_of_the_model_are_applied_to_the_originals(kind, error):
    originals = pictures(1, 2, 64, 64, 3)
    trips = smooth(originals, 0.5)
    result = 0.3 * trips[:, 0] + 0.8 * trips[:, 1] + 0.2
    made = rebuild(result, trips, originals, kind=kind)
    wanted = 0.3 * originals[:, 0] + 0.8 * originals[:, 1] + 0.2
    np.testing.assert_allclose(made.pixels, wanted, atol=error)  # the ridge, and windows at the border
    left = np.abs(0.5 * originals.sum(1) - wanted).mean()
    assert np.abs(np.asarray(made.pixels) - wanted).mean() < 0.2 * left  # of what the mean of both is off


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("kind", ["multi-exposure", "multi-modalities"])
def test_what_one_source_lost_comes_from_the_other_at_its_own_contrast(kind, side):
    """Texture that the model's result lacks, beside a source that is burnt out or cold."""
    texture = 0.1 * pictures(1, 96, 96, 3)
    originals = np.full((1, 2, 96, 96, 3), 0.9, np.float32)
    originals[:, side] = texture - 0.5

    def contrast(kind):
        made = np.asarray(rebuild(np.zeros_like(texture), originals, originals, kind=kind).pixels)
        inner = np.s_[0, 24:-24, 24:-24]
        return np.vdot(made[inner], texture[inner]) / np.vdot(texture[inner], texture[inner])

    assert 0.6 < contrast(kind) <= 1.0  # a half of the source at most, were it drawn to the mean
    assert contrast("light+") < 0.2  # which follows the result


def test_focus_takes_the_sharper_source_and_asks_the_model_where_both_are_alike():
    sharp, result = pictures(1, 64, 64, 3), np.zeros((1, 64, 64, 3), np.float32)
    originals = np.stack([sharp, np.asarray(blur(sharp, 3.0))], 1)
    made = rebuild(result, np.zeros_like(originals), originals, kind="multi-focus")
    np.testing.assert_allclose(made.pixels, sharp, atol=1e-3)
    both = pictures(1, 2, 64, 64, 3, seed=2)
    by_model = [rebuild(both[:, side], both, both, kind="multi-focus").weights for side in (0, 1)]
    assert float(by_model[0].mean()) > 0.7
    assert float(by_model[1].mean()) < 0.3


@pytest.mark.parametrize("kind", [None, "seg"])
def test_what_no_source_holds_is_kept_and_told(kind):
    originals = 0.2 * pictures(1, 2, 96, 96, 3)
    result = originals[:, 0].copy()
    result[:, 40:56, 40:56] = (-1.0, -1.0, 1.0)  # a drawn overlay
    made = rebuild(result, originals, originals, kind=kind)
    assert float(made.invented[0, 48, 48]) > fidelity.EXPLAINED
    assert float(made.invented[0, 4, 4]) < 1
    np.testing.assert_allclose(made.pixels[:, 42:54, 42:54], result[:, 42:54, 42:54], atol=0.1)


def test_another_result_changes_the_picture():
    originals = pictures(1, 2, 64, 64, 3)
    one, other = (np.asarray(rebuild(originals[:, i], originals, originals).pixels) for i in (0, 1))
    assert np.abs(one - other).mean() > 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_a_pixel_depends_on_its_halo_alone(kind):
    side, inner = 2 * fidelity.HALO + 40, fidelity.HALO
    originals, result = pictures(1, 2, side, side, 3), pictures(1, side, side, 3, seed=1)
    trips = originals + 0.1
    whole = rebuild(result, trips, originals, kind=kind)
    cut = np.s_[..., 10:-10, 10:-10, :]
    part = rebuild(result[cut], trips[cut], originals[cut], kind=kind)
    for name in ("weights", "invented", "pixels"):
        got, want = (np.asarray(getattr(each, name)) for each in (part, whole))
        np.testing.assert_allclose(
            got[:, inner:-inner, inner:-inner],
            want[:, 10 + inner : -10 - inner, 10 + inner : -10 - inner],
            atol=1e-3,
        )
