# SPDX-License-Identifier: Apache-2.0
"""Depth, colours and what else a file holds, through a whole fusion."""

import tracemalloc

import numpy as np
import pytest
from PIL import Image

from ditfuse_jax import image as im
from ditfuse_jax.image import vips
from ditfuse_jax.inference import native, scene, stack
from ditfuse_jax.inference.fuse import DiTFuse

FAST = {"steps": 1, "guidance": 1.0, "image_guidance": 1.0, "seed": 3}


@pytest.fixture(scope="module")
def model(folder):
    return DiTFuse.load(folder)


@pytest.fixture(scope="module")
def wide():
    return bytes(vips.loaded().Image.profile_load("p3"))


def deep(seed=0, height=32, width=48):
    """uint16 [H, W, 3] with detail below an 8-bit level."""
    return np.random.default_rng(seed).integers(16_000, 48_000, (height, width, 3)).astype(np.uint16)


def test_the_sources_of_a_result_are_those_of_16_bits(model):
    """Two equal sources are what any weight of them is: to the 16-bit level, where 8 bits are 257 apart."""
    result = model.fuse([deep(), deep()], task="mff", fidelity=1.0, **FAST)
    assert result.image.dtype == np.uint16
    assert np.abs(result.image.astype(int) - deep()).max() <= 1


def test_the_model_sees_what_8_bits_give(model):
    shallow = [im.shallow(deep(seed)) for seed in (0, 1)]
    plain = model.fuse(shallow, "Fuse both.", fidelity=0.0, **FAST)
    same = model.fuse([deep(0), deep(1)], "Fuse both.", fidelity=0.0, **FAST)
    np.testing.assert_array_equal(same.latents, plain.latents)
    np.testing.assert_array_equal(same.pixels, plain.pixels)
    np.testing.assert_array_equal(same.image, np.rint((same.pixels * 0.5 + 0.5) * np.float32(65535)))
    forced = model.fuse(shallow, "Fuse both.", fidelity=0.0, bits=16, **FAST)
    np.testing.assert_array_equal(forced.image, same.image)
    down = model.fuse([deep(0), deep(1)], "Fuse both.", fidelity=0.0, bits=8, **FAST)
    np.testing.assert_array_equal(down.image, plain.image)
    with pytest.raises(ValueError, match="bits 12 is not one of auto, 8, 16"):
        model.fuse(shallow, bits=12)


@pytest.mark.parametrize("kind", ["multi-focus", "multi-exposure", None])
def test_a_source_of_8_bits_goes_with_one_of_16(kind):
    first, second = im.shallow(deep(0)), deep(1)
    maps = np.concatenate([im.to_pixels(im.shallow(each)) for each in (deep(0), deep(0), deep(1))], axis=-1)
    mixed = native.finish([maps], [first, second], strength=1.0, kind=kind, bits=16)
    both = native.finish([maps], [im.deepened(first), second], strength=1.0, kind=kind, bits=16)
    np.testing.assert_array_equal(mixed.image, both.image)
    shallow = native.finish([maps], [first, im.shallow(second)], strength=1.0, kind=kind)
    assert np.abs(mixed.pixels - shallow.pixels).max() < 0.02


def test_without_maps_the_picture_is_the_same(model):
    with_maps = model.fuse([deep(0), deep(1)], "Fuse both.", fidelity=1.0, **FAST)
    without = model.fuse([deep(0), deep(1)], "Fuse both.", fidelity=1.0, maps=False, **FAST)
    np.testing.assert_array_equal(without.image, with_maps.image)
    assert without.explained == with_maps.explained
    assert without.pixels is without.weights is without.invented is None


def test_a_pair_of_a_wide_profile_keeps_its_look(tmp_path, model, wide):
    """Shown by its profile, the result has the colours of the sources; without it, it would be paler."""
    photo = im.shallow(deep(0)).repeat(2, 0).repeat(2, 1)[:32, :48]
    for name in ("a.png", "b.png"):
        Image.fromarray(photo).save(tmp_path / name, icc_profile=wide)
    result = model.fuse([tmp_path / "a.png", tmp_path / "b.png"], task="mff", fidelity=1.0, **FAST)
    np.testing.assert_array_equal(result.image, photo)
    assert result.origin.profile == wide
    im.write(tmp_path / "out.png", result.image, metadata={}, origin=result.origin)
    np.testing.assert_array_equal(im.read(tmp_path / "out.png"), im.read(tmp_path / "a.png"))


