# SPDX-License-Identifier: Apache-2.0
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ditfuse_jax import image as im
from ditfuse_jax.checkpoints.folder import read_config
from ditfuse_jax.config import (
    DEMO,
    CheckpointConfig,
    SamplingConfig,
    ShapesConfig,
    TransformerConfig,
    VAEConfig,
    from_dict,
    to_dict,
)
from ditfuse_jax.inference import shapes
from ditfuse_jax.inference.fuse import DiTFuse
from ditfuse_jax.inference.plan import describe
from ditfuse_jax.inference.settings import choose
from ditfuse_jax.task import request

EXAMPLES = Path(__file__).parents[2] / "examples"
GRID = ShapesConfig(step=16, max_side=128)
FEW = ShapesConfig.only([(256, 256), (192, 256), (256, 160), (128, 128)], step=16)


@pytest.mark.parametrize(
    ("size", "fused", "padded"),
    [
        ((64, 96), (64, 96), (64, 96)),
        ((61, 97), (61, 97), (64, 112)),
        ((300, 200), (128, 85), (128, 96)),
        ((128, 1024), (16, 128), (16, 128)),
    ],
)
def test_a_grid_takes_the_next_multiple(size, fused, padded):
    assert shapes.choose(*size, GRID, max_side=128) == (size, fused, padded)


@pytest.mark.parametrize(
    ("size", "fused", "padded"),
    [
        ((192, 256), (192, 256), (192, 256)),
        ((208, 256), (208, 256), (256, 256)),
        ((512, 640), (205, 256), (256, 256)),  # thermal cameras
        ((427, 640), (171, 256), (192, 256)),  # 3:2
        ((640, 400), (256, 160), (256, 160)),
        ((17, 20), (17, 20), (128, 128)),
        ((100, 200), (100, 200), (192, 256)),
        ((200, 100), (200, 100), (256, 160)),
        ((1000, 8000), (32, 256), (192, 256)),
    ],
)
def test_few_shapes_take_the_smallest_that_holds_the_picture(size, fused, padded):
    assert shapes.choose(*size, FEW, max_side=256) == (size, fused, padded)


def test_a_small_max_side_scales_the_picture_and_keeps_to_known_shapes():
    assert shapes.choose(300, 400, FEW, max_side=64) == ((300, 400), (48, 64), (128, 128))
    with pytest.raises(ValueError, match="fused at 64 x 8, a side under 16; use a max_side of 128 or more"):
        shapes.choose(100, 800, FEW, max_side=64)


def test_every_size_fits_its_shape():
    rng = np.random.default_rng(0)
    few = ShapesConfig.only([(96, 160), (160, 96), (128, 128)], step=32)
    for height, width in rng.integers(16, 3000, (500, 2)).tolist():
        if max(height, width) > im.MAX_ASPECT * min(height, width):
            continue
        for known in (few, GRID):
            native, fused, padded = shapes.choose(height, width, known, max_side=known.max_side)
            assert native == (height, width)
            assert all(16 <= side <= room for side, room in zip(fused, padded, strict=True))
            assert padded in few.exact or known is GRID and padded[0] % 16 == padded[1] % 16 == 0
            if fused != native:  # as large as a known shape allows
                assert any(side in (96, 128, 160) for side in fused)


def test_a_padded_picture_comes_back_exactly():
    image = np.random.default_rng(0).integers(0, 256, (21, 37, 3), dtype=np.uint8)
    sizes = shapes.choose(21, 37, FEW, max_side=256)
    fitted = im.fit(image, sizes)
    assert fitted.shape == (128, 128, 3)
    np.testing.assert_array_equal(fitted[21:41, :37], image[19::-1])  # reflected, again and again
    np.testing.assert_array_equal(im.to_image(im.restore(im.to_pixels(fitted), sizes)), image)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"step": 0, "max_side": 256}, "shapes: step 0 is not a whole number from 1"),
        ({"step": 16, "max_side": 8}, "step 16 is over max_side 8"),
        ({"step": 16, "max_side": 256, "exact": [[250, 256]]}, r"\[250, 256\] is not \[height, width\]"),
        ({"step": 16, "max_side": 256, "exact": [[256]]}, r"\[256\] is not \[height, width\]"),
        ({"step": 16, "max_side": 256, "exact": [[256, 512]]}, "up to max_side 256"),
        ({"step": 16, "max_side": 256, "exact": [256, 256]}, "256 is not a list"),
        ({"step": 8, "max_side": 256}, "step 8 is not a multiple of a patch, 16 pixels"),
        ({"step": 16, "max_side": 10**9}, "shapes: max_side 1000000000 is not a whole number from 1 to"),
        ({"step": 16, "max_side": 128}, "max_side 256 is over 128 pixels"),
    ],
)
def test_a_config_with_impossible_shapes_is_refused(values, message):
    whole = to_dict(CheckpointConfig(model=TransformerConfig.tiny(), vae=VAEConfig.tiny()))
    whole["sampling"] |= {"max_side": 256, "shapes": values}
    with pytest.raises(ValueError, match=message):
        from_dict(CheckpointConfig, whole)


