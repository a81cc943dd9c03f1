# SPDX-License-Identifier: Apache-2.0
"""Whole conversions: published folders to checkpoint folders, and back. Everything streams."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from ditfuse_jax.checkpoints.adapter import Adapter, read_adapter
from ditfuse_jax.checkpoints.flat import parameter_shapes
from ditfuse_jax.checkpoints.folder import (
    FORMAT,
    MODEL_FILE,
    VAE_FILE,
    check_tokenizer,
    copy_tokenizer,
    is_finite,
    write_config,
    write_vae_config,
)
from ditfuse_jax.checkpoints.layout import DIFFUSERS_STEM
from ditfuse_jax.checkpoints.safetensors import Spec, write_tensors
from ditfuse_jax.checkpoints.target import new_folder
from ditfuse_jax.config import (
    PATCH,
    CheckpointConfig,
    SamplingConfig,
    ShapesConfig,
    TransformerConfig,
    VAEConfig,
)
from ditfuse_jax.models import outline
from ditfuse_jax.text import read_json

from . import engine, omnigen
from .configs import (
    diffusers_config,
    official_config,
    original_vae_config,
    vae_config,
)
from .engine import Plan, spelling
from .lora import check_fit, describe, merged, merged_kernels
from .reader import PICKLES, Hashing, Tensors, locate, read_file, read_tensors, refusal, stamp
from .vae import vae_rules


class Component(NamedTuple):
    """One network of a source, checked against the rules and the model's shapes, not yet read."""

    source: Tensors
    plan: Plan
    shapes: dict[str, tuple[int, ...]]
    config: TransformerConfig | VAEConfig
    provenance: dict


class Problems:
    """Errors of several checks, raised together."""

    def __init__(self):
        self.found: list[str] = []

    def of(self, check: Callable):
        """What `check()` returns, or None with its ValueError noted."""
        try:
            return check()
        except ValueError as error:
            self.found.append(str(error))
            return None

    def check(self) -> None:
        """Raises ValueError with all that was noted."""
        if self.found:
            raise ValueError("\n".join(self.found))


def convert_omnigen(
    name: str,
    target: Path,
    *,
    lora: Path | None = None,
    dtype: str | None = None,
    vae: Path | None = None,
    overwrite: bool = False,
) -> None:
    """Writes a checkpoint folder.

    Args:
      name: a folder in the official or the diffusers layout, or a hub id, hf:owner/name.
      lora: adapter folder to merge into the weights.
      dtype: of the stored transformer; default: the source's. The autoencoder keeps its own dtype.
      vae: folder or file of the autoencoder, where the source has none.
    Raises ValueError in one sentence, or with a list of all that does not fit.
    """
    folder = locate(name)
    layout = layout_of(folder)
    tokenizer = folder / "tokenizer" if layout == "diffusers" else folder
    model, autoencoder, adapter = checked(folder, tokenizer, layout, lora=lora, dtype=dtype, vae=vae)
    provenance = {
        **stamp(name, folder),
        "layout": layout,
        "merged": describe(lora, adapter) if adapter else None,
        **model.provenance,
        **autoencoder.provenance,
    }
    sources = [path for path in (folder, lora, vae) if path]
    with new_folder(target, sources=sources, overwrite=overwrite) as partial:
        copy_tokenizer(tokenizer, partial)
        hashes = Hashing(folder, [*model.source.files, *autoencoder.source.files])
        stored = np.dtype(dtype) if dtype else None
        stream(model, partial / MODEL_FILE, dtype=stored, adapter=adapter)
        stream(autoencoder, partial / VAE_FILE)
        provenance["sha256"] = hashes.result()
        sampling = released_sampling(autoencoder.config)
        settings = CheckpointConfig(model=model.config, vae=autoencoder.config, sampling=sampling)
        write_config(partial, settings, provenance)


def checked(
    folder: Path, tokenizer: Path, layout: str, *, lora: Path | None, dtype: str | None, vae: Path | None
) -> tuple[Component, Component, Adapter | None]:
    """Transformer, autoencoder and adapter of a source; ValueError with all that does not fit."""
    problems = Problems()
    model = problems.of(lambda: read_model(folder, layout, dtype))
    autoencoder = problems.of(lambda: read_vae(vae_place(folder, vae)))
    adapter = problems.of(lambda: read_adapter(lora)) if lora else None
    if adapter and model:
        problems.of(lambda: check_fit(adapter, model.shapes, lora))
    problems.of(lambda: check_tokenizer(tokenizer))
    problems.check()
    return model, autoencoder, adapter


def released_sampling(vae: VAEConfig) -> SamplingConfig:
    """What released weights propose: OmniGen's own pipeline takes whole patches up to 1024 (`crop_arr`)."""
    shapes = ShapesConfig(step=PATCH * vae.factor, max_side=SamplingConfig().max_side)
    return SamplingConfig(shapes=shapes)


def layout_of(folder: Path) -> str:
    """`official` or `diffusers`; raises ValueError for a folder that is neither, and for a file."""
    if folder.is_file() and folder.suffix in PICKLES:
        raise ValueError(refusal(folder, MODEL_FILE))
    if folder.is_file():
        raise ValueError(f"{folder} is a file; name its folder")
    if (folder / "transformer").is_dir():
        return "diffusers"
    if (folder / "config.json").is_file():
        if read_json(folder / "config.json").get("format", "").startswith(FORMAT):
            raise ValueError(f"{folder} is converted already; use it as it is, or `convert export` it")
        return "official"
    if pickles := sorted(path for path in folder.glob("*") if path.suffix in PICKLES):
        raise ValueError(refusal(pickles[0], MODEL_FILE))
    raise ValueError(
        f"{folder} has neither config.json (official layout) nor transformer/ (diffusers layout); "
        "download the whole checkpoint, for example Shitao/OmniGen-v1"
    )