def test_at_fidelity_0_the_decoded_picture_is_brought_into_the_profile(tmp_path, model, wide):
    srgb = [im.shallow(deep(seed)) for seed in (0, 1)]
    for name, pixels in zip(("a.png", "b.png"), srgb, strict=True):
        Image.fromarray(im.convert(pixels, None, wide)).save(tmp_path / name, icc_profile=wide)
    made = model.fuse([tmp_path / "a.png", tmp_path / "b.png"], fidelity=0.0, bits=16, **FAST)
    shown = im.seen(made.image, made.origin.profile)
    wanted = model.fuse([im.read(tmp_path / name) for name in ("a.png", "b.png")], fidelity=0.0, **FAST)
    assert np.abs(shown.astype(int) - wanted.image).max() <= 1


def test_the_second_source_comes_into_the_colours_of_the_first(tmp_path, wide):
    photo = im.shallow(deep(0))
    Image.fromarray(photo).save(tmp_path / "a.png")
    Image.fromarray(im.convert(photo, None, wide)).save(tmp_path / "b.png", icc_profile=wide)
    read = scene.read([tmp_path / "a.png", tmp_path / "b.png"])
    assert read.origin.profile is None
    assert np.abs(read.pixels[1].astype(int) - photo).max() <= 3  # rounding twice, where P3 is wider
    turned = scene.read([tmp_path / "b.png", tmp_path / "a.png"])
    assert turned.origin.profile == wide
    assert np.abs(turned.pixels[1].astype(int) - turned.pixels[0]).max() <= 1


def test_a_stack_has_depth_and_origin_of_the_first_picture_given(tmp_path, model, wide):
    files = [tmp_path / f"{number}.png" for number in range(3)]
    for number, file in enumerate(files):
        origin = im.Origin(profile=wide) if number == 0 else im.Origin()
        im.write(file, deep(0) if number == 0 else im.shallow(deep(0)), metadata={}, origin=origin)
    made = model.fuse(files[:1] * 3, task="mff", fidelity=1.0, **FAST)
    assert np.abs(made.image.astype(int) - deep(0)).max() <= 1
    assert made.origin.profile == wide
    assert model.fuse(files, task="mff", fidelity=1.0, **FAST).image.dtype == np.uint16
    swapped = model.fuse(files[::-1], task="mff", fidelity=1.0, **FAST)
    assert swapped.image.dtype == np.uint8
    assert swapped.origin.profile is None


def test_every_picture_of_a_stack_is_read_once(tmp_path, model, monkeypatch):
    files, read = [tmp_path / f"{number}.png" for number in range(3)], []
    for number, file in enumerate(files):
        im.write(file, im.shallow(deep(number)), metadata={})
    original = im.read_picture
    monkeypatch.setattr(stack.image, "read_picture", lambda source: read.append(source) or original(source))
    model.fuse(files, task="mff", fidelity=1.0, **FAST)
    assert [source for source in read if not isinstance(source, im.Picture)] == files


@pytest.mark.parametrize("bits", [8, 16])
def test_a_large_picture_is_in_memory_once(tmp_path, monkeypatch, bits):
    """Arrays of NumPy, as tracemalloc counts them: sources, result, bands; 84 MB less than with all maps."""

    def program(maps, originals, strength, *, kind):
        inner = originals[0, native.fidelity.HALO :, native.fidelity.HALO :][: native.BLOCK, : native.BLOCK]
        return inner.astype(np.float32), np.zeros(inner.shape[:2]), np.zeros(inner.shape[:2])

    monkeypatch.setattr(native, "_program", lambda: program)
    pixels = np.tile(deep(height=60, width=70), (90, 10, 1))
    im.write(tmp_path / "a.png", im.shallow(pixels) if bits == 8 else pixels, metadata={})
    one = pixels.size * bits // 8
    tracemalloc.start()
    read = scene.read([tmp_path / "a.png"] * 2)
    assert tracemalloc.get_traced_memory()[1] < 2.2 * one + 2e6
    bands = (np.zeros((200, 700, 9), np.float32) for _ in range(0, 5400, 200))
    made = native.finish(bands, read.pixels, strength=1.0, kind=None, bits=bits, maps=False)
    assert tracemalloc.get_traced_memory()[1] < 3 * one + 70e6
    tracemalloc.stop()
    assert made.image.nbytes == one


def test_the_plan_counts_pictures_and_what_is_kept(model):
    plans = {
        (bits, maps): model.plan(4000, 6000, "Fuse both.", fidelity=1.0, bits=bits, maps=maps).memory
        for bits in (8, 16)
        for maps in (False, True)
    }
    small = model.plan(1024, 1024, "Fuse both.", fidelity=1.0, maps=False, tiles="on").memory
    assert 0.4e9 < plans[8, False] - small < 0.7e9
    assert plans[8, False] < plans[16, False] < plans[8, False] + 0.5e9
    assert plans[8, True] - plans[8, False] == 20 * 24_000_000
