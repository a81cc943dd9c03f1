# SPDX-License-Identifier: Apache-2.0
"""The whole way of an image pair: files -> latents -> fused latents -> an image of the first input's size."""

import dataclasses
import functools
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypedDict, Unpack

import jax
import numpy as np
from flax import nnx

from ditfuse_jax import image as images
from ditfuse_jax.checkpoints import folder as weights
from ditfuse_jax.checkpoints.adapter import read_adapter
from ditfuse_jax.checkpoints.flat import fill, parameter_shapes, path_name
from ditfuse_jax.config import DEMO, CheckpointConfig
from ditfuse_jax.image import Geometry
from ditfuse_jax.inference import sampler, shapes
from ditfuse_jax.inference.plan import Plan, plan
from ditfuse_jax.inference.sampler import Network, Row
from ditfuse_jax.models import padded_vae
from ditfuse_jax.models.flow import Guidance, branches
from ditfuse_jax.models.lora import merge
from ditfuse_jax.models.omnigen import Transformer
from ditfuse_jax.models.vae import VAE
from ditfuse_jax.ops.products import exact_products
from ditfuse_jax.ops.tuning import Tuning
from ditfuse_jax.prompt import encode, load_tokenizer, render


class Timings(NamedTuple):
    """Seconds, waiting for compilers included; what a group of results shares is counted with its first."""

    encode: float
    prefix: float
    sample: float
    decode: float


class Fused(NamedTuple):
    image: np.ndarray  # uint8 [H, W, 3], the size of the first input
    pixels: np.ndarray  # float32 [H, W, 3] in [-1, 1]: `image` before rounding
    latents: np.ndarray  # float32 [h, w, C], before decoding
    timings: Timings


class Pair(NamedTuple):
    """Two registered images, encoded."""

    geometry: Geometry
    latents: np.ndarray  # float32 [2, h, w, C]


class How(TypedDict, total=False):
    """How to sample; what is missing or None is as the checkpoint says."""

    steps: int | None  # Euler steps
    guidance: float | None  # text scale
    image_guidance: float | None  # image scale
    max_side: int | None  # pixels; larger pairs are fused at this size and brought back
    noises: int | None  # the result is the mean over this many, two and two of opposite sign


class Settings(NamedTuple):
    """How to sample, with the checkpoint's defaults filled in."""

    steps: int
    guidance: Guidance
    max_side: int
    noises: int


