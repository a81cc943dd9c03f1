# SPDX-License-Identifier: Apache-2.0
"""Pictures through the networks: whole ones on one batch axis, or a large one as batches of native tiles."""

import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from ditfuse_jax import image
from ditfuse_jax.checkpoints.layout import MODEL_FILE, VAE_FILE
from ditfuse_jax.config import CheckpointConfig, SamplingConfig
from ditfuse_jax.image import Geometry
from ditfuse_jax.inference import codec, overview, sampler, shapes, tiles
from ditfuse_jax.inference.network import Network, check_finite
from ditfuse_jax.inference.noise import starts
from ditfuse_jax.inference.overview import Overview
from ditfuse_jax.inference.plan import tiles_at_once
from ditfuse_jax.inference.sampler import Layout, Row
from ditfuse_jax.inference.scene import Scene
from ditfuse_jax.inference.tiles import Tiling
from ditfuse_jax.inference.timings import Stopwatch
from ditfuse_jax.models.flow import Guidance, branches
from ditfuse_jax.prompt import kind_of
from ditfuse_jax.task import only_chooses


class Networks(NamedTuple):
    """Of a loaded checkpoint."""

    config: CheckpointConfig
    transformer: Network
    vae: Network
    tokenizer: Callable
    folder: Path  # for errors


class Run(NamedTuple):
    """What all passes of one call share."""

    networks: Networks
    settings: SamplingConfig
    on_step: Callable | None  # on_step(step, latents), see `sampler.sample`
    watch: Stopwatch
    bits: str = "auto"  # of the result, see `image.BITS`
    maps: bool = True  # whether weights, invention and unrounded pixels are kept
    rows: int = 1  # whole pictures on the batch axis at least, filled up with the last: one program serves

    @property
    def guidance(self) -> Guidance:
        return Guidance(self.settings.guidance, self.settings.image_guidance)

    def after(self, done: int) -> "Run":
        """The same, with steps counted on from `done`."""
        on_step = self.on_step
        return self._replace(on_step=on_step and (lambda step, x: on_step(done + step, x)))

    @property
    def rebuilds(self) -> bool:
        """Whether the round trips of the sources are wanted beside the result."""
        return self.settings.fidelity > 0

    def filled(self, each: Sequence) -> list:
        """What there is of every picture, for `rows` of them."""
        return [*each, *[each[-1]] * (self.rows - len(each))]


class Sources(NamedTuple):
    """The registered images of one fusion, encoded."""

    geometry: Geometry
    latents: np.ndarray  # float32 [n, h, w, C]


class Decoded(NamedTuple):
    maps: np.ndarray  # float32 [H, W, 3] or [H, W, 9]: the result and, if wanted, the sources' round trips
    latents: np.ndarray  # float32 [h, w, C]


def whole(run: Run, scenes: Sequence[Scene], batches, seeds, given) -> Iterator[list[Callable[[], Decoded]]]:
    """For each list of prompts, one per pair: what decodes the result of each pair, at its native size.

    The functions of a pair are to be called in their order, each once; its first decodes the round trips too.

    Args:
      scenes: the sources of each pair.
      batches: lists of prompts; what they share is encoded once. seeds, given: of each pair's noise.
    """
    sources = [encode(run.networks, each, max_side=run.settings.max_side) for each in scenes]
    wanted = [each.latents.shape[1:] for each in sources]
    noises = starts(wanted, seeds, given, count=run.settings.noises)
    run.watch.lap("encode")
    names, cache, trips = branches(run.guidance), None, [[] for _ in sources]
    noises, filled = [run.filled(noise) for noise in noises], run.filled(sources)
    for rows in layouts(run.networks, filled, [run.filled(batch) for batch in batches], names):
        if cache is None:
            cache = sampler.prefix(run.networks.transformer, rows)
        elif "cond" in names:
            cache = sampler.replace_condition(run.networks.transformer, cache, rows, len(filled))
        latents = sample(run, rows, cache, noises)[: len(sources)]
        each = zip(sources, latents, trips, strict=True)
        yield [functools.partial(_decoded, run, *one) for one in each]


def _decoded(run: Run, sources: Sources, latents: np.ndarray, trips: list[np.ndarray]) -> Decoded:
    """trips: the round trips of the pair, filled in by the first call where they are wanted."""
    more = run.rebuilds and not trips
    batch = np.concatenate([latents[None]] + [sources.latents] * more)
    result, *rest = (image.restore(part, sources.geometry) for part in decode(run.networks, batch))
    trips.extend(rest)
    return Decoded(_joined(result, *trips), latents)


def layouts(
    networks: Networks, sources: Sequence[Sources], batches, names: tuple[str, ...]
) -> Iterator[Layout]:
    """One layout of rows per list of prompts, all of one shape."""
    rows = [
        [Row(prompt, each.latents) for prompt, each in zip(batch, sources, strict=True)] for batch in batches
    ]
    words = max(sampler.count_words(row, networks.tokenizer) for batch in rows for row in batch)
    return (sampler.layout(batch, names, networks.tokenizer, num_text=words) for batch in rows)


def sample(run: Run, rows: Layout, cache, noises) -> list[np.ndarray]:
    """Latents float32 [h, w, C] of each row of the first branch."""
    jax.block_until_ready(cache)
    run.watch.lap("prefix")
    transformer = run.networks.transformer
    scales = {"guidance": run.guidance, "steps": run.settings.steps}
    latents = sampler.sample(transformer, cache, rows, noises, **scales, on_step=run.on_step)
    for each in latents:
        check_finite(each, transformer.params, run.networks.folder / MODEL_FILE)
    run.watch.lap("sample")
    return latents


