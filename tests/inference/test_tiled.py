# SPDX-License-Identifier: Apache-2.0
"""Fusion at native size: in tiles, and rebuilt from the sources' pixels."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx

from convert.jobs import released_sampling
from ditfuse_jax import image
from ditfuse_jax.config import CheckpointConfig, TransformerConfig, VAEConfig
from ditfuse_jax.inference import codec, passes, sampler, scene, terminal, tiles
from ditfuse_jax.inference.fuse import DiTFuse
from ditfuse_jax.inference.noise import normal
from ditfuse_jax.inference.plan import describe, tiles_at_once
from ditfuse_jax.inference.shapes import choose_tiles
from ditfuse_jax.models import flow, outline
from ditfuse_jax.prompt import render
from ditfuse_jax.task import request

pytestmark = pytest.mark.usefixtures("small_blocks")

EXAMPLES = Path(__file__).parents[2] / "examples"
PROMPT = "Fuse both."
FAST = {"steps": 1, "guidance": 1.0, "image_guidance": 1.0, "seed": 3}
TILED = FAST | {"fidelity": 1.0, "max_side": 64}


@pytest.fixture(scope="module")
def model(folder):
    return DiTFuse.load(folder)


def pair(height, width, seed=0):
    """Smooth pictures of other gradients, with a little noise."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    waves = [np.sin(rows / (9 + i)) + np.cos(columns / (7 + 2 * i)) for i in (0, 3)]
    return [
        (128 + 50 * wave[..., None] + rng.normal(0, 2, (height, width, 3))).clip(0, 255).astype(np.uint8)
        for wave in waves
    ]


@pytest.mark.parametrize("options", [{}, {"tiles": "off"}, {"max_side": 32, "tiles": "off"}])
def test_fidelity_0_is_the_decoders_picture(model, options):
    result = model.fuse(pair(48, 64), PROMPT, **FAST, fidelity=0, **options)
    sizes = model.encode(pair(48, 64), max_side=options.get("max_side")).geometry
    np.testing.assert_array_equal(result.image, image.to_image(model.decode(result.latents, sizes)))
    assert result.weights is None


@pytest.mark.parametrize("size", [(16, 128), (48, 64), (17, 16), (70, 100)])
@pytest.mark.parametrize(
    "how", [{"tiles": "off", "max_side": 128}, {"tiles": "on"}, {}], ids=["off", "on", "auto"]
)
def test_every_size_comes_back_rebuilt(model, size, how):
    result = model.fuse(pair(*size), task="mff", **TILED | how)  # a mix of the sources
    assert result.image.shape == (*size, 3)
    assert result.weights.shape == result.invented.shape == size
    assert 0 <= result.weights.min() <= result.weights.max() <= 1
    assert 0 <= result.explained <= 1
    low, high = np.sort(image.to_pixels(np.stack(pair(*size))), axis=0)
    assert (result.pixels >= low - 1e-5).all()
    assert (result.pixels <= high + 1e-5).all()


def test_the_model_decides_and_the_sources_supply_the_pixels(monkeypatch):
    """By the demo's autoencoder; as the result the code of the first source, the second, another pair."""
    demo = DiTFuse.load()
    images = [image.read(next((EXAMPLES / "mff").glob(f"image{i}.*")))[:192, :256] for i in (1, 2)]
    other = demo.encode([part[::-1].copy() for part in images]).latents[0]
    made = []
    for latents in (*demo.encode(images).latents, other):
        monkeypatch.setattr(sampler, "sample", lambda *_, latents=latents, **__: [latents])
        made.append(demo.fuse(images, "Fuse both images.", fidelity=1.0, tiles="off"))
    first, second, swapped = made
    apart = np.abs(images[0].astype(int) - images[1]).mean(-1) > 20
    assert apart.mean() > 0.01
    assert first.weights[apart].mean() > 0.9
    assert second.weights[apart].mean() < 0.1
    assert np.abs(swapped.image.astype(int) - first.image)[apart].mean() > 5
    assert swapped.explained < first.explained


