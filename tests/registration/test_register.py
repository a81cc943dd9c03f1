# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from ditfuse_jax.registration import geometry
from ditfuse_jax.registration.alignment import SURE, outline, register
from drawn import draw, exposed, infrared, moved, movement

SIZE = (240, 320)
INNER = np.s_[36:-36, 36:-36]  # without the borders that the movement made


def cut(picture):
    return picture[INNER]


def error(found, matrix):
    corner = geometry.shift(36, 36)
    return geometry.distance(found.matrix, np.linalg.inv(corner) @ matrix @ corner, found.size)


@pytest.mark.parametrize(
    ("first", "second", "most"),
    [
        (lambda p: p, lambda p: p, 0.1),
        (lambda p: exposed(p, 2), lambda p: exposed(p, -2), 0.3),
        (lambda p: p, infrared, 0.5),
        (lambda p: p, lambda p: p.astype(np.uint16) * 257, 0.1),
    ],
)
@pytest.mark.parametrize("movements", [(22.0, -20.0, 3.0), (-6.0, 2.0, -0.7)])
def test_a_movement_is_found(first, second, most, movements):
    picture, matrix = draw(), movement(*movements)
    found = register(cut(first(picture)), cut(second(moved(picture, matrix))), model="homography")
    assert found.sure
    assert error(found, matrix) < most


def test_equal_pictures_are_not_moved():
    picture = draw(1)
    found = register(picture, picture.copy(), model="homography")
    assert found.moved < 0.02
    assert found.score > 0.9


def test_a_translation_is_nothing_else():
    picture, matrix = draw(), movement(9.0, -4.0, 0.0)
    found = register(cut(picture), cut(moved(picture, matrix)), model="translation")
    np.testing.assert_allclose(found.matrix, geometry.shift(9, -4), atol=0.1)
    assert found.matrix[0, 1] == 0
    assert abs(found.degrees) == 0


def test_a_perspective_is_found():
    picture = draw(count=150)
    matrix = movement(5.0, 3.0, 1.0) @ np.array([[1.01, 0, 0], [0.01, 1, 0], [4e-5, 2e-5, 1]])
    found = register(cut(picture), cut(moved(picture, matrix / matrix[2, 2])), model="homography")
    assert error(found, matrix) < 0.4  # a little of it is held back, see motion.STIFF


@pytest.mark.parametrize("other", [draw(7), infrared(draw(8)), np.full((*SIZE, 3), 90, np.uint8)])
def test_other_scenes_are_refused_with_a_score(other):
    found = register(draw(), other, model="homography")
    assert not found.sure
    assert 0 <= found.score < 2 * SURE


def test_noise_is_no_scene():
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 256, (2, 96, 128, 3), dtype=np.uint8)
    assert not register(first, second, model="homography").sure


def test_large_pictures_are_measured_finely():
    picture, matrix = draw(2, (900, 1200), 400), movement(40.0, 25.0, 1.5, (900, 1200))
    found = register(picture[90:-90, 90:-90], moved(picture, matrix)[90:-90, 90:-90], model="homography")
    corner = geometry.shift(90, 90)
    assert geometry.distance(found.matrix, np.linalg.inv(corner) @ matrix @ corner, found.size) < 0.3


def test_an_outline_of_few_levels_is_stretched():
    dark = (draw() // 16).astype(np.uint8)
    assert np.ptp(outline(dark)) > 200
    assert outline(dark).dtype == np.uint8


def test_what_cannot_be_registered_is_named():
    with pytest.raises(ValueError, match="model 'affine' is not one of translation, homography"):
        register(draw(), draw(), model="affine")
    with pytest.raises(ValueError, match="sizes 320 x 240 and 320 x 200 differ"):
        register(draw(), draw()[:200], model="homography")