@dataclass(frozen=True)
class DiTFuse:
    """A loaded checkpoint. Images are paths, PIL images or uint8 arrays; see `image.read`."""

    config: CheckpointConfig
    transformer: Network
    vae: Network
    tokenizer: object
    folder: Path
    checkpoint_id: str  # names weights and adapter, for the metadata of results

    @classmethod
    def load(cls, folder=None, *, lora=None, dtype: str | None = None) -> "DiTFuse":
        """Reads a checkpoint folder, as `python -m convert` writes it.

        Args:
          folder: default: the small checkpoint that ships with the package.
          lora: a PEFT or a converted adapter folder, merged into the weights while loading.
          dtype: "float32" or "bfloat16" of weights and matmuls; default: what the checkpoint says.
        Raises ValueError naming the file and the way out when something is missing, damaged or does not fit.
        """
        folder = Path(folder or DEMO)
        config = weights.read_config(folder)
        dtype = dtype or config.model.dtype
        model = dataclasses.replace(config.model, dtype=dtype)
        tuning = Tuning.choose(jax.default_backend(), 1)
        transformer = read_network(
            lambda: Transformer(model, tuning=tuning, rngs=nnx.Rngs(0)),
            folder / weights.MODEL_FILE,
            dtype,
            lora=lora,
        )
        vae = read_network(lambda: VAE(config.vae, rngs=nnx.Rngs(0)), folder / weights.VAE_FILE, "float32")
        return cls(
            config=dataclasses.replace(config, model=model),
            transformer=transformer._replace(tuning=tuning),
            vae=vae,
            tokenizer=load_tokenizer(folder),
            folder=folder,
            checkpoint_id=checkpoint_id(folder, lora and Path(lora)),
        )

    def fuse(
        self,
        image1,
        image2,
        prompt: str,
        *,
        seed: int = 0,
        noise: np.ndarray | None = None,
        on_step: Callable[[int, np.ndarray], None] | None = None,
        **how: Unpack[How],
    ) -> Fused:
        """Fuses two images of one size as the prompt says.

        Args:
          image1: visible, far-focused or over-exposed; it gives the size.
          image2: infrared, near-focused or under-exposed.
          prompt: an instruction, put into the template; with image placeholders it is used as it is.
          seed: of the noise at t = 0. noise: float32 [h, w, C] to start from instead, as the first.
          on_step: called as on_step(step, latents [h, w, C]) after steps 1 .. steps.
          how: steps, guidance, image_guidance, max_side, noises; default: the checkpoint's.
        Raises ValueError for images that cannot be fused, see `image.read`, and for weights that hold NaN.
        """
        return next(
            self.fuse_prompts(image1, image2, [prompt], seed=seed, noise=noise, on_step=on_step, **how)
        )

    def fuse_prompts(
        self,
        image1,
        image2,
        prompts: Sequence[str],
        *,
        seed: int = 0,
        noise: np.ndarray | None = None,
        on_step: Callable[[int, np.ndarray], None] | None = None,
        **how: Unpack[How],
    ) -> Iterator[Fused]:
        """One result per prompt for one pair, each as by `fuse`; what the prompts share is encoded once."""
        settings = self.settings(**how)
        names = branches(settings.guidance)
        start = time.perf_counter()
        pair = self.encode(image1, image2, max_side=settings.max_side)
        encoded = time.perf_counter() - start
        noises = self._noises([pair], [seed], [noise], settings.noises)
        rows = [Row(render(prompt), pair.latents) for prompt in prompts]
        words = max(self.count_text(row) for row in rows)
        watch = on_step and (lambda step, latents: on_step(step, latents[0]))
        cache = None
        for row in rows:
            start = time.perf_counter()
            layout = sampler.layout([row], names, self.tokenizer, num_text=words)
            if cache is None:
                cache = sampler.prefix(self.transformer, layout)
            elif "cond" in names:
                cache = sampler.replace_condition(self.transformer, cache, layout, 1)
            jax.block_until_ready(cache)
            prefixed = time.perf_counter()
            latents = sampler.sample(
                self.transformer,
                cache,
                layout,
                noises,
                guidance=settings.guidance,
                steps=settings.steps,
                on_step=watch,
            )[0]
            sampled = time.perf_counter()
            pixels = self.decode(latents, pair.geometry)
            seconds = (prefixed - start, sampled - prefixed, time.perf_counter() - sampled)
            yield Fused(images.to_image(pixels), pixels, latents, Timings(encoded, *seconds))
            encoded = 0.0

    def fuse_batch(
        self,
        images1: Sequence,
        images2: Sequence,
        prompts: Sequence[str],
        *,
        seed: int | Sequence[int] = 0,
        noise: Sequence[np.ndarray] | None = None,
        on_step: Callable[[int, list[np.ndarray]], None] | None = None,
        **how: Unpack[How],
    ) -> list[Fused]:
        """Fuses several pairs, of any sizes, on one batch axis; results equal those of `fuse` within 1e-4.

        Arguments as in `fuse`, one list entry per pair; one seed is every pair's, a list gives each its own.
        """
        if not len(images1) == len(images2) == len(prompts) > 0:
            raise ValueError(
                f"{len(images1)} first images, {len(images2)} second images and {len(prompts)} prompts; "
                "give one of each per pair"
            )
        settings = self.settings(**how)
        start = time.perf_counter()
        pairs = [
            self.encode(*both, max_side=settings.max_side) for both in zip(images1, images2, strict=True)
        ]
        seeds = [seed] * len(pairs) if np.ndim(seed) == 0 else list(seed)
        given = [None] * len(pairs) if noise is None else list(noise)
        noises = self._noises(pairs, seeds, given, settings.noises)
        rows = [Row(render(prompt), pair.latents) for prompt, pair in zip(prompts, pairs, strict=True)]
        encoded = time.perf_counter()
        layout = sampler.layout(rows, branches(settings.guidance), self.tokenizer)
        cache = jax.block_until_ready(sampler.prefix(self.transformer, layout))
        prefixed = time.perf_counter()
        latents = sampler.sample(
            self.transformer,
            cache,
            layout,
            noises,
            guidance=settings.guidance,
            steps=settings.steps,
            on_step=on_step,
        )
        sampled = time.perf_counter()
        pixels = [self.decode(part, pair.geometry) for part, pair in zip(latents, pairs, strict=True)]
        seconds = Timings(
            encoded - start, prefixed - encoded, sampled - prefixed, time.perf_counter() - sampled
        )
        nothing = Timings(0.0, 0.0, 0.0, 0.0)
        return [
            Fused(images.to_image(pixels[i]), pixels[i], latents[i], nothing if i else seconds)
            for i in range(len(pairs))
        ]

    def plan(self, height: int, width: int, prompt: str, **how: Unpack[How]) -> Plan:
        """What fusing a pair of this size will cost; computes nothing."""
        settings = self.settings(**how)
        names = branches(settings.guidance)
        sizes = self.geometry(height, width, settings.max_side)
        empty = np.zeros((2, *self.latent_shape(sizes)), np.float32)
        rows = sampler.layout([Row(render(prompt), empty)], names, self.tokenizer)
        leaves = jax.tree.leaves((self.transformer.params, self.vae.params))
        stored = sum(leaf.size for leaf in leaves), sum(leaf.nbytes for leaf in leaves)
        calls = (settings.steps, settings.noises)
        scores = self.transformer.tuning.max_scores
        return plan(self.config, rows, names, geometry=sizes, calls=calls, sizes=stored, max_scores=scores)

    def settings(self, **how: Unpack[How]) -> Settings:
        return settings(self.config, **how)

    def encode(self, image1, image2, *, max_side: int) -> Pair:
        """Reads two images of one size and gives their latents, the mode of the VAE's posterior."""
        first, second = images.read(image1), images.read(image2)
        images.check_same_size(first, second, (_name(image1, "image 1"), _name(image2, "image 2")))
        sizes = self.geometry(*first.shape[:2], max_side)
        pixels = images.to_pixels(np.stack([images.fit(first, sizes), images.fit(second, sizes)]))
        run, size = _programs().encode, np.array(sizes.padded, np.int32)
        padded = padded_vae.pad(pixels, self.config.vae.factor)
        latents = np.asarray(run(self.vae.graph, self.vae.params, padded, size))
        height, width, _ = self.latent_shape(sizes)
        latents = latents[:, :height, :width]
        if not np.isfinite(latents).all():
            raise ValueError(blame(self.folder / "vae.safetensors", self.vae.params))
        return Pair(sizes, latents)

    def decode(self, latents: np.ndarray, sizes: Geometry) -> np.ndarray:
        """Latents [h, w, C] -> pixels float32 [H, W, 3] in [-1, 1] of the native size."""
        if not np.isfinite(latents).all():
            raise ValueError(blame(self.folder / "model.safetensors", self.transformer.params))
        run, size = _programs().decode, np.array(latents.shape[:2], np.int32)
        padded = padded_vae.pad(latents[None], 1)
        pixels = np.asarray(run(self.vae.graph, self.vae.params, padded, size))
        pixels = pixels[0, : sizes.padded[0], : sizes.padded[1]]
        if not np.isfinite(pixels).all():
            raise ValueError(blame(self.folder / "vae.safetensors", self.vae.params))
        return images.restore(pixels, sizes)

    def geometry(self, height: int, width: int, max_side: int) -> Geometry:
        return shapes.choose(height, width, self.config.shapes, max_side=max_side)

    def latent_shape(self, sizes: Geometry) -> tuple[int, int, int]:
        height, width = (side // self.config.vae.factor for side in sizes.padded)
        return height, width, self.config.vae.latent_channels

    def noise(self, pair: Pair, seed: int, draw: int = 0) -> np.ndarray:
        """float32 [h, w, C] of a seed: the values of jax.random.normal(jax.random.key(seed), [h, w, C]).

        draw: further ones of the same seed, whose key is fold_in(key(seed), draw).
        """
        key = jax.random.fold_in(jax.random.key(seed), draw) if draw else jax.random.key(seed)
        shape = pair.latents.shape[1:]
        # the sampler's buckets, so that new sizes need no new program; a short draw is a prefix of a long one
        length = sampler.bucket(sampler.num_patches(pair.latents)) * self.config.model.patch_dim
        flat = _programs().normal(key, length)
        return np.asarray(flat)[: int(np.prod(shape))].reshape(shape)

    def _noises(self, pairs: Sequence[Pair], seeds, given, count: int) -> list[list[np.ndarray]]:
        """`count` starts, each a list over pairs; every second one is the negative of the one before.

        What an odd function of the noise adds to the result cancels in such two (antithetic variates,
        Hammersley and Morton 1956).
        """
        if not len(seeds) == len(given) == len(pairs):
            raise ValueError(
                f"{len(seeds)} seeds and {len(given)} noise arrays for {len(pairs)} pairs; give one per pair"
            )
        drawn = [
            self.noise(pair, seed) if noise is None else _checked_noise(noise, pair)
            for pair, seed, noise in zip(pairs, seeds, given, strict=True)
        ]
        noises = [drawn]
        for draw in range(1, -(-count // 2)):
            noises.append([self.noise(pair, seed, draw) for pair, seed in zip(pairs, seeds, strict=True)])
        both = [signed for noise in noises for signed in (noise, [-part for part in noise])]
        return both[:count]

    def count_text(self, row: Row) -> int:
        """Tokens of a row's prompt without the image patches."""
        count = sampler.num_patches(row.sources)
        return sampler.count_text(encode(row.text, (count,) * len(row.sources), self.tokenizer))


def settings(config: CheckpointConfig, **how: Unpack[How]) -> Settings:
    """The caller's values over the checkpoint's defaults; raises ValueError for what it cannot do."""
    given = {name: value for name, value in how.items() if value is not None}
    chosen = dataclasses.replace(config.sampling, **given)
    scales = Guidance(float(chosen.guidance), float(chosen.image_guidance))
    if not np.isfinite(scales).all():
        raise ValueError(
            f"guidance {scales.text}, {scales.image}: the scales must be numbers, such as 2.0 and 1.6"
        )
    config.check_side(chosen.max_side)
    return Settings(chosen.steps, scales, chosen.max_side, chosen.noises)


def check(folder, pictures: Sequence[Path], **how: Unpack[How]) -> None:
    """Raises ValueError for settings and picture files that a checkpoint folder cannot do.

    Reads its config.json and the pictures' headers alone, so that a long loading does not end in an error.
    """
    config = weights.read_config(Path(folder or DEMO))
    max_side = settings(config, **how).max_side
    for picture in pictures:
        shapes.choose(*images.read_size(picture), config.shapes, max_side=max_side)


def read_network(build: Callable[[], nnx.Module], file: Path, dtype: str, *, lora=None) -> Network:
    """The module that `build()` would make, with the tensors of `file` and an adapter merged into them."""
    params = weights.load_params(file, parameter_shapes(build), dtype=dtype)
    if lora is not None:
        adapter = read_adapter(Path(lora))
        for name, tensor in adapter.tensors.items():
            if not np.isfinite(np.asarray(tensor, np.float32)).all():
                raise ValueError(f"adapter {lora}: {name} holds NaN or infinite values; copy it again")
        params = merge(params, adapter.tensors, adapter.lora)
    return Network(*nnx.split(fill(nnx.eval_shape(build), params)))


class _PixelPrograms(NamedTuple):
    encode: Callable
    decode: Callable
    normal: Callable


@functools.cache
def _programs() -> _PixelPrograms:
    """Compiled once per bucket of sides (encode, decode) or of counts (normal)."""

    def encode(graph, params, pixels, size):
        return nnx.merge(graph, params).encode(pixels, size)

    def decode(graph, params, latents, size):
        return nnx.merge(graph, params).decode(latents, size)

    return _PixelPrograms(
        jax.jit(exact_products(encode), static_argnames="graph"),
        jax.jit(exact_products(decode), static_argnames="graph"),
        jax.jit(lambda key, count: jax.random.normal(key, (count,)), static_argnums=1),
    )


def blame(file: Path, params: nnx.State) -> str:
    """An error that names the first tensor that is not finite, or says that none is to blame."""
    for path, variable in nnx.to_flat_state(params):
        if not np.isfinite(np.asarray(variable[...], np.float32)).all():
            name = path_name(path)
            return (
                f"{file}: {name} holds NaN or infinite values; the file is damaged, convert or copy it again"
            )
    return f"{file}: the weights are finite but their result is not; use dtype float32 or smaller scales"


def checkpoint_id(folder: Path, lora: Path | None) -> str:
    """Name and short hash of a checkpoint's config.json, which records its source, and the adapter's name."""
    digest = hashlib.sha256((folder / "config.json").read_bytes()).hexdigest()[:12]
    return f"{folder.resolve().name}-{digest}" + (f"+{lora.resolve().name}" if lora else "")


def _name(source, fallback: str) -> str:
    return str(source) if isinstance(source, str | Path) else fallback


def _checked_noise(noise: np.ndarray, pair: Pair) -> np.ndarray:
    noise = np.asarray(noise, np.float32)
    if noise.shape != pair.latents.shape[1:] or not np.isfinite(noise).all():
        raise ValueError(
            f"noise {list(noise.shape)} must be finite and of the latents' shape "
            f"{list(pair.latents.shape[1:])}"
        )
    return noise