def read_model(folder: Path, layout: str, dtype: str | None) -> Component:
    """The transformer of a source folder."""
    place, stem, parse, rules = {
        "official": (folder, "model", official_config, omnigen.RULES),
        "diffusers": (folder / "transformer", DIFFUSERS_STEM, diffusers_config, omnigen.DIFFUSERS_RULES),
    }[layout]
    settings = read_json(place / "config.json")
    source = read_tensors(place, stem)
    stored = np.dtype(dtype) if dtype else source.dtype
    config = parse(settings, place / "config.json", "bfloat16" if stored.name == "bfloat16" else "float32")
    table = omnigen.find_table(source.arrays, config.width)
    if table and table.computed:
        rules = omnigen.without_table(rules)
    config = replace(config, position_table=bool(table and not table.computed))
    shapes = model_shapes(config)
    plan = engine.plan(source.arrays, rules, shapes, what=str(place))
    if dtype is None and (mixed := engine.mixed_types(source.arrays, plan)):
        raise ValueError(f"{place}: layers of {', '.join(mixed)} differ in type; choose one with --dtype")
    kept = {"source_config": settings, "dtype": stored.name, "source_dtype": source.dtype.name}
    kept["position_table"] = table and {"dtype": (np.dtype(dtype) if dtype else table.dtype).name}
    return Component(source, plan, shapes, config, kept)


def model_shapes(config: TransformerConfig) -> dict[str, tuple[int, ...]]:
    return {path: leaf.shape for path, leaf in parameter_shapes(outline.transformer(config)).items()}


def vae_shapes(config: VAEConfig) -> dict[str, tuple[int, ...]]:
    return {path: leaf.shape for path, leaf in parameter_shapes(outline.vae(config)).items()}


def vae_place(folder: Path, named: Path | None) -> Path:
    """Where the autoencoder of a checkpoint is; raises ValueError saying how to get one."""
    if named:
        return named
    if (folder / "vae").is_dir():
        return folder / "vae"
    raise ValueError(
        f"{folder} has no vae/ folder; download vae/config.json and vae/{DIFFUSERS_STEM}.safetensors "
        "of the checkpoint into it, or name an autoencoder with --vae"
    )


def read_vae(place: Path, scaling_factor: float | None = None) -> Component:
    """The autoencoder of a diffusers folder, or of a single file, which does not say its scaling factor."""
    if not place.exists():
        raise ValueError(f"{place} does not exist; name the folder or the safetensors file of an autoencoder")
    if place.is_file():
        settings, source = None, read_file(place)
        config = original_vae_config(source.arrays, place, scaling_factor)
    else:
        settings = read_json(place / "config.json")
        source, config = read_tensors(place, DIFFUSERS_STEM), vae_config(settings, place / "config.json")
    rules, shapes = vae_rules(config), vae_shapes(config)
    plan = engine.plan(source.arrays, rules, shapes, what=str(place))
    kept = {"vae_source_config": settings, "vae_spelling": spelling(plan, rules) if settings else []}
    return Component(source, plan, shapes, config, kept)


def convert_vae(
    source: Path, target: Path, *, scaling_factor: float | None = None, overwrite: bool = False
) -> None:
    """Writes a folder with an autoencoder alone."""
    component = read_vae(source, scaling_factor)
    with new_folder(target, sources=[source], overwrite=overwrite) as partial:
        hashes = Hashing(source if source.is_dir() else source.parent, component.source.files)
        stream(component, partial / VAE_FILE)
        provenance = {**stamp(str(source), source), **component.provenance, "sha256": hashes.result()}
        write_vae_config(partial, component.config, provenance)


def stream(
    component: Component, path: Path, *, dtype: np.dtype | None = None, adapter: Adapter | None = None
) -> None:
    """Writes a component under our names, one bounded piece of a tensor at a time."""
    arrays, plan = component.source.arrays, component.plan
    kernels = merged_kernels(adapter)

    def dtype_of(name: str) -> np.dtype:
        return dtype or arrays[plan[name][0][0].key].dtype

    def pieces(name: str) -> Iterator[np.ndarray]:
        for index, parts in enumerate(plan[name]):
            for block, piece in engine.rows(engine.layer(arrays, parts)):
                if name in kernels:
                    piece = merged(piece, name, index, block, adapter)
                yield finite(np.ascontiguousarray(piece, dtype_of(name)), name, path)

    specs = {name: Spec(shape, dtype_of(name)) for name, shape in component.shapes.items()}
    write_with_progress(path, specs, pieces, {"format": FORMAT})


def finite(piece: np.ndarray, name: str, path: Path) -> np.ndarray:
    """The piece; ValueError where it holds NaN or infinity, as the source does or as `--dtype` makes it."""
    if not is_finite(piece):
        raise ValueError(
            f"{path.name}: {name} would hold NaN or infinity; the source is damaged, download it again, or "
            "its numbers are too large for --dtype"
        )
    return piece


def write_with_progress(path: Path, specs: Mapping[str, Spec], pieces, metadata: Mapping[str, str]) -> None:
    """`write_tensors` with a bar on a terminal."""
    total = sum(spec.nbytes for spec in specs.values())
    with tqdm(total=total, unit="B", unit_scale=True, desc=path.name, disable=None) as bar:

        def counted(name: str) -> Iterator[np.ndarray]:
            for piece in pieces(name):
                yield piece
                bar.update(piece.nbytes)

        write_tensors(path, specs, counted, metadata)
