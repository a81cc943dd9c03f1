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
from ditfuse_jax.checkpoints.flat import fill
from ditfuse_jax.checkpoints.folder import read_vae_folder
from ditfuse_jax.config import VAEConfig
from ditfuse_jax.image import to_pixels
from ditfuse_jax.training import step as training
from ditfuse_jax.training.config import VAETraining
from ditfuse_jax.training.initial import trained_weights
from ditfuse_jax.training.sharding import make_mesh, parse_mesh
from ditfuse_jax.training.trainable import vae
from scripts import load

linear = load("configs/demo_recipe/linear_start.py")

CFG = VAEConfig(
    latent_channels=3, block_out_channels=(8, 16), layers_per_block=1, norm_groups=1, scaling_factor=1.0
)


def config(**changes):
    settings = {"stage": "vae", "vae": CFG, "model": {"latent_channels": CFG.latent_channels}}
    return runs.config(**(settings | changes))


@pytest.fixture(scope="module")
def fresh():
    return trained_weights(config(), make_mesh(parse_mesh("")))


def reconstruct(params, pixels):
    network = fill(vae(config()), params)
    return jax.jit(lambda x: network.decode(network.encode(x)))(pixels)


def smooth(rows: int = 4, side: int = 16) -> np.ndarray:
    """uint8 [rows, side, side, 3] without edges."""
    rng = np.random.default_rng(0)
    coarse = [Image.fromarray(rng.integers(0, 256, (4, 4, 3)).astype(np.uint8)) for _ in range(rows)]
    return np.stack([np.asarray(image.resize((side, side), Image.Resampling.BICUBIC)) for image in coarse])


def test_the_network_computes_what_its_skeleton_computes(fresh):
    kernels = linear.skeleton(CFG, jax.random.key(0))
    pixels = 0.1 * to_pixels(smooth())
    expected = linear.round_trip(kernels, pixels)
    found = reconstruct(linear.embed(fresh, kernels, CFG), pixels)
    # Each of the two norms divides by sqrt(M^2 + x^2) instead of M, with x under 0.8 here: 0.5 %.
    np.testing.assert_allclose(found, expected, rtol=0, atol=0.01 * float(abs(expected).max()))
    assert float(abs(expected).max()) > 0.01  # there is something to compare


def test_the_skeleton_learns_to_reconstruct(fresh):
    images = smooth()
    pixels = to_pixels(images)
    started = linear.linear_start(fresh, CFG, itertools.repeat(images), steps=200)
    before = linear.round_trip(linear.skeleton(CFG, jax.random.key(0)), pixels)
    after = reconstruct(started, pixels)
    first, last = (float(np.sqrt(np.square(image - pixels).mean())) for image in (before, after))
    assert last < 0.5 * first


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"norm_groups": 8}, r"norm_groups 1 \(not 8\)"),
        ({"block_out_channels": (4, 16)}, r"first width >= 8 \(not 4\)"),
        ({"latent_channels": 8}, r"last width >= 18 \(not 16\)"),
        ({"block_out_channels": (8, 16, 16)}, r"outer widths unlike their neighbours"),
        ({"block_out_channels": (16, 16, 32)}, r"outer widths unlike their neighbours"),
    ],
)
def test_widths_without_room_are_refused(changes, message):
    linear.check_room(CFG)
    settings = {"latent_channels": 3, "block_out_channels": (8, 16), "norm_groups": 1}
    with pytest.raises(ValueError, match=message):
        linear.check_room(VAEConfig(**(settings | changes)))


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


def test_the_command_writes_an_autoencoder_that_a_run_starts_from(tmp_path, monkeypatch):
    settings = config(tokenizer=str(golden("ckpt_tiny")), steps=1)
    settings = dataclasses.replace(
        settings, mixture=dataclasses.replace(settings.mixture, max_text_tokens=224)
    )
    data = runs.write_photos(tmp_path / "data")
    monkeypatch.setattr(linear, "load", lambda _: settings)
    command = [str(tmp_path / "start"), "--data", str(data), "--steps", "3"]
    assert linear.main(command) == 0
    found, _ = read_vae_folder(tmp_path / "start")
    assert found == settings.vae
    started = trained_weights(
        dataclasses.replace(settings, init=str(tmp_path / "start")), make_mesh(parse_mesh(""))
    )
    fresh = trained_weights(settings, make_mesh(parse_mesh("")))
    assert started.keys() == fresh.keys()
    assert not np.array_equal(started["encoder.conv_in.kernel"], fresh["encoder.conv_in.kernel"])
    assert linear.main(command) == 2  # never over what is there
