# SPDX-License-Identifier: Apache-2.0
"""The library's front: a loaded checkpoint that fuses images as an instruction says."""

import dataclasses
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from flax import nnx

from ditfuse_jax import image
from ditfuse_jax.checkpoints.folder import fingerprint, read_config
from ditfuse_jax.checkpoints.layout import MODEL_FILE, VAE_FILE
from ditfuse_jax.config import DEMO, CheckpointConfig, SamplingConfig
from ditfuse_jax.image import Geometry
from ditfuse_jax.inference import codec, sampler, settings, shapes
from ditfuse_jax.inference.codec import Sources
from ditfuse_jax.inference.network import Network, check_finite, read_network
from ditfuse_jax.inference.noise import starts
from ditfuse_jax.inference.plan import Plan, plan
from ditfuse_jax.inference.sampler import Layout
from ditfuse_jax.models.flow import Guidance, branches
from ditfuse_jax.models.omnigen import Transformer
from ditfuse_jax.models.vae import VAE
from ditfuse_jax.prompt import load_tokenizer, render
from ditfuse_jax.task import request


class Timings(NamedTuple):
    """Seconds, waiting for compilers included; what a group of results shares is counted with its first."""

    encode: float
    prefix: float
    sample: float
    decode: float


NO_TIME = Timings(0.0, 0.0, 0.0, 0.0)


class Fused(NamedTuple):
    image: np.ndarray  # uint8 [H, W, 3], the size of the first input
    pixels: np.ndarray  # float32 [H, W, 3] in [-1, 1]: `image` before rounding
    latents: np.ndarray  # float32 [h, w, C], before decoding
    timings: Timings


