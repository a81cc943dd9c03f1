# SPDX-License-Identifier: Apache-2.0
"""The example pictures fit together, show what they are meant to show, and come out of their scripts."""

import importlib.util
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

FOLDER = Path(__file__).parents[1] / "examples"
FILES = {
    "ivif": ("image1.png", "image2.png"),
    "mff": ("image1.jpg", "image2.jpg", "truth.jpg"),
    "mef": ("image1.jpg", "image2.jpg", "truth.jpg"),
}


def script(name):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pictures(kind, folder=FOLDER):
    images = []
    for name in FILES[kind]:
        with Image.open(folder / kind / name) as file:
            assert file.mode == "RGB"
            images.append(np.asarray(file).astype(np.float32))
    return images


@pytest.mark.parametrize("kind", FILES)
def test_pictures_open_with_equal_sizes_that_need_no_padding(kind):
    assert sorted(file.name for file in (FOLDER / kind).iterdir()) == sorted(FILES[kind])
    shapes = {image.shape for image in pictures(kind)}
    assert len(shapes) == 1
    height, width, _ = shapes.pop()
    assert max(height, width) == 512
    assert height % 16 == width % 16 == 0


def test_examples_stay_small():
    assert sum(file.stat().st_size for file in FOLDER.rglob("*") if file.is_file()) < 3e6


def test_each_focus_source_is_sharp_where_the_other_is_not():
    first, second, truth = pictures("mff")
    detail = [
        cv2.blur(np.abs(cv2.Laplacian(image, cv2.CV_32F)).mean(-1), (31, 31))
        for image in (first, second, truth)
    ]
    assert np.mean(detail[0] < 0.8 * detail[1]) > 0.2
    assert np.mean(detail[1] < 0.8 * detail[0]) > 0.2
    assert np.mean(np.maximum(*detail[:2]) > 0.8 * detail[2]) > 0.7


def test_exposures_lie_on_both_sides_of_the_truth():
    over, under, truth = (image.mean() for image in pictures("mef"))
    assert under + 15 < truth < over - 15
    assert np.mean(pictures("mef")[0].min(-1) >= 254) > 0.03  # clipped: only the other exposure knows


def test_thermal_picture_shows_the_man_whom_smoke_hides():
    visible, infrared = pictures("ivif")
    np.testing.assert_array_equal(infrared[..., 0], infrared[..., 2])
    man, beside = np.s_[205:225, 243:250], np.s_[205:225, 262:269]
    assert abs(visible[man].mean() - visible[beside].mean()) < 12
    assert infrared[man].mean() - infrared[beside].mean() > 60


def test_lettering_is_in_the_visible_picture_only():
    visible, infrared = pictures("ivif")
    sign = np.s_[140:152, 78:132]
    assert visible[sign].std() > 40
    assert infrared[sign].std() < 10


def test_scene_comes_out_of_its_script():
    """To within rounding: numpy and OpenCV builds may differ in the last bit of a float."""
    for drawn, stored in zip(script("render_scene").render(), pictures("ivif"), strict=True):
        assert np.abs(drawn - stored).mean() < 0.5


def test_pairs_come_out_of_their_script(tmp_path):
    """Any photograph will do; its sides become multiples of 16 and the truth is the photograph."""
    make_pairs = script("make_pairs")
    photo = np.random.default_rng(0).integers(0, 256, (18, 27, 3), np.uint8)
    Image.fromarray(photo).resize((1000, 667)).save(tmp_path / "photo.png")
    for kind in make_pairs.SIMULATIONS:
        make_pairs.make(kind, tmp_path / "photo.png", tmp_path / kind)
        first, second, truth = pictures(kind, tmp_path)
        assert first.shape == second.shape == truth.shape == (336, 512, 3)
        assert np.abs(truth - make_pairs.load(tmp_path / "photo.png")).mean() < 3  # JPEG
