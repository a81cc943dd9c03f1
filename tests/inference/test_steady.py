# SPDX-License-Identifier: Apache-2.0
"""Less noise in frames of a camera that stands still, and none of what moves twice."""

import numpy as np
import pytest

from ditfuse_jax.image import Picture
from ditfuse_jax.inference.steady import STILL, alike, steadied, still
from drawn import draw

SCENE = draw(size=(96, 128))


def noisy(seed, bits=8):
    level = 2.0 if bits == 8 else 2.0 * 257
    top = 255 if bits == 8 else 65535
    pixels = SCENE * (top / 255) + level * np.random.default_rng(seed).standard_normal(SCENE.shape)
    return Picture(np.rint(pixels).clip(0, top).astype(f"uint{bits}"))


@pytest.mark.parametrize("bits", [8, 16])
def test_noise_flickers_half_as_much(bits):
    """A third frame's change is (c - a) / 2 instead of c - b, of which independent noise leaves one half."""
    a, b, c = (noisy(seed, bits) for seed in range(3))
    before, after = steadied(b, a).pixels.astype(float), steadied(c, b).pixels.astype(float)
    assert before.shape == SCENE.shape
    raw = np.abs(c.pixels.astype(float) - b.pixels).mean()
    assert 0.45 < np.abs(after - before).mean() / raw < 0.55


def test_equal_frames_stay_as_they_are():
    one = noisy(0)
    np.testing.assert_array_equal(steadied(one, noisy(0)).pixels, one.pixels)


def test_what_moves_is_shown_once():
    before, now = SCENE.copy(), SCENE.copy()
    before[20:40, 20:40], now[20:40, 60:80] = 255, 255
    made = steadied(Picture(now), Picture(before)).pixels
    np.testing.assert_array_equal(made, now)
    share = still(now, before)
    assert share[:5].min() == 1
    assert share[25:35, 25:35].max() < 0.2  # but where the scene is nearly white itself


def test_frames_that_are_not_alike_are_left():
    one = noisy(0)
    for other in (Picture(one.pixels[:80]), noisy(1, 16)):
        assert steadied(one, other) is one


@pytest.mark.parametrize("bits", [8, 16])
def test_a_camera_that_stands_still_is_known(bits):
    assert alike(noisy(1, bits), noisy(0, bits)) > 0.9
    assert alike(noisy(0, bits), noisy(0, bits)) == 0  # no noise
    assert alike(noisy(1, bits), Picture(np.roll(noisy(0, bits).pixels, 24, axis=1))) < STILL  # it turns
    assert alike(noisy(1, bits), Picture(noisy(0, bits).pixels[:80])) == 0
    assert alike(noisy(1), noisy(0, 16)) == 0
