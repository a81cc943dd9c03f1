# SPDX-License-Identifier: Apache-2.0
"""From what the networks decode to results: rebuilt from the sources, with what was told of them."""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from ditfuse_jax import image
from ditfuse_jax.image import Origin
from ditfuse_jax.inference import native, passes, thermal, tiles
from ditfuse_jax.inference.native import Native
from ditfuse_jax.inference.noise import starts
from ditfuse_jax.inference.passes import Run
from ditfuse_jax.inference.preparation import Preparation
from ditfuse_jax.inference.prepare import Prepared, Told
from ditfuse_jax.inference.scene import Scene
from ditfuse_jax.inference.tiles import Tiling
from ditfuse_jax.inference.timings import Stopwatch, Timings
from ditfuse_jax.prompt import kind_of


class Fused(NamedTuple):
    image: np.ndarray  # [H, W, 3], the size of the first input: uint8, or uint16 as it or if asked for
    pixels: np.ndarray | None  # float32 [H, W, 3] in [-1, 1]: `image` before rounding; None without maps
    latents: np.ndarray | None  # float32 [h, w, C] before decoding; None where it was fused in tiles
    timings: Timings
    weights: np.ndarray | None  # float32 [H, W], 1: the first source, 0: the last; else None
    invented: np.ndarray | None  # float32 [H, W], 8-bit levels from anything that the sources explain
    explained: float | None  # share of the pixels that the sources explain
    origin: Origin  # of the first input: the profile that says the colours of `image`, EXIF, XMP, alpha
    told: Told = Told()  # how the sources were prepared: notes, alignments
    mask: np.ndarray | None = None  # bool [H, W]: what a segmentation marks, where it was asked for


def whole(run: Run, scenes: Sequence[Scene], batches, seeds, given) -> Iterator[list[Callable[[], Fused]]]:
    """Pairs in one piece each, all on one batch axis, a list of prompts after the other: sampled, and what is
    still to be called, in this order, for the result of each. It may run while the next ones are sampled.
    """
    for prompts, decoders in zip(batches, passes.whole(run, scenes, batches, seeds, given), strict=True):
        before = run.watch.take().share(len(scenes))
        each = zip(scenes, prompts, decoders, strict=True)
        yield [functools.partial(_decoded, run, *one, before) for one in each]
        run.watch.go_on()


def _decoded(run: Run, one: Scene, prompt: str, decode: Callable, before: Timings) -> Fused:
    """before: of what came before decoding."""
    watch = Stopwatch()
    decoded = decode()
    watch.lap("decode")
    made = _finish(run, [decoded.maps], one, prompt)
    watch.lap("rebuild")
    return _fused(made, one, decoded.latents, before.plus(watch.take()))


def tiled(run: Run, one: Scene, tiling: Tiling, batches, seeds, given) -> Iterator[list[Callable[[], Fused]]]:
    """One pair in native tiles, a prompt after the other; nothing is left to do, see `whole`."""
    factor, channels = run.networks.config.vae.factor, run.networks.config.vae.latent_channels
    field = (tiling.covered[0] // factor, tiling.covered[1] // factor, channels)
    noises = [noise for (noise,) in starts([field], seeds, given, count=run.settings.noises)]
    for (prompt,) in batches:
        parts = passes.tiled(run, one, tiling, prompt, noises, seed=seeds[0])
        made = _finish(run, tiles.bands(parts, tiling), one, prompt)
        run.watch.lap("rebuild")
        fused = _fused(made, one, None, run.watch.take())
        yield [lambda fused=fused: fused]
        run.watch.go_on()


def _finish(run: Run, bands, one: Scene, prompt: str) -> Native:
    bits = image.bits_of(one.pixels[0]) if run.bits == "auto" else int(run.bits)
    how = {"strength": run.settings.fidelity, "kind": kind_of(prompt), "bits": bits, "maps": run.maps}
    return native.finish(bands, one.pixels, profile=one.origin.profile, **how)


def _fused(made: Native, one: Scene, latents: np.ndarray | None, timings: Timings) -> Fused:
    return Fused(**made._asdict(), latents=latents, timings=timings, origin=one.origin)


def finished(made: Fused, ready: Prepared, how: Preparation, *, maps: bool) -> Fused:
    """A result with what was told of its sources, and the colours of the palette.

    maps: False leaves pixels, weights and invented away.
    """
    made = made._replace(told=ready.told)
    if how.palette:
        colours = thermal.coloured(made.image, made.weights, ready[1].pixels, how.palette)
        made = made._replace(image=colours, pixels=image.to_pixels(colours))
    return made if maps else made._replace(pixels=None, weights=None, invented=None)
