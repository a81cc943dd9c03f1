# SPDX-License-Identifier: Apache-2.0
import cv2
import numpy as np
import pytest

from ditfuse_jax.registration import ghosts
from drawn import draw, exposed


def ball(picture, column):
    painted = picture.copy()
    cv2.circle(painted, (column, 120), 18, (250, 40, 40), -1)
    return painted


@pytest.mark.parametrize("stop", [-2, 2])
def test_what_moved_between_brackets_is_found_and_shown_once(stop):
    still, other = ball(draw(), 90), exposed(ball(draw(), 270), stop)
    moving = ghosts.moved(still, other, focus=False)
    for column in (90, 270):
        place = np.zeros(moving.shape, np.uint8)
        cv2.circle(place, (column, 120), 14, 1, -1)
        differs = np.abs(ball(draw(), 90).astype(float) - ball(draw(), 270)).max(-1) > 60
        assert moving[(place > 0) & differs].mean() > 0.8
    assert moving.mean() < 0.1
    made = ghosts.without(other, moving, ghosts.matched(still, other))
    wanted = exposed(still, stop)
    assert not ghosts.moved(still, made, focus=False).any()
    assert np.abs(made.astype(float) - wanted)[moving].mean() < 12


@pytest.mark.parametrize("stop", [-2, -1, 1, 2])
def test_light_alone_is_no_movement(stop):
    noise = np.random.default_rng(0).normal(0, 2, (240, 320, 3))
    other = np.clip(exposed(draw(), stop) + noise, 0, 255).astype(np.uint8)
    assert not ghosts.moved(draw(), other, focus=False).any()


def test_blur_alone_is_no_movement_but_a_ball_is():
    still, blurred = draw(), cv2.GaussianBlur(draw(), (0, 0), 3)
    assert not ghosts.moved(still, blurred, focus=True).any()
    moving = ghosts.moved(ball(still, 90), cv2.GaussianBlur(ball(still, 270), (0, 0), 3), focus=True)
    assert moving[120, 90]
    assert moving[120, 270]


def test_the_exposure_of_sixteen_bits_is_matched_like_that_of_eight():
    picture = draw()
    shallow = ghosts.matched(picture, exposed(picture, -1))
    deep = ghosts.matched(picture, exposed(picture, -1).astype(np.uint16) * 257)
    assert deep.dtype == np.uint16
    assert np.abs(deep / 257 - shallow).max() <= 1