def tiled(
    run: Run, scene: Scene, tiling: Tiling, prompt: str, noises: Sequence[np.ndarray], *, seed: int
) -> Iterator[np.ndarray]:
    """The maps of every tile of a pair, in the order of its corners, see `Decoded`.

    Where sources agree and the prompt asks for nothing else, they are copied without a call of the model.

    noises: starts of the whole picture, float32 [h, w, C] of what the tiles cover. seed: of the noise of the
    overview, where there is one.
    """
    copies = only_chooses(prompt)
    agreed = [copies and tiles.agree(*_cut(scene, tiling, corner)) for corner in tiling.corners]
    todo = [corner for corner, same in zip(tiling.corners, agreed, strict=True) if not same]
    count = tiles_at_once(run.networks.config, tiling, branches(run.guidance))
    small = None
    if todo and overview.wanted(kind_of(prompt), tiling):
        small = seen_small(run, scene, prompt, seed)
        run = run.after(run.settings.steps)
    fused = _batches(run, scene, tiling, prompt, noises, todo, count)
    for corner, same in zip(tiling.corners, agreed, strict=True):
        if same:
            yield _copied(run, _cut(scene, tiling, corner))
        else:
            part = next(fused)
            yield overview.toned(part, small, corner) if small else part


def seen_small(run: Run, scene: Scene, prompt: str, seed: int) -> Overview:
    """A large pair in one piece, scaled down to a shape that the checkpoint knows."""
    sources = encode(run.networks, scene, max_side=run.settings.max_side)
    noises = starts([sources.latents.shape[1:]], [seed], [None], count=run.settings.noises)
    run.watch.lap("encode")
    (rows,) = layouts(run.networks, [sources], [[prompt]], branches(run.guidance))
    (latents,) = sample(run, rows, sampler.prefix(run.networks.transformer, rows), noises)
    (pixels,) = decode(run.networks, latents[None])
    run.watch.lap("decode")
    return Overview(pixels, sources.geometry)


def _batches(run, scene, tiling, prompt, noises, todo, count) -> Iterator[np.ndarray]:
    """The tiles at the corners `todo`, `count` at a time; the last batch is filled up: one program serves."""
    steps = run.settings.steps
    for start in range(0, len(todo), count):
        corners = [todo[min(i, len(todo) - 1)] for i in range(start, start + count)]
        made = _batch(run.after(steps * (start // count)), scene, tiling, prompt, noises, corners)
        yield from made[: len(todo) - start]


def _batch(run, scene, tiling, prompt, noises, corners) -> list[np.ndarray]:
    """The maps of the tiles at `corners`, all on one batch axis."""
    factor, sizes = run.networks.config.vae.factor, Geometry(tiling.tile, tiling.tile, tiling.tile)
    run.watch.lap("rebuild")  # what became of the tiles before
    parts = np.concatenate([_cut(scene, tiling, corner) for corner in corners])
    latents = codec.encode(run.networks.vae, parts, sizes, factor=factor)
    check_finite(latents, run.networks.vae.params, run.networks.folder / VAE_FILE)
    run.watch.lap("encode")
    sources = [Sources(sizes, both) for both in np.split(latents, len(corners))]
    height, width = latents.shape[1:3]
    tops_lefts = [(top // factor, left // factor) for top, left in corners]
    own = [[noise[top:, left:][:height, :width] for top, left in tops_lefts] for noise in noises]
    (rows,) = layouts(run.networks, sources, [[prompt] * len(corners)], branches(run.guidance))
    results = sample(run, rows, sampler.prefix(run.networks.transformer, rows), own)
    pixels = decode(run.networks, np.concatenate([np.stack(results)] + [latents] * run.rebuilds))
    run.watch.lap("decode")
    trips = pixels[len(corners) :].reshape(len(corners), -1, *pixels.shape[1:])  # [k, n or 0, h, w, 3]
    return [_joined(pixels[i], *trips[i]) for i in range(len(corners))]


def _joined(*pictures: np.ndarray) -> np.ndarray:
    return np.concatenate(pictures, axis=-1)


def _cut(scene: Scene, tiling: Tiling, corner: tuple[int, int]) -> np.ndarray:
    """The tile of each source as the model sees it, uint8 [n, h, w, 3]."""
    return np.stack([scene.seen(tiles.cut(pixels, tiling, corner)) for pixels in scene.pixels])


def _copied(run: Run, parts: np.ndarray) -> np.ndarray:
    """The first of sources that agree as the result; what was not encoded is its own round trip."""
    pixels = image.to_pixels(parts)
    return _joined(pixels[0], *(pixels if run.rebuilds else ()))


def encode(networks: Networks, scene: Scene, *, max_side: int) -> Sources:
    """The sources as latents in a shape that the checkpoint knows, the mode of the VAE's posterior."""
    sizes = shapes.choose(*scene.size, networks.config.shapes, max_side=max_side)
    seen = map(scene.seen, scene.pixels)
    latents = codec.encode(networks.vae, seen, sizes, factor=networks.config.vae.factor)
    check_finite(latents, networks.vae.params, networks.folder / VAE_FILE)
    return Sources(sizes, latents)


def decode(networks: Networks, latents: np.ndarray) -> np.ndarray:
    """Latents [n, h, w, C] -> pixels float32 [n, H, W, 3] of the padded size."""
    pixels = codec.decode(networks.vae, latents, factor=networks.config.vae.factor)
    check_finite(pixels, networks.vae.params, networks.folder / VAE_FILE)
    return pixels
