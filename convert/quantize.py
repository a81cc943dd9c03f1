# SPDX-License-Identifier: Apache-2.0
"""A checkpoint folder with int8 kernels in its blocks, written layer by layer, and what that changes.

Embeddings, norms, the time and final layers and the autoencoder stay as they are.
"""

import dataclasses
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from ditfuse_jax import image, places
from ditfuse_jax.checkpoints import folder as weights
from ditfuse_jax.checkpoints.safetensors import Spec, open_tensors
from ditfuse_jax.checkpoints.target import new_folder
from ditfuse_jax.config import LINEARS
from ditfuse_jax.inference import sampler
from ditfuse_jax.inference.fuse import DiTFuse
from ditfuse_jax.inference.noise import starts
from ditfuse_jax.models.flow import Guidance, branches
from ditfuse_jax.ops import int8
from ditfuse_jax.prompt import render

from .export import array_pieces
from .jobs import finite, model_shapes, write_with_progress

SIDE = 128  # pixels of the pair that both folders fuse
KERNELS = {f"layers.{name}.kernel": f"layers.{name}.step" for name in LINEARS}


def quantize(folder: Path, target: Path, *, overwrite: bool = False) -> None:
    """Writes `target`.

    Raises ValueError for a folder that is int8 already, or whose kernels hold NaN or infinity.
    """
    config, provenance = weights.read_folder(folder)
    if config.model.int8:
        raise ValueError(
            f"{folder} holds int8 weights already; use it as it is, or quantize "
            f"{provenance.get('quantized_from', 'the folder that it was made of')} anew"
        )
    arrays = open_tensors(folder / weights.MODEL_FILE)
    check_names(folder / weights.MODEL_FILE, arrays, model_shapes(config.model))
    new = dataclasses.replace(config, model=dataclasses.replace(config.model, int8=True))
    with new_folder(target, sources=[folder], overwrite=overwrite) as partial:
        weights.copy_tokenizer(folder, partial)
        write_int8(arrays, partial / weights.MODEL_FILE)
        shutil.copyfile(folder / weights.VAE_FILE, partial / weights.VAE_FILE)
        weights.write_config(partial, new, {**provenance, "quantized_from": str(folder)})


def check_names(path: Path, arrays: Mapping, shapes: Mapping) -> None:
    if wrong := sorted(name for name in arrays.keys() | shapes if shape_of(arrays, name) != shapes.get(name)):
        raise ValueError(f"{path} does not fit its config.json in {', '.join(wrong)}; convert it again")


def shape_of(arrays: Mapping, name: str) -> tuple[int, ...] | None:
    return arrays[name].shape if name in arrays else None


def write_int8(arrays: Mapping[str, np.ndarray], path: Path) -> None:
    """One layer of one kernel in memory at a time; each is read twice, for its numbers and for its steps."""
    specs = {name: Spec(array.shape, array.dtype) for name, array in arrays.items()}
    of_step = {step: kernel for kernel, step in KERNELS.items()}
    for kernel, step in KERNELS.items():
        layers, height, width = arrays[kernel].shape
        specs[kernel] = Spec(arrays[kernel].shape, np.dtype(np.int8))
        specs[step] = Spec((layers, int8.runs(height), width), np.dtype(np.float32))

    def pieces(name: str) -> Iterator[np.ndarray]:
        if name not in KERNELS and name not in of_step:
            yield from array_pieces(arrays[name])
            return
        for layer in arrays[of_step.get(name, name)]:
            made = int8.quantize(finite(layer, name, path))
            yield made.kernel if name in KERNELS else made.step

    write_with_progress(path, specs, pieces, {"format": weights.FORMAT})


def errors(folder: Path, target: Path) -> list[str]:
    """Relative L2 errors in percent: of each block's weights, of the values that it makes, of the latents."""
    before, after = (DiTFuse.load(one) for one in (folder, target))
    of_weights = weight_errors(folder, target)
    of_values, of_velocity = activation_errors(before, after)
    lines = ["block   weights   values of the prefix     (relative L2 error in percent)"]
    pairs = zip(of_weights, of_values, strict=True)
    lines += [f"{n:5}   {100 * w:7.3f}   {100 * v:7.3f}" for n, (w, v) in enumerate(pairs)]
    dtype = before.config.model.dtype
    return [*lines, f"latents of one Euler step, {dtype}: {100 * of_velocity:.3f} % of the step"]


def weight_errors(folder: Path, target: Path) -> list[float]:
    """Of all kernels of each block together."""
    exact, ours = (open_tensors(one / weights.MODEL_FILE) for one in (folder, target))
    found = []
    for layer in range(len(exact[next(iter(KERNELS))])):
        wrong = whole = 0.0
        for kernel, step in KERNELS.items():
            want = exact[kernel][layer].astype(np.float32)
            made = int8.weights(ours[kernel][layer], ours[step][layer])
            wrong += np.square(made - want).sum(dtype=np.float64)
            whole += np.square(want).sum(dtype=np.float64)
        found.append((wrong / whole) ** 0.5)
    return found


def activation_errors(before: DiTFuse, after: DiTFuse) -> tuple[np.ndarray, float]:
    """Of the values in each block's prefix cache, and of the first of the checkpoint's Euler steps."""
    files = sorted((places.folder("examples") / "ivif").glob("image?.png"))
    sources = before.encode([np.ascontiguousarray(image.read(file)[:SIDE, :SIDE]) for file in files])
    (noise,) = starts([sources.latents.shape[1:]], [0], [None], count=1)
    chosen = before.config.sampling
    guidance = Guidance(chosen.guidance, chosen.image_guidance)
    row = sampler.Row(render("Fuse both images."), sources.latents)
    rows = sampler.layout([row], branches(guidance), before.tokenizer)
    values, moved = [], []
    for model in (before, after):
        cache = sampler.prefix(model.transformer, rows)
        values.append(np.asarray(cache.v, np.float32))
        made = sampler.sample(model.transformer, cache, rows, [noise], guidance=guidance, steps=1)
        moved.append(made[0] - noise[0])
    axes = tuple(range(1, values[0].ndim))
    wrong, whole = (np.sqrt(np.square(x).sum(axes)) for x in (values[1] - values[0], values[0]))
    return wrong / whole, float(np.linalg.norm(moved[1] - moved[0]) / np.linalg.norm(moved[0]))
