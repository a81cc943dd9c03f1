# SPDX-License-Identifier: Apache-2.0
"""What benchmarks/flicker.py measures, with a stand-in that takes each pixel from one source as it is."""

from types import SimpleNamespace

import numpy as np
import pytest

import scripts
from drawn import draw, infrared

PAIR = draw(size=(96, 128)), infrared(draw(size=(96, 128)))


@pytest.fixture
def flicker(monkeypatch):
    monkeypatch.syspath_prepend(str(scripts.PROJECT / "benchmarks"))
    return scripts.load("benchmarks/flicker.py")


class Chooser:
    """The left half of the visible picture, the right half of the infrared one."""

    def fuse(self, pair, *_, **__):
        left = np.arange(pair[0].shape[1])[None, :, None] < pair[0].shape[1] // 2
        return SimpleNamespace(image=np.where(left, *pair))


def test_equal_frames_do_not_flicker(flicker):
    assert flicker.measured(Chooser(), [PAIR] * 3)["ours"] == 0


def test_noise_flickers_as_theory_says_and_steady_frames_less_than_the_mean(flicker):
    """|difference| of noise of deviation 2 is 2 sqrt(2) sqrt(2 / pi) = 2.26; of the mean of two 1.60."""
    found = flicker.measured(Chooser(), flicker.noisy(PAIR, 6))
    assert found["static"] > 0.99
    assert found["visible"] == pytest.approx(2.26, abs=0.06)
    assert found["mean"] == pytest.approx(1.60, abs=0.06)
    alone = found["ours, --steady off"]
    assert alone == pytest.approx(found["visible"], abs=0.06)  # so a source's own pixels are
    assert found["ours"] == found["ours, --steady on"] < 0.8 * found["mean"]


def test_what_moves_is_not_counted(flicker):
    moved = tuple(side.copy() for side in PAIR)
    moved[0][20:40, 20:40] = 255
    static = flicker.still(PAIR, moved)
    assert not static[25:35, 25:35].any()
    assert static[60:].all()