def test_a_tile_is_what_its_part_of_picture_and_noise_gives(model):
    pictures = np.stack(pair(80, 100))
    run_settings = model.settings(**{k: v for k, v in TILED.items() if k != "seed"})
    tiling = choose_tiles(80, 100, model.config.shapes, run_settings)
    assert tiling.tile == (64, 64)
    assert len(tiling.corners) == 4
    field = normal((*(side // 8 for side in tiling.covered), 4), seed=3)
    run = passes.Run(model.networks, run_settings, None, passes.Stopwatch())
    maps = list(passes.tiled(run, scene.read(pictures), tiling, render(PROMPT), [field], seed=3))
    for each, (top, left) in zip(maps, tiling.corners, strict=True):
        part = np.stack([tiles.cut(picture, tiling, (top, left)) for picture in pictures])
        noise = field[top // 8 :, left // 8 :][:8, :8]
        alone = model.fuse(part, PROMPT, noise=noise, **{k: v for k, v in FAST.items() if k != "seed"})
        np.testing.assert_allclose(np.clip(each[..., :3], -1, 1), alone.pixels, atol=1e-3)
        sources = model.encode(part)
        for i in (0, 1):
            trip = model.decode(sources.latents[i], sources.geometry)
            np.testing.assert_allclose(np.clip(each[..., 3 * i + 3 :][..., :3], -1, 1), trip, atol=1e-3)


def test_tiles_whose_sources_agree_are_copied_unless_the_words_change_them(model, monkeypatch):
    first = pair(70, 100)[0]
    calls = []
    original = passes.sample

    def counted(run, rows, cache, noises):
        calls.append(len(rows.num_target))
        return original(run, rows, cache, noises)

    monkeypatch.setattr(passes, "sample", counted)
    result = model.fuse((first, first), task="mff", **TILED)
    np.testing.assert_array_equal(result.image, first)
    assert calls == []
    model.fuse((first, first), task="light+", **TILED)
    assert sum(calls) >= 4
    calls.clear()
    second = first.copy()
    second[:10, :10] = 255 - second[:10, :10]
    result = model.fuse((first, second), task="mff", **TILED)
    assert len(calls) == 1
    np.testing.assert_array_equal(result.image[-6:, -6:], first[-6:, -6:])


def test_no_seam_between_tiles(model):
    """Steps of the raw blend across the borders of tiles are those of elsewhere."""
    result = model.fuse(pair(64, 232), PROMPT, **FAST, max_side=64, tiles="on", fidelity=0)
    lefts = choose_tiles(64, 232, model.config.shapes, model.settings(max_side=64, tiles="on")).lefts
    steps = np.abs(np.diff(result.pixels, axis=1)).mean((0, 2))  # between columns i and i + 1
    borders = [left - 1 for left in lefts[1:]] + [left + 63 for left in lefts[:-1]]
    assert steps[borders].mean() < 1.25 * np.delete(steps, borders).mean()


def test_prompts_and_batches_of_large_pictures_equal_single_ones(model):
    one, other = pair(70, 100), pair(48, 40, seed=1)
    alone = [model.fuse(images, PROMPT, **TILED).image for images in (one, other)]
    together = model.fuse_batch([one, other], [PROMPT] * 2, **TILED)
    for want, got in zip(alone, together, strict=True):
        assert np.abs(got.image.astype(int) - want).max() <= 1
    both = list(model.fuse_prompts(one, ["Darker.", PROMPT], **TILED))
    assert np.abs(both[1].image.astype(int) - alone[0]).max() <= 1


@pytest.mark.parametrize(("count", "batch"), [(1, 1), (3, 1), (4, 4), (5, 2), (7, 8), (9, 2), (336, 8)])
def test_batches_of_tiles_waste_little(model, count, batch):
    tiling = tiles.Tiling((64, 64 * count), (64, 64), (0,), tuple(range(0, 64 * count, 64)))
    assert tiles_at_once(model.config, tiling, ("cond",)) == batch


@pytest.mark.parametrize("prompt", [PROMPT, request(task="mef")])
def test_steps_are_counted_on_over_the_batches_of_tiles(model, prompt):
    """With those of the overview before them, where there is one."""
    seen, plan = [], model.plan(70, 200, prompt, **{k: v for k, v in TILED.items() if k != "seed"})
    model.fuse(pair(70, 200), prompt, on_step=lambda step, _: seen.append(step), **TILED)
    assert seen == list(range(1, plan.calls + 1))


def test_the_plan_names_tiles_and_their_memory(model):
    small = model.plan(1000, 1000, PROMPT, fidelity=1.0, max_side=256)
    assert "size        1000 x 1000, in 25 tiles of 256 x 256, " in describe(small)
    large = model.plan(3000, 4000, PROMPT, fidelity=1.0, max_side=256)
    assert 300e6 < large.memory - small.memory < 1e9
    assert large.memory < 3e9
    assert model.plan(1000, 1000, PROMPT, fidelity=1.0, max_side=256, tiles="off").tiling is None
    assert model.plan(1000, 1000, PROMPT, max_side=256).tiling is None


@pytest.mark.parametrize("fidelity", [-0.1, 1.5, float("nan")])
def test_a_fidelity_out_of_bounds_is_refused(model, fidelity):
    with pytest.raises(ValueError, match=f"fidelity {fidelity} is not a number from 0 to 1"):
        model.fuse(pair(48, 64), PROMPT, fidelity=fidelity)


def test_released_weights_take_tiles_of_their_largest_shape():
    """OmniGen-v1 with the SDXL autoencoder, by shapes alone."""
    vae, proposed = VAEConfig.sdxl(), released_sampling(VAEConfig.sdxl())
    assert proposed.fidelity == 0
    assert choose_tiles(3000, 4000, proposed.shapes, proposed) is None  # the paper's way: scaled down
    tiling = choose_tiles(3000, 4000, proposed.shapes, dataclasses.replace(proposed, fidelity=1.0))
    assert (tiling.tile, len(tiling.corners)) == ((1024, 1024), 20)
    config = CheckpointConfig(model=TransformerConfig.omnigen_v1(), vae=vae, sampling=proposed)
    assert tiles_at_once(config, tiling, flow.BRANCHES) == 1
    graph, params = nnx.split(outline.vae(vae))
    run, size = codec._programs(), np.array([128, 128], np.int32)
    pixels = run.decode.eval_shape(graph, params, jax.ShapeDtypeStruct((3, 128, 128, 4), np.float32), size)
    assert pixels.shape == (3, 1024, 1024, 3)
    latents = run.encode.eval_shape(
        graph, params, jax.ShapeDtypeStruct((2, 1024, 1024, 3), np.float32), size * 8
    )
    assert latents.shape == (2, 128, 128, 4)


def test_pictures_of_other_sizes_need_no_new_program(model):
    """Four tiles each, and noise of one padded count."""
    model.fuse(pair(80, 100), PROMPT, **TILED)
    with terminal.count_compiled() as compiled:
        for size in ((100, 80), (96, 108), (110, 90)):
            model.fuse(pair(*size), PROMPT, **TILED)
        assert compiled() == (0, 0)
