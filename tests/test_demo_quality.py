# SPDX-License-Identifier: Apache-2.0
"""What the demo's benchmark computes without a network: scores, cases, the sheet."""

import sys
from pathlib import Path

import numpy as np
import pytest

from ditfuse_jax.training.validation import psnr
from synthetic import noise, synthetic_root  # noqa: F401  (a fixture)

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(autouse=True)
def _benchmarks_are_importable(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(FOLDER), *sys.path])


def test_psnr_of_a_known_error():
    """An error of 5 everywhere is 20 log10(255 / 5) dB, and the mean is over pictures."""
    image = np.full((2, 8, 8, 3), 100, np.uint8)
    worse = image + np.array([5, 50], np.uint8)[:, None, None, None]
    expected = (20 * np.log10(255 / 5) + 20 * np.log10(255 / 50)) / 2
    assert psnr(worse, image) == pytest.approx(expected, abs=1e-9)


def test_ordering_counts_neighbours_and_whole_chains():
    from scores import ordering

    found = ordering(np.array([[1, 2, 3], [1, 3, 2], [3, 2, 4], [1, 1, 2]]))
    np.testing.assert_array_equal(found.adjacent, [0.5, 0.75])
    assert found.chain == 0.25


def test_control_targets_are_in_order():
    """The measures tell the six targets of training apart, so that a model which hits them gets 100 %."""
    from demo_items import MEASURES, truth
    from scores import ordering

    image = noise(4, 48, 48, 3)
    for order, measure in MEASURES.values():
        assert ordering(np.array([[measure(truth(image, one)) for one in order]])).chain == 1


def test_cases_are_the_held_out_files_at_one_size(root):
    from demo_cases import SIDE, photo_crops, real_pairs, simulated

    for source in ("m3", "focus", "exposure", "ivif", "seg"):
        found = simulated(root, source)
        assert len(found.cases) == 1  # of the list in val.txt
        case = found.cases[0]
        assert case.first.shape == case.second.shape == case.target.shape == (SIDE, SIDE, 3)
        assert (case.labels is not None) == (source == "seg") == bool(found.classes)
    assert [case.name for case in real_pairs(root, "ivif")] == ["set/v3"]
    assert photo_crops(root) == ([], 1)  # its short side is under SIDE


def test_complementary_copies_hold_every_pixel_of_the_photograph(root):
    from demo_cases import simulated

    case = simulated(root, "m3", joint_share=0.0).cases[0]
    intact = (case.first == case.target).all(-1) | (case.second == case.target).all(-1)
    assert intact.all()
    assert not (case.first == case.target).all()


def test_spread_goes_over_the_whole_list():
    from demo_cases import spread

    assert spread(range(10), 3) == [0, 3, 6]
    assert spread(range(3), 0) == spread(range(3), 8) == [0, 1, 2]


@pytest.mark.parametrize(
    ("size", "shape"), [((512, 640), (192, 256)), ((520, 520), (256, 256)), ((640, 400), (256, 192))]
)
def test_nearest_shape(size, shape):
    from demo_cases import nearest_shape

    assert nearest_shape(*size) == shape


def test_sheet_holds_every_scene():
    import demo_sheet

    wide, tall = np.zeros((192, 256, 3), np.uint8), np.zeros((256, 192, 3), np.uint8)
    cells = [demo_sheet.Cell(str(i), (picture,) * 4) for i, picture in enumerate((wide, tall, wide))]
    sheet = np.asarray(demo_sheet.draw(cells, across=2))
    black = (sheet == 0).all(-1).sum()
    side = demo_sheet.HEIGHT
    assert black >= 4 * side * (2 * round(side * 256 / 192) + round(side * 192 / 256))
