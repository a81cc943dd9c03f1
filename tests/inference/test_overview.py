# SPDX-License-Identifier: Apache-2.0
"""Brightness of tiles from the whole picture."""

import numpy as np
import pytest

from ditfuse_jax import image
from ditfuse_jax.image import Geometry
from ditfuse_jax.inference import overview, passes, shapes, tiles
from ditfuse_jax.inference.fuse import DiTFuse
from ditfuse_jax.inference.overview import Overview
from ditfuse_jax.inference.plan import describe
from ditfuse_jax.task import request

SIZE = (300, 430)
ONE_STEP = {"steps": 1, "noises": 1, "tiles": "on", "fidelity": 0.0}


@pytest.fixture(scope="module")
def demo():
    return DiTFuse.load()


def smooth(height, width):
    """float32 [H, W, 3]: waves of some hundred pixels."""
    rows, columns = np.mgrid[:height, :width]
    return 0.4 * np.stack([np.sin(rows / 60 + i) + np.cos(columns / (70 + 9 * i)) for i in range(3)], -1)


def in_tiles():
    return tiles.tiling(*SIZE, tile=(256, 256), unit=16)


def test_a_tile_of_the_overview_lies_where_the_picture_does():
    picture = smooth(*SIZE).astype(np.float32)
    sizes = Geometry(SIZE, (150, 215), (160, 224))
    levels = image.to_levels(picture, 8)
    small = Overview(image.to_pixels(image.fit(levels, sizes)), sizes)
    tiling = in_tiles()
    assert len(tiling.corners) == 4
    for corner in tiling.corners:
        seen = overview.seen_at(small, corner, tiling.tile)
        rows, columns = (
            min(t, side - start) for t, side, start in zip(tiling.tile, SIZE, corner, strict=True)
        )
        want = picture[corner[0] :, corner[1] :][:rows, :columns]
        assert np.abs(seen[:rows, :columns] - want).max() < 0.02


def test_tiles_get_the_brightness_of_the_overview_and_keep_their_details():
    """Each tile is off by a brightness of its own; round trips behind the result stay as they are."""
    picture = smooth(*SIZE).astype(np.float32)
    details = np.random.default_rng(0).normal(0, 0.1, picture.shape).astype(np.float32)
    tiling = in_tiles()
    exact = Overview(picture, Geometry(SIZE, SIZE, SIZE))
    parts = [np.dstack([tiles.cut(picture + details, tiling, c)] * 2) for c in tiling.corners]
    for part, off in zip(parts, (0.3, -0.2, 0.1, -0.4), strict=True):
        part[..., :3] += off
    made = [overview.toned(part, exact, corner) for part, corner in zip(parts, tiling.corners, strict=True)]
    for before, after in zip(parts, made, strict=True):
        np.testing.assert_array_equal(after[..., 3:], before[..., 3:])
    (whole,) = [np.concatenate(list(tiles.bands((part[..., :3] for part in made), tiling)))]
    assert np.abs(whole - picture - details).mean() < 0.01
    assert np.abs(whole - picture - details).max() < 0.05


@pytest.mark.parametrize(("task", "passed"), [("mef", 1), ("contrast+", 1), ("mff", 0), ("ivif", 0)])
def test_exposure_and_contrast_of_a_large_picture_see_the_whole(demo, monkeypatch, task, passed):
    calls, original = [], passes.seen_small

    def counted(*how):
        calls.append(how[2])
        return original(*how)

    monkeypatch.setattr(passes, "seen_small", counted)
    pair = [image.to_levels(smooth(*SIZE) * scale, 8) for scale in (1.0, 0.5)]
    demo.fuse(pair, task=task, **ONE_STEP)
    assert len(calls) == passed
    told = describe(demo.plan(*SIZE, request(task=task), **ONE_STEP))
    assert ("at a time, and once as a whole" in told) == bool(passed)
    small = [side[:256, :256] for side in pair]
    demo.fuse(small, task=task, **ONE_STEP)
    assert len(calls) == passed, "one tile is the whole picture"
    assert shapes.choose_tiles(256, 256, demo.config.shapes, demo.settings(**ONE_STEP)) is not None


def test_tiles_whose_sources_agree_stay_copies(demo):
    """The overview has an error of its own, which is none of theirs."""
    first = image.to_levels(smooth(*SIZE), 8)
    np.testing.assert_array_equal(demo.fuse((first, first), task="mef", **ONE_STEP).image, first)
    second = first.copy()
    second[:40, :40] //= 2  # in the first tile alone
    made = demo.fuse((first, second), task="mef", **ONE_STEP).image
    np.testing.assert_array_equal(made[-40:, -40:], first[-40:, -40:])