def test_folders_from_before_know_whole_patches_up_to_their_side():
    whole = to_dict(CheckpointConfig(model=TransformerConfig.tiny(), vae=VAEConfig.tiny()))
    del whole["sampling"]["shapes"]
    for side in (100, 2048):
        whole["sampling"]["max_side"] = side
        config = from_dict(CheckpointConfig, whole)
        assert config.shapes == ShapesConfig(step=16, max_side=side)
        config.check_side(side)
        with pytest.raises(ValueError, match=f"max_side {side + 1} is over {side} pixels"):
            config.check_side(side + 1)


def test_a_config_with_shapes_survives_json():
    config = CheckpointConfig(
        model=TransformerConfig.tiny(),
        vae=VAEConfig.tiny(),
        sampling=SamplingConfig(max_side=256, shapes=FEW),
    )
    assert from_dict(CheckpointConfig, json.loads(json.dumps(to_dict(config)))) == config


def test_a_side_beyond_the_demos_shapes_is_refused():
    with pytest.raises(ValueError, match="max_side 512 is over 256 pixels, the longest side that this check"):
        choose(read_config(DEMO), {"max_side": 512})


def example(kind: str, height: int, width: int) -> list[np.ndarray]:
    """The upper left part of an example pair, in the shape of height : width, at that size."""
    pair = []
    for number in (1, 2):
        with Image.open(next((EXAMPLES / kind).glob(f"image{number}.*"))) as file:
            part = round(min(file.height, file.width * height / width))
            box = (0, 0, round(part * width / height), part)
            pair.append(np.asarray(file.convert("RGB").resize((width, height), box=box)))
    return pair


def correlation(result: np.ndarray, pair: list[np.ndarray]) -> float:
    """Of the grey result with the grey mean of its sources."""
    mean = np.mean(pair, axis=(0, -1))
    return np.corrcoef(result.mean(-1).ravel(), mean.ravel())[0, 1]


@pytest.fixture(scope="module")
def demo():
    return DiTFuse.load(DEMO)


SIZES = [
    ("ivif", (208, 256)),
    ("mef", (224, 256)),
    ("mff", (64, 64)),
    ("mef", (176, 256)),
    ("ivif", (128, 256)),
]


@pytest.mark.parametrize(("kind", "size"), SIZES)
def test_the_demo_scrambles_no_size(demo, kind, size):
    """One step from one noise: 0.97 to 0.99 where it was trained; unpadded these are at 0.34 to 0.81.

    At fidelity 0: pixels of the sources would hide what the model does.
    """
    pair = example(kind, *size)
    result = demo.fuse(pair, task=kind, steps=1, noises=1, fidelity=0.0)
    assert result.image.shape == (*size, 3)
    assert correlation(result.image, pair) > 0.95


def test_the_plan_says_where_a_picture_is_fused(demo):
    prompt = request(None, task="ivif")
    known = "a shape this checkpoint was trained at"
    for size, told in (
        ((208, 256), f"256 x 208, padded to 256 x 256, {known}\n"),
        ((192, 256), f"256 x 192, {known}\n"),
        ((512, 640), f"640 x 512, fused at 256 x 205, padded to 256 x 256, {known}, and brought back\n"),
    ):
        assert f"size        {told}" in describe(demo.plan(*size, prompt, tiles="off"))
    assert "size        640 x 512, in 9 tiles of 256 x 256" in describe(demo.plan(512, 640, prompt))
