# SPDX-License-Identifier: Apache-2.0
import itertools
import tracemalloc
from typing import NamedTuple

import numpy as np
import pytest

from ditfuse_jax import image
from ditfuse_jax.image import Origin
from ditfuse_jax.inference import prepare, stack
from ditfuse_jax.inference.preparation import Preparation
from ditfuse_jax.inference.timings import Timings
from ditfuse_jax.task import request
from drawn import draw

pytestmark = pytest.mark.usefixtures("small_blocks")

FOCUS, EXPOSURE = request(task="mff"), request(task="mef")


class Made(NamedTuple):
    """As `Fused`, of a model that always takes the pixel further from grey."""

    image: np.ndarray
    latents: None
    weights: np.ndarray
    invented: np.ndarray
    explained: float
    timings: Timings
    origin: Origin


class Model:
    def __init__(self):
        self.asked = []

    def __call__(self, two, prompt, bits):
        two = [each.pixels for each in two]
        self.asked.append((two, prompt))
        away = [np.abs(each.astype(int) - 128).sum(-1) for each in two]
        first = away[0] >= away[1]
        invented = np.full(first.shape, len(self.asked), np.float32)
        picture = np.where(first[..., None], *two)
        return Made(picture, None, first.astype(np.float32), invented, 1.0, Timings(sample=1.0), Origin())


def shots():
    """Three pictures of 16 x 48, each with contrast in a third of its own."""
    scene = np.random.default_rng(0).choice([0, 255], (16, 48, 3)).astype(np.uint8)
    pictures = [np.full_like(scene, 128) for _ in range(3)]
    for number, picture in enumerate(pictures):
        picture[:, 16 * number : 16 * number + 16] = scene[:, 16 * number : 16 * number + 16]
    return scene, pictures


def test_every_pixel_is_that_of_the_picture_that_has_it():
    scene, pictures = shots()
    made = stack.fuse(Model(), pictures, FOCUS, strength=1.0)
    np.testing.assert_array_equal(made.image, scene)
    np.testing.assert_array_equal(made.weights, np.repeat([[1.0, 0.5, 0.0]], 16, axis=1).repeat(16, axis=0))
    assert made.timings.sample == 2.0
    np.testing.assert_array_equal(made.invented, 2.0)


def test_the_order_of_the_files_does_not_matter():
    dark, middle, bright = (np.full((16, 16, 3), level, np.uint8) for level in (20, 120, 240))
    seen = set()
    for given in itertools.permutations((dark, middle, bright)):
        model = Model()
        stack.fuse(model, given, EXPOSURE, strength=1.0)
        (first, second), _ = model.asked[0]
        assert (first.mean(), second.mean()) == (240, 20)  # the model knows the brighter one as the first
        (first, second), _ = model.asked[1]
        assert first.mean() >= second.mean()
        seen.add((first.mean(), second.mean()))
    assert len(seen) == 1


def test_five_exposures_go_inward():
    looks = [stack.Look((8, 8), brightness, 0.0) for brightness in (50, 10, 30, 40, 20)]
    assert stack.order(looks, "multi-exposure") == [0, 1, 3, 4, 2]
    looks = [stack.Look((8, 8), 0.0, sharpness) for sharpness in (1, 3, 2)]
    assert stack.order(looks, "multi-focus") == [1, 2, 0]
    assert stack.order(looks, None) == [0, 1, 2]


def test_a_change_of_light_is_asked_for_once():
    _, pictures = shots()
    for words, plain in ((request(task="light+"), request(task="fuse")), (FOCUS, FOCUS)):
        model = Model()
        stack.fuse(model, pictures, words, strength=1.0)
        assert [prompt for _, prompt in model.asked] == [plain, words]


def test_one_array_is_one_picture():
    assert not stack.is_stack(np.zeros((32, 32, 3), np.uint8))
    assert stack.is_stack(np.zeros((3, 32, 32, 3), np.uint8))
    assert not stack.is_stack("a.png")
    assert not stack.is_stack(["a.png", "b.png"])


@pytest.mark.parametrize(
    ("count", "prompt", "strength", "message"),
    [
        (101, FOCUS, 1.0, "101 images to fuse, more than 100"),
        (3, request(task="ivif"), 1.0, "task ivif, which takes one visible and one infrared image"),
        (3, FOCUS, 0.0, "3 images at fidelity 0: each decision would redraw the one before"),
    ],
)
def test_what_is_no_stack_is_refused(count, prompt, strength, message):
    with pytest.raises(ValueError, match=message):
        stack.fuse(Model(), [np.zeros((16, 16, 3), np.uint8)] * count, prompt, strength=strength)


def test_pictures_of_different_sizes_are_named():
    pictures = [np.zeros((16, width, 3), np.uint8) for width in (16, 16, 24)]
    with pytest.raises(ValueError, match="image 1 16 x 16 and image 3 24 x 16; register the stack"):
        stack.fuse(Model(), pictures, FOCUS, strength=1.0)


def peak(folder, count):
    """Bytes of NumPy's arrays, at the most, while a stack of files is prepared and fused."""
    files = [folder / f"{number}.png" for number in range(count)]
    for number, file in enumerate(files):
        shot = np.roll(draw(size=(96, 128)), 3 * number, axis=1)  # a hand that moves
        shot[10 + 6 * number : 24 + 6 * number, 20:40] = 250  # and a thing that does
        image.write(file, shot, metadata={})
    tracemalloc.start()
    ready = prepare.prepare(files, kind="multi-exposure", how=Preparation(align="auto", deghost="auto"))
    made = stack.fuse(lambda two, *_: Model()(two, *_), ready, EXPOSURE, strength=1.0)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sum(source.matrix is not None for source in ready.sources) == count - 1
    return most, made.image.nbytes


def test_a_longer_stack_takes_no_more_memory(tmp_path):
    """Six pictures more take less than one: a matrix and a bit a pixel each, where something moved."""
    (few, one), (many, _) = peak(tmp_path, 4), peak(tmp_path, 10)
    assert many - few < one
