# SPDX-License-Identifier: Apache-2.0
"""The autoencoder on padded images against the same autoencoder on the images alone."""

import functools

import jax
import numpy as np
import pytest
from flax import nnx

from ditfuse_jax.config import VAEConfig
from ditfuse_jax.models import outline, padded_vae
from ditfuse_jax.models.vae import VAE

TOLERANCE = 2e-5  # what padding may change at most; sums run in another order
CONFIG = VAEConfig(
    block_out_channels=(8, 16, 16), norm_groups=4, latent_channels=3, scaling_factor=0.5, shift_factor=0.2
)
SIZES = [(8, 8), (3, 7), (9, 20)]  # cells; the first needs no padding


@pytest.fixture(scope="module")
def network():
    """Random weights of a trained size, biases too: without them padding would stay zero by itself."""
    graph, params = nnx.split(outline.vae(CONFIG))
    rng = np.random.default_rng(0)

    def draw(leaf):
        fan_in = np.prod(leaf.shape[:-1]) if len(leaf.shape) > 1 else 4
        return rng.normal(size=leaf.shape, scale=fan_in**-0.5).astype(np.float32)

    return graph, jax.tree.map(draw, params)


@functools.partial(jax.jit, static_argnames=("graph", "call"))
def run(graph, params, *arrays, call):
    return call(nnx.merge(graph, params), *arrays)


def surround(x, unit, value):
    """x [1, H, W, C] up to its padded side, with `value` where zeros would be."""
    outside = padded_vae.pad(np.zeros_like(x) + 1, unit) == 0
    return np.where(outside, np.float32(value), padded_vae.pad(x, unit))


@pytest.mark.parametrize("size", SIZES)
def test_padding_changes_no_latents(network, size):
    sides = np.array(size, np.int32) * CONFIG.factor
    pixels = np.random.default_rng(1).uniform(-1, 1, (2, *sides, 3)).astype(np.float32)
    want = run(*network, pixels, call=VAE.encode)
    assert np.abs(want).max() > 0.3
    for value in (0.0, 5.0):
        padded = surround(pixels, CONFIG.factor, value)
        got = run(*network, padded, sides, call=VAE.encode)
        np.testing.assert_allclose(got[:, : size[0], : size[1]], want, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("size", SIZES)
def test_padding_changes_no_pixels(network, size):
    latents = np.random.default_rng(2).normal(size=(1, *size, 3)).astype(np.float32)
    want = run(*network, latents, call=VAE.decode)
    assert np.abs(want).max() > 0.3
    height, width = want.shape[1:3]
    for value in (0.0, 5.0):
        padded = surround(latents, 1, value)
        got = run(*network, padded, np.array(size, np.int32), call=VAE.decode)
        np.testing.assert_allclose(got[:, :height, :width], want, atol=TOLERANCE, rtol=0)


def test_padded_sides_are_few_and_near():
    cells = np.arange(1, 257)
    padded = np.array([padded_vae.padded_side(int(count)) for count in cells])
    assert sorted(set(padded)) == [8, 16, 24, 32, 48, 64, 96, 128, 192, 256]
    assert (padded >= cells).all()
    assert (padded[16:] <= 1.5 * cells[16:]).all()


def test_sizes_of_one_padded_side_share_a_program(network):
    run.clear_cache()
    for size in ((17, 17), (20, 24), (24, 23)):
        latents = padded_vae.pad(np.ones((1, *size, 3), np.float32), 1)
        run(*network, latents, np.array(size, np.int32), call=VAE.decode)
    assert run._cache_size() == 1