@dataclass(frozen=True)
class DiTFuse:
    """A loaded checkpoint. Images are paths, PIL images or uint8 arrays; see `image.read`."""

    config: CheckpointConfig
    transformer: Network
    vae: Network
    tokenizer: Callable
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
        config = read_config(folder)
        dtype = dtype or config.model.dtype
        model = dataclasses.replace(config.model, dtype=dtype)
        transformer = read_network(
            lambda: Transformer(model, rngs=nnx.Rngs(0)), folder / MODEL_FILE, dtype, lora=lora
        )
        return cls(
            config=dataclasses.replace(config, model=model),
            transformer=transformer,
            vae=read_network(lambda: VAE(config.vae, rngs=nnx.Rngs(0)), folder / VAE_FILE, "float32"),
            # plan and layout ask for the same words, and all prompts for the same negative ones
            tokenizer=functools.lru_cache(maxsize=256)(load_tokenizer(folder)),
            folder=folder,
            checkpoint_id=fingerprint(folder, lora and Path(lora)),
        )

    def fuse(
        self,
        images: Sequence,
        prompt: str | None = None,
        *,
        task: str | None = None,
        object: str | None = None,
        segment: Sequence[str] | None = None,
        seed: int = 0,
        noise: np.ndarray | None = None,
        on_step: Callable[[int, Callable[[], np.ndarray]], None] | None = None,
        **options,
    ) -> Fused:
        """Fuses images of one size as the prompt or the task says.

        Args:
          images: two: the first is visible, far-focused or over-exposed, the second infrared, near-focused or
            under-exposed. The result has the size of the first.
          prompt: an instruction, put into the template; with image placeholders it is used as it is. Without
            it and without a task: "Extract and fuse high-quality features from both images."
          task: a key of `task.TASKS`: its tags, and its words where there is no prompt.
          object: the one thing that a light or contrast task is about. segment: names of what to mark.
          seed: of the noise at t = 0. noise: float32 [h, w, C] to start from instead, as the first.
          on_step: called as on_step(step, latents) after steps 1 .. steps; latents() gives [h, w, C].
          options: fields of `SamplingConfig`, such as steps=20; default: the checkpoint's.
        Raises ValueError for images that cannot be fused, see `image.read`, for a request that contradicts
        itself, an unknown option, and weights that hold NaN.
        """
        if isinstance(segment, str):
            raise ValueError(f"segment {segment!r} is one string; give a sequence of names, such as ['car']")
        words = request(prompt, task=task, segment=tuple(segment or ()), thing=object)
        return next(self.fuse_prompts(images, [words], seed=seed, noise=noise, on_step=on_step, **options))

    def fuse_prompts(
        self,
        images: Sequence,
        prompts: Sequence[str],
        *,
        seed: int = 0,
        noise: np.ndarray | None = None,
        on_step: Callable[[int, Callable[[], np.ndarray]], None] | None = None,
        **options,
    ) -> Iterator[Fused]:
        """One result per prompt, each as by `fuse`; what the prompts share is encoded once."""
        watch = on_step and (lambda step, latents: on_step(step, lambda: latents()[0]))
        batches = [[prompt] for prompt in prompts]
        for (result,) in self._fuse([images], batches, [seed], [noise], watch, options):
            yield result

    def fuse_batch(
        self,
        pairs: Sequence[Sequence],
        prompts: Sequence[str],
        *,
        seed: int | Sequence[int] = 0,
        noise: Sequence[np.ndarray] | None = None,
        on_step: Callable[[int, Callable[[], list[np.ndarray]]], None] | None = None,
        **options,
    ) -> list[Fused]:
        """Fuses several pairs, of any sizes, on one batch axis; results equal those of `fuse` within 1e-4.

        pairs: the images of each fusion, with a prompt for each. One seed is every pair's, a list gives each
        its own; likewise noise. Other arguments as in `fuse`.
        """
        if not len(pairs) == len(prompts) > 0:
            raise ValueError(f"{len(pairs)} pairs and {len(prompts)} prompts; give one prompt per pair")
        seeds = [seed] * len(pairs) if np.ndim(seed) == 0 else list(seed)
        given = [None] * len(pairs) if noise is None else list(noise)
        return next(self._fuse(pairs, [prompts], seeds, given, on_step, options))

    def _fuse(self, pairs, batches, seeds, given, on_step, options) -> Iterator[list[Fused]]:
        """The results of all pairs, on one batch axis, for each list of prompts, one prompt per pair."""
        chosen, start = self.settings(**options), time.perf_counter()
        scales = Guidance(chosen.guidance, chosen.image_guidance)
        sources = [self.encode(images, max_side=chosen.max_side) for images in pairs]
        noises = starts([each.latents.shape[1:] for each in sources], seeds, given, count=chosen.noises)
        encoding, cache = time.perf_counter() - start, None
        for rows in self._layouts(sources, batches, branches(scales)):
            start = time.perf_counter()
            if cache is None:
                cache = sampler.prefix(self.transformer, rows)
            elif "cond" in branches(scales):
                cache = sampler.replace_condition(self.transformer, cache, rows, len(pairs))
            jax.block_until_ready(cache)
            prefixed = time.perf_counter()
            latents = sampler.sample(
                self.transformer, cache, rows, noises, guidance=scales, steps=chosen.steps, on_step=on_step
            )
            sampled = time.perf_counter()
            pixels = [self.decode(part, each.geometry) for part, each in zip(latents, sources, strict=True)]
            seconds = (prefixed - start, sampled - prefixed, time.perf_counter() - sampled)
            timings = [Timings(encoding, *seconds)] + [NO_TIME] * (len(pairs) - 1)
            yield [
                Fused(image.to_image(part), part, *rest)
                for part, *rest in zip(pixels, latents, timings, strict=True)
            ]
            encoding = 0.0

    def _layouts(self, sources: Sequence[Sources], batches, names: tuple[str, ...]) -> Iterator[Layout]:
        """One layout of rows per list of prompts, all of one shape."""
        rows = [
            [sampler.Row(render(prompt), each.latents) for prompt, each in zip(batch, sources, strict=True)]
            for batch in batches
        ]
        words = max(sampler.count_words(row, self.tokenizer) for batch in rows for row in batch)
        return (sampler.layout(batch, names, self.tokenizer, num_text=words) for batch in rows)

    def plan(self, height: int, width: int, prompt: str, **options) -> Plan:
        """What fusing a pair of this size will cost; computes nothing."""
        chosen = self.settings(**options)
        names = branches(Guidance(chosen.guidance, chosen.image_guidance))
        sizes = shapes.choose(height, width, self.config.shapes, max_side=chosen.max_side)
        cells = (side // self.config.vae.factor for side in sizes.padded)
        empty = np.zeros((codec.NUM_SOURCES, *cells, self.config.vae.latent_channels), np.float32)
        rows = sampler.layout([sampler.Row(render(prompt), empty)], names, self.tokenizer)
        leaves = jax.tree.leaves((self.transformer.params, self.vae.params))
        stored = sum(leaf.size for leaf in leaves), sum(leaf.nbytes for leaf in leaves)
        return plan(self.config, rows, names, geometry=sizes, settings=chosen, sizes=stored)

    def settings(self, **options) -> SamplingConfig:
        """The options over the checkpoint's settings, checked."""
        return settings.choose(self.config, options)

    def encode(self, images: Sequence, *, max_side: int | None = None) -> Sources:
        """Reads images of one size and gives their latents, the mode of the VAE's posterior.

        max_side: in pixels; default: the checkpoint's.
        """
        pictures = codec.read(images)
        longest = self.config.sampling.max_side if max_side is None else max_side
        sizes = shapes.choose(*pictures.shape[1:3], self.config.shapes, max_side=longest)
        latents = codec.encode(self.vae, pictures, sizes, factor=self.config.vae.factor)
        check_finite(latents, self.vae.params, self.folder / VAE_FILE)
        return Sources(sizes, latents)

    def decode(self, latents: np.ndarray, sizes: Geometry) -> np.ndarray:
        """Latents [h, w, C] -> pixels float32 [H, W, 3] in [-1, 1] of the native size."""
        check_finite(latents, self.transformer.params, self.folder / MODEL_FILE)
        pixels = codec.decode(self.vae, latents[None], factor=self.config.vae.factor)[0]
        check_finite(pixels, self.vae.params, self.folder / VAE_FILE)
        return image.restore(pixels, sizes)


def check(folder, pictures: Sequence[Path], **options) -> None:
    """Raises ValueError for options and picture files that a checkpoint folder cannot do.

    Reads its config.json and the pictures' headers alone, so that a long loading does not end in an error.
    """
    config = read_config(Path(folder or DEMO))
    max_side = settings.choose(config, options).max_side
    for picture in pictures:
        shapes.choose(*image.read_size(picture), config.shapes, max_side=max_side)
