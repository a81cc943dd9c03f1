# SPDX-License-Identifier: Apache-2.0
"""The linear start of an autoencoder: what it computes, where its pictures come from, and when it is used."""

import dataclasses
import itertools

import jax
import numpy as np
import pytest
from PIL import Image

import runs
from conftest import golden
from ditfuse_jax.config import VAEConfig
from ditfuse_jax.training import losses, parameters
from ditfuse_jax.training import start as run
from ditfuse_jax.training import step as training
from ditfuse_jax.training.config import VAETraining
from ditfuse_jax.training.linear_start import check_room, embed, linear_start, round_trip, skeleton
from ditfuse_jax.training.sharding import make_mesh, parse_mesh

CFG = VAEConfig(
    latent_channels=3, block_out_channels=(8, 16), layers_per_block=1, norm_groups=1, scaling_factor=1.0
)


def config(**changes):
    settings = {"stage": "vae", "vae": CFG, "model": {"latent_channels": CFG.latent_channels}}
    return runs.config(**(settings | changes))


@pytest.fixture(scope="module")
def fresh():
    params, _ = parameters.random_params(config(), make_mesh(parse_mesh("")))
    return params


def reconstruct(params, pixels):
    network = parameters.fill(parameters.vae(config()), params)
    return jax.jit(lambda x: network.decode(network.encode(x)))(pixels)


def smooth(rows: int = 4, side: int = 16) -> np.ndarray:
    """uint8 [rows, side, side, 3] without edges."""
    rng = np.random.default_rng(0)
    coarse = [Image.fromarray(rng.integers(0, 256, (4, 4, 3)).astype(np.uint8)) for _ in range(rows)]
    return np.stack([np.asarray(image.resize((side, side), Image.Resampling.BICUBIC)) for image in coarse])


def test_the_network_computes_what_its_skeleton_computes(fresh):
    kernels = skeleton(CFG, jax.random.key(0))
    pixels = 0.1 * losses.to_pixels(smooth())
    expected = round_trip(kernels, pixels)
    found = reconstruct(embed(fresh, kernels, CFG), pixels)
    # Each of the two norms divides by sqrt(M^2 + x^2) instead of M, with x under 0.8 here: 0.5 %.
    np.testing.assert_allclose(found, expected, rtol=0, atol=0.01 * float(abs(expected).max()))
    assert float(abs(expected).max()) > 0.01  # there is something to compare


def test_the_skeleton_learns_to_reconstruct(fresh):
    images = smooth()
    pixels = losses.to_pixels(images)
    started = linear_start(fresh, CFG, itertools.repeat(images), steps=200)
    before = round_trip(skeleton(CFG, jax.random.key(0)), pixels)
    after = reconstruct(started, pixels)
    first, last = (float(np.sqrt(np.square(image - pixels).mean())) for image in (before, after))
    assert last < 0.5 * first


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"norm_groups": 8}, r"norm_groups 1 \(not 8\)"),
        ({"block_out_channels": (4, 16)}, r"first width >= 8 \(not 4\)"),
        ({"latent_channels": 8}, r"last width >= 18 \(not 16\)"),
        ({"block_out_channels": (8, 16, 16)}, r"outer widths that differ from their neighbours"),
        ({"block_out_channels": (16, 16, 32)}, r"outer widths that differ from their neighbours"),
    ],
)
def test_widths_without_room_are_refused(changes, message):
    check_room(CFG)
    settings = {"latent_channels": 3, "block_out_channels": (8, 16), "norm_groups": 1}
    with pytest.raises(ValueError, match=message):
        check_room(VAEConfig(**(settings | changes)))


def places() -> np.ndarray:
    """uint8 [ROWS, SIDE, SIDE, 3] with row and column of each pixel, and the number of the image."""
    row, column = np.meshgrid(np.arange(runs.SIDE), np.arange(runs.SIDE), indexing="ij")
    images = [np.stack([row, column, np.full_like(row, n)], axis=-1) for n in range(runs.ROWS)]
    return np.stack(images).astype(np.uint8)


def test_crops_are_one_random_window_of_all_images_of_a_row():
    batch = runs.batch()._replace(target=places(), sources=np.stack([places()] * 2, axis=1))
    found = training.cropped(jax.random.key(3), batch, 8)
    assert found.target.shape == (runs.ROWS, 8, 8, 3)
    corners = np.asarray(found.target[:, 0, 0, :2])
    for n, (top, left) in enumerate(corners):
        window = places()[n, top : top + 8, left : left + 8]
        np.testing.assert_array_equal(found.target[n], window)
        np.testing.assert_array_equal(found.sources[n], [window, window])
    assert len({tuple(corner) for corner in corners}) > runs.ROWS // 2


def test_crops_reach_every_edge():
    batch = runs.batch()._replace(target=places(), sources=np.stack([places()] * 2, axis=1))
    keys = jax.random.split(jax.random.key(0), 40)
    side = runs.SIDE - 2  # three places a side
    corners = np.concatenate([training.cropped(key, batch, side).target[:, 0, 0, :2] for key in keys])
    assert {tuple(corner) for corner in corners.tolist()} == set(itertools.product(range(3), repeat=2))


def test_only_the_autoencoder_is_trained_on_crops():
    crop = VAETraining(crop=16)
    batch, drawn = training.step_input(jax.random.key(0), runs.batch(), config(vae_training=crop))
    assert batch.target.shape[1:3] == (16, 16)
    assert drawn.noise.shape[1:3] == (16 // CFG.factor, 16 // CFG.factor)
    whole, _ = training.step_input(jax.random.key(0), runs.batch(), runs.config(vae_training=crop))
    assert whole.target.shape[1:3] == (runs.SIDE, runs.SIDE)


@pytest.mark.parametrize(
    ("found", "used"), [((), True), (("5.orbax-checkpoint-tmp",), True), (("5", "10"), False)]
)
def test_a_fresh_run_starts_linear_and_a_resumed_one_does_not(tmp_path, monkeypatch, fresh, found, used):
    calls = []
    monkeypatch.setattr(run, "random_params", lambda config, mesh: (fresh, parameters.Frozen({}, {})))
    monkeypatch.setattr(run, "linear_start", lambda params, cfg, images, steps: calls.append(steps) or params)
    monkeypatch.setattr(run, "train", lambda *_, **__: 0)
    for name in found:  # a save that was killed leaves a folder with a longer name
        (tmp_path / "run" / "checkpoints" / name).mkdir(parents=True)
    settings = config(vae_training=VAETraining(linear_steps=7), tokenizer=str(golden("ckpt_tiny")))
    mixture = dataclasses.replace(settings.mixture, max_text_tokens=224)  # this tokenizer knows few words
    settings = dataclasses.replace(settings, mixture=mixture)
    run.run(settings, run.Place(tmp_path / "run", runs.write_photos(tmp_path / "data"), ""))
    assert calls == ([7] if used else [])
