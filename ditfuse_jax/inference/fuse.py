# SPDX-License-Identifier: Apache-2.0
"""The library's front: a loaded checkpoint that fuses images as an instruction says."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np

from ditfuse_jax import image
from ditfuse_jax.bounds import check_seed
from ditfuse_jax.checkpoints.adapter import read_adapter
from ditfuse_jax.checkpoints.folder import fingerprint, read_config
from ditfuse_jax.checkpoints.layout import MODEL_FILE, VAE_FILE
from ditfuse_jax.config import DEMO, CheckpointConfig, SamplingConfig
from ditfuse_jax.image import Geometry
from ditfuse_jax.inference import (
    arrays,
    forecast,
    marks,
    passes,
    prepare,
    pretrained,
    scene,
    settings,
    shapes,
    stack,
)
from ditfuse_jax.inference.network import Network, read_network
from ditfuse_jax.inference.passes import Networks, Run, Sources
from ditfuse_jax.inference.plan import Plan
from ditfuse_jax.inference.preparation import Preparation
from ditfuse_jax.inference.prepare import Prepared
from ditfuse_jax.inference.results import Fused, finished, tiled, whole
from ditfuse_jax.inference.timings import Stopwatch
from ditfuse_jax.models import outline
from ditfuse_jax.ops import speed
from ditfuse_jax.ops.tuning import Tuning
from ditfuse_jax.prompt import check_vocabulary, kind_of, load_tokenizer, render
from ditfuse_jax.task import request


@dataclass(frozen=True)
class DiTFuse:
    """A loaded checkpoint. Images are paths, PIL images or arrays; see `image.read_picture`."""

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
          lora: a PEFT or a converted adapter folder, merged into the weights while loading; beside int8
            weights it stays as it is.
          dtype: "float32" or "bfloat16" of weights and matmuls; default: what the checkpoint says;
            "auto": the faster one on this machine, by a short measurement.
        Raises ValueError naming the file and the way out when something is missing, damaged or does not fit.
        """
        folder = Path(folder or DEMO)
        config = read_config(folder)
        tokenizer = load_tokenizer(folder)
        check_vocabulary(tokenizer, config.model.vocab_size)
        if dtype == "auto":
            dtype = speed.faster_dtype(config.model.width, config.model.mlp_width)
        dtype = dtype or config.model.dtype
        adapter = lora and read_adapter(Path(lora))
        live = adapter.lora if adapter and config.model.int8 else None
        model = dataclasses.replace(config.model, dtype=dtype, lora=live)
        tuning = Tuning.choose(jax.default_backend(), 1)
        transformer = read_network(
            outline.transformer(model, tuning=tuning, param_dtype=dtype),
            folder / MODEL_FILE,
            lora=adapter,
        )
        return cls(
            config=dataclasses.replace(config, model=model),
            transformer=transformer._replace(tuning=tuning),
            vae=read_network(outline.vae(config.vae), folder / VAE_FILE),
            # plan and layout ask for the same words, and all prompts for the same negative ones
            tokenizer=functools.lru_cache(maxsize=256)(tokenizer),
            folder=folder,
            checkpoint_id=fingerprint(folder, lora and Path(lora)),
        )

    @classmethod
    def from_pretrained(
        cls, name: str | Path, *, revision: str | None = None, lora=None, dtype: str | None = None
    ) -> "DiTFuse":
        """`load` for a folder, `hf:owner/name` or `owner/name` of the Hugging Face hub.

        Args:
          name: a checkpoint folder, or one in the official or the diffusers layout, which is converted into
            the cache on first use. What the hub gave is kept too; offline, what is kept is used.
          revision: branch, tag or commit of the hub. lora: an adapter, named likewise. dtype: as in `load`.
        Raises ValueError where it is not here and not to be had, and as `load` does.
        """
        folder = pretrained.checkpoint(name, revision=revision)
        return cls.load(folder, lora=pretrained.adapter(lora), dtype=dtype)

    def fuse(
        self,
        images: Sequence,
        prompt: str | None = None,
        *,
        task: str | None = None,
        object: str | None = None,
        segment: Sequence[str] | None = None,
        channels: str = "rgb",
        value_range: tuple[float, float] | None = None,
        mask: bool = False,
        seed: int = 0,
        noise: np.ndarray | None = None,
        on_step: Callable[[int, Callable[[], np.ndarray]], None] | None = None,
        bits: str | int = "auto",
        maps: bool = True,
        align: str = "off",
        crop: bool = False,
        resize_second: bool = False,
        deghost: str = "off",
        thermal_range: tuple[float, float] | None = None,
        palette: str | None = None,
        **options,
    ) -> Fused:
        """Fuses images of one size as the prompt or the task says.

        Args:
          images: two paths, PIL images, or arrays, see `image.read_picture`, `arrays.readable`. The first is
            visible, far-focused or over-exposed, the second infrared, near-focused or under-exposed. Three to
            100 of one kind are a stack, in any order: see stack.py. The result has the size of the first. One
            radiometric JPEG of FLIR is a visible and an infrared picture.
          prompt: an instruction, put into the template; with image placeholders it is used as it is. Without
            it and without a task: "Extract and fuse high-quality features from both images."
          task: a key of `task.TASKS`: its tags, and its words where there is no prompt.
          object: the one thing that a light or contrast task is about. segment: names of what to mark.
          channels: "rgb" or "bgr", the order in arrays; the result is RGB. value_range: black and white of
            float arrays, such as (0, 1).
          mask: of a segmentation (task "seg"), also decode what is marked; fuses without marks first, on_step
            being called for both.
          seed: of the noise at t = 0, 64 bits. noise: float32 [h, w, C] to start from instead, as the first.
          on_step: called as on_step(step, latents) after steps 1 .. steps; latents() gives [h, w, C]. In
            tiles: after the steps of each batch of them, counted on; latents() is of its first tile. In a
            stack: counted on over its decisions.
          bits: 8 or 16 of the result; "auto": as of the first image.
          maps: False leaves pixels, weights and invented away, which are most of the memory of a large one.
          align: "off", "auto", "translation", "homography" or an alignment file; deghost: "off" or "auto";
            crop, resize_second, thermal_range, palette: see `Preparation` and docs/photographs.md. What was
            found is in `told` of the result.
          options: fields of `SamplingConfig`, such as steps=20; default: the checkpoint's.
        Raises ValueError for images that cannot be fused, see `image.read_picture`, for a request that
        contradicts itself, an unknown option, and weights that hold NaN.
        """
        if isinstance(segment, str):
            raise ValueError(f"segment {segment!r} is one string; give a sequence of names, such as ['car']")
        words = request(prompt, task=task, segment=tuple(segment or ()), thing=object)
        if mask:
            marks.check(prompt, task=task, segment=segment or ())
        images = arrays.readable(images, channels=channels, value_range=value_range)
        asked = Preparation(
            align=align,
            crop=crop,
            resize_second=resize_second,
            deghost=deghost,
            thermal_range=thermal_range,
            palette=palette,
        )
        how = {"seed": seed, "noise": noise, "on_step": on_step, "bits": bits, "maps": maps or bool(palette)}
        ready = self.prepare(images, words, asked, **options)
        prompts = [marks.PLAIN, words] if mask else [words]
        *plain, made = self.fuse_prompts(ready, prompts, **how, **options)
        found = marks.mask(made, *plain) if mask else None
        return finished(made, ready, asked, maps=maps)._replace(mask=found)

    def prepare(
        self, images: Sequence, prompt: str, how: Preparation, *, before: Sequence | None = None, **options
    ) -> Prepared:
        """The images as `fuse_prompts` takes them, see prepare.py; those of a stack are read when needed.

        prompt: whose tag says what they are. before: the frame before, for how.steady. options: as in
        `fuse`. Raises ValueError as `fuse` does.
        """
        kind, strength = kind_of(render(prompt)), self.settings(**options).fidelity
        if stack.is_stack(images):
            stack.check(images, kind=kind, strength=strength)
        how.check_fidelity(strength)
        return prepare.prepare(images, kind=kind, how=how, before=before)

    def fuse_prompts(self, images: Sequence, prompts: Sequence[str], **how) -> Iterator[Fused]:
        """One result per prompt, each as by `fuse`; what the prompts share is encoded once.

        how: as in `sample_prompts`.
        """
        for finish in self.sample_prompts(images, prompts, **how):
            yield finish()

    def sample_prompts(
        self,
        images: Sequence,
        prompts: Sequence[str],
        *,
        seed: int = 0,
        noise: np.ndarray | None = None,
        on_step: Callable[[int, Callable[[], np.ndarray]], None] | None = None,
        bits: str | int = "auto",
        maps: bool = True,
        **options,
    ) -> Iterator[Callable[[], Fused]]:
        """`fuse_prompts` in two halves: sampled when it is taken, decoded and rebuilt when it is called.

        The functions are to be called in their order; each may run while the next prompt, or other images,
        are sampled. Tiles and stacks are whole when they are taken.
        """
        depth = {"bits": image.checked_bits(bits), "maps": maps}
        if stack.is_stack(images):
            if noise is not None:
                raise ValueError(f"noise goes with two images, not {len(images)}; leave it away, give a seed")
            strength, how = self.settings(**options).fidelity, {"seed": seed, "on_step": on_step, **depth}
            stacks = (self.fuse_prompts, images, prompts)
            for made in stack.results(*stacks, strength=strength, **how, **options):
                yield lambda made=made: made
            return
        watch = on_step and (lambda step, latents: on_step(step, lambda: latents()[0]))
        batches = [[prompt] for prompt in prompts]
        for (finish,) in self._fuse([images], batches, [seed], [noise], watch, depth, options):
            yield finish

    def sample_batch(
        self,
        pairs: Sequence[Sequence],
        prompts: Sequence[str],
        *,
        rows: int,
        seed: int = 0,
        on_step: Callable[[int, Callable], None] | None = None,
        bits: str | int = "auto",
        maps: bool = True,
        **options,
    ) -> Iterator[list[Callable[[], Fused]]]:
        """`sample_prompts` for several pairs on one batch axis, of any sizes and all with one seed: for each
        prompt a function for each pair.

        rows: pairs that the programs are for; the batch is filled up where there are fewer. With one, it may
        be a stack.
        """
        how = {"seed": seed, "on_step": on_step, "bits": bits, "maps": maps}
        if rows == 1:
            return ([finish] for finish in self.sample_prompts(*pairs, prompts, **how, **options))
        depth, batches = {"bits": image.checked_bits(bits), "maps": maps}, [[p] * len(pairs) for p in prompts]
        shared = [seed] * len(pairs), [None] * len(pairs)
        return self._fuse(pairs, batches, *shared, on_step, depth, options, rows=rows)

    def fuse_batch(
        self,
        pairs: Sequence[Sequence],
        prompts: Sequence[str],
        *,
        seed: int | Sequence[int] = 0,
        noise: Sequence[np.ndarray] | None = None,
        on_step: Callable[[int, Callable[[], list[np.ndarray]]], None] | None = None,
        bits: str | int = "auto",
        maps: bool = True,
        **options,
    ) -> list[Fused]:
        """Fuses several pairs, of any sizes, on one batch axis; results equal those of `fuse` within 1e-4.

        pairs: the images of each fusion, with a prompt for each; with a stack among them, one is made after
        the other. One seed is every pair's, a list gives each its own; likewise noise. Else as in `fuse`.
        """
        if not len(pairs) == len(prompts) > 0:
            raise ValueError(f"{len(pairs)} pairs and {len(prompts)} prompts; give one prompt per pair")
        seeds = [seed] * len(pairs) if np.ndim(seed) == 0 else list(seed)
        if any(map(stack.is_stack, pairs)):
            if noise is not None:
                raise ValueError("noise goes with pairs alone, not with a stack; leave it away, give a seed")
            watch = on_step and (lambda step, latents: on_step(step, lambda: [latents()]))
            each = zip(pairs, prompts, seeds, strict=True)
            how = {"on_step": watch, "bits": bits, "maps": maps}
            made = (self.fuse_prompts(p, [words], seed=s, **how, **options) for p, words, s in each)
            return [next(results) for results in made]
        given = [None] * len(pairs) if noise is None else list(noise)
        depth = {"bits": image.checked_bits(bits), "maps": maps}
        return [
            finish() for finish in next(self._fuse(pairs, [prompts], seeds, given, on_step, depth, options))
        ]

    def _fuse(
        self, pairs, batches, seeds, given, on_step, depth, options, *, rows: int = 1
    ) -> Iterator[list[Callable[[], Fused]]]:
        """For each list of prompts, one per pair: what gives the result of each pair.

        On one batch axis, unless one of them is so large that it is fused in tiles: then one after another.
        """
        for seed in seeds:
            check_seed(seed)
        run = Run(self.networks, self.settings(**options), on_step, Stopwatch(), **depth, rows=rows)
        scenes = [scene.read(images) for images in pairs]
        batches = [[render(prompt) for prompt in batch] for batch in batches]
        tilings = [shapes.choose_tiles(*each.size, self.config.shapes, run.settings) for each in scenes]
        if not any(tilings):
            return whole(run, scenes, batches, seeds, given)
        if len(pairs) == 1:
            return tiled(run, scenes[0], tilings[0], batches, seeds, given)
        each = []
        for i, one in enumerate(scenes):
            own = [[batch[i]] for batch in batches], [seeds[i]], [given[i]]
            each.append(self._fuse([one.pictures], *own, on_step, depth, options))
        return ([finish for (finish,) in row] for row in zip(*each, strict=True))

    def plan(
        self,
        height: int,
        width: int,
        prompt: str,
        *,
        bits: int = 8,
        maps: bool = True,
        overlaps: bool = False,
        batch: int = 1,
        **options,
    ) -> Plan:
        """What fusing a pair of this size will cost; runs but a short product, for the machine's speed.

        bits: of sources and result. maps: as in `fuse`. overlaps: whether another one is finished meanwhile.
        batch: pictures on the batch axis, where it is in one piece.
        """
        chosen = self.settings(**options)
        how = {"bits": bits, "maps": maps, "overlaps": overlaps, "batch": batch}
        return forecast.plan(self.networks, (height, width), prompt, chosen, **how)

    def settings(self, **options) -> SamplingConfig:
        """The options over the checkpoint's settings, checked."""
        return settings.choose(self.config, options)

    @property
    def networks(self) -> Networks:
        return Networks(self.config, self.transformer, self.vae, self.tokenizer, self.folder)

    def encode(self, images: Sequence, *, max_side: int | None = None) -> Sources:
        """Reads images of one size and gives their latents, the mode of the VAE's posterior.

        max_side: in pixels; default: the checkpoint's.
        """
        longest = self.config.sampling.max_side if max_side is None else max_side
        return passes.encode(self.networks, scene.read(images), max_side=longest)

    def decode(self, latents: np.ndarray, sizes: Geometry) -> np.ndarray:
        """Latents [h, w, C] -> pixels float32 [H, W, 3] in [-1, 1] of the native size."""
        return image.restore(passes.decode(self.networks, latents[None])[0], sizes)
