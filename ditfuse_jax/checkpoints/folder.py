# SPDX-License-Identifier: Apache-2.0
"""A checkpoint folder: read, verify, shard, write.

    config.json            {"format", "version", "model", "vae", "sampling", "provenance"}
    tokenizer.json ...     the tokenizer's files as they came
    model.safetensors      the transformer: names are dot paths of the modules, layers stacked on axis 0
    vae.safetensors        the autoencoder

A folder appears under its name only when it is complete.
"""

import hashlib
import json
import shutil
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

import jax
import ml_dtypes
import numpy as np

from ditfuse_jax.checkpoints.layout import (
    ADAPTER_CONFIG,
    CONFIG_FILE,
    FORMAT,
    MODEL_FILE,
    PEFT_CONFIG,
    TOKENIZER_FILES,
    VAE_FILE,
    VAE_FORMAT,
    VERSION,
)
from ditfuse_jax.checkpoints.safetensors import open_tensors, save_tensors
from ditfuse_jax.checkpoints.target import new_folder
from ditfuse_jax.config import CheckpointConfig, VAEConfig, from_dict, to_dict
from ditfuse_jax.text import read_json

LOW = np.dtype(ml_dtypes.bfloat16)


def read_folder(folder: Path) -> tuple[CheckpointConfig, dict]:
    """Config and provenance of a checkpoint folder; raises ValueError for another, saying what it is."""
    values = _read_config(Path(folder), (FORMAT,))
    provenance = values.pop("provenance", {})
    return from_dict(CheckpointConfig, values, where=str(Path(folder) / CONFIG_FILE)), provenance


def read_vae_folder(folder: Path) -> tuple[VAEConfig, dict]:
    """Config and provenance of the autoencoder in a checkpoint folder, or in a folder that holds it alone."""
    values = _read_config(Path(folder), (FORMAT, VAE_FORMAT))
    where = str(Path(folder) / CONFIG_FILE)
    return from_dict(VAEConfig, values.get("vae", {}), where=where), values.get("provenance", {})


def _read_config(folder: Path, formats: tuple[str, ...]) -> dict:
    """config.json without its format and version, which are checked."""
    if not folder.is_dir():
        raise ValueError(f"no checkpoint folder {folder}; make one with `python -m convert`")
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise ValueError(f"{folder} has no {CONFIG_FILE}, so it is no checkpoint folder; {_advice(folder)}")
    values = read_json(path)
    if (kind := values.pop("format", None)) not in formats:
        alone = "it holds an autoencoder alone; name a whole checkpoint"
        raise ValueError(f"{path} is not of this kind: {alone if kind == VAE_FORMAT else _advice(folder)}")
    if (version := values.pop("version", None)) != VERSION:
        raise ValueError(
            f"{path} has version {version}, this library reads {VERSION}; convert the checkpoint again"
        )
    return values


def _advice(folder: Path) -> str:
    if (folder / ADAPTER_CONFIG).is_file() or (folder / PEFT_CONFIG).is_file():
        return "it is an adapter: load it with lora=... on top of a checkpoint"
    return "convert published weights with `python -m convert omnigen SRC DST`"


def read_config(folder: Path) -> CheckpointConfig:
    """`config.json` of a checkpoint folder, without its provenance."""
    return read_folder(folder)[0]


def fingerprint(folder: Path, lora: Path | None) -> str:
    """Name and short hash of a checkpoint's config.json, which records its source, and the adapter's name."""
    digest = hashlib.sha256((folder / CONFIG_FILE).read_bytes()).hexdigest()[:12]
    return f"{folder.resolve().name}-{digest}" + (f"+{lora.resolve().name}" if lora else "")


def load_params(
    path: Path,
    shapes: Mapping[str, jax.ShapeDtypeStruct],
    sharding: Mapping[str, jax.sharding.Sharding] | None = None,
    *,
    only: Collection[str] | None = None,
    check_finite: bool = False,
) -> dict[str, jax.Array]:
    """Reads a tensor file of a checkpoint folder, strictly, without holding it in memory twice.

    Tensors are memory-mapped. On the CPU one that is already in the wanted dtype is used in place (its pages
    stay the file's), otherwise it is cast, tensor by tensor; each device gets only the slice it holds.

    Args:
      path: `model.safetensors` or `vae.safetensors`.
      shapes: {dot path: anything with .shape and .dtype}, as the result is to be; the file must hold these
        tensors and no others. Whole numbers stay such, floating point is cast.
      sharding: {dot path: sharding}; default: the first device.
      only: the tensors to read; default: all of them.
      check_finite: refuse NaN and infinity in them, which reads them all; training starts so.
    Raises ValueError with all misfits at once, or that the file is missing, truncated or damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path} is missing; the checkpoint folder is incomplete, convert or copy it again")
    stored = open_tensors(path)
    _check_names(path, stored, shapes)
    wanted = [name for name in shapes if only is None or name in only]
    if check_finite:
        _check_numbers(path, stored, wanted)
    first = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return {
        name: _place(stored[name], np.dtype(shapes[name].dtype), sharding[name] if sharding else first)
        for name in wanted
    }


def check_file(path: Path, shapes: Mapping[str, jax.ShapeDtypeStruct]) -> None:
    """Raises ValueError as `load_params` does, and for NaN and infinity; reads the file, keeps nothing."""
    load_params(path, shapes, only=())
    _check_numbers(path, open_tensors(path), shapes)


def _check_numbers(path: Path, stored: Mapping[str, np.ndarray], names: Iterable[str]) -> None:
    if wrong := [name for name in names if not is_finite(stored[name])]:
        raise ValueError(
            f"{path} holds NaN or infinity in {', '.join(sorted(wrong))}; copy or convert it again"
        )


def _check_names(path: Path, stored: Mapping[str, np.ndarray], shapes: Mapping) -> None:
    problems = [f"{name}: missing in the file" for name in sorted(shapes.keys() - stored.keys())]
    problems += [f"{name}: the model has no such parameter" for name in sorted(stored.keys() - shapes.keys())]
    for name in sorted(stored.keys() & shapes.keys()):
        have, want = stored[name], shapes[name]
        if have.shape != tuple(want.shape):
            problems.append(f"{name}: the file has {have.shape}, the model wants {tuple(want.shape)}")
        elif (have.dtype.kind == "i") != (np.dtype(want.dtype).kind == "i"):
            problems.append(f"{name}: the file has {have.dtype}, the model wants {np.dtype(want.dtype)}")
    if problems:
        raise ValueError(
            f"{path} does not fit its {CONFIG_FILE}; convert the checkpoint again:\n  "
            + "\n  ".join(problems)
        )


def _place(array: np.ndarray, dtype: np.dtype, sharding) -> jax.Array:
    return jax.make_array_from_callback(array.shape, sharding, lambda index: _aligned(array[index], dtype))


def _aligned(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """The array in `dtype`: itself where nothing changes, else a 64-byte aligned copy that JAX takes."""
    if array.dtype == dtype and array.flags.c_contiguous:
        return array
    room = np.empty(array.size * dtype.itemsize + 64, np.uint8)
    start = -room.ctypes.data % 64
    copy = room[start : start + array.size * dtype.itemsize].view(dtype).reshape(array.shape)
    np.copyto(copy, array, casting="unsafe")
    return copy


def is_finite(array: np.ndarray) -> bool:
    """Whether no element is NaN or infinite; for bfloat16 by the exponent bits, as numpy has no fast path."""
    if array.dtype == LOW:
        flat = np.ascontiguousarray(array).reshape(-1).view(np.uint16)
        return all((flat[at : at + 2**22] & 0x7F80 != 0x7F80).all() for at in range(0, flat.size, 2**22))
    flat = array.reshape(-1)
    return all(np.isfinite(flat[at : at + 2**22]).all() for at in range(0, flat.size, 2**22))


def write_config(folder: Path, config: CheckpointConfig, provenance: Mapping) -> None:
    """Writes `config.json`; it comes last, so a folder without it is an unfinished one."""
    _write_config(
        folder, {"format": FORMAT, "version": VERSION, **to_dict(config), "provenance": dict(provenance)}
    )


def write_vae_config(folder: Path, config: VAEConfig, provenance: Mapping) -> None:
    """`write_config` of a folder that holds an autoencoder alone."""
    values = {
        "format": VAE_FORMAT,
        "version": VERSION,
        "vae": to_dict(config),
        "provenance": dict(provenance),
    }
    _write_config(folder, values)


def _write_config(folder: Path, values: Mapping) -> None:
    (folder / CONFIG_FILE).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def check_tokenizer(folder: Path) -> None:
    """ValueError unless `folder` has a tokenizer.json and all of its tokenizer's JSON files are whole."""
    if not (folder / "tokenizer.json").is_file():
        raise ValueError(
            f"{folder} has no tokenizer.json; download tokenizer.json, tokenizer_config.json and "
            f"special_tokens_map.json of the checkpoint into it"
        )
    for name in TOKENIZER_FILES:
        if name.endswith(".json") and (folder / name).is_file():
            read_json(folder / name)


def copy_tokenizer(source: Path, target: Path) -> None:
    """Copies the tokenizer's files; raises ValueError as `check_tokenizer` does."""
    check_tokenizer(source)
    for name in TOKENIZER_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)


def save_folder(
    folder: Path,
    config: CheckpointConfig,
    *,
    model: Mapping[str, jax.Array],
    vae: Mapping[str, jax.Array],
    tokenizer: Path,
    provenance: Mapping,
    sources: Sequence[Path] = (),
    overwrite: bool = False,
) -> None:
    """Writes a checkpoint folder from parameters in memory.

    Args:
      model, vae: {dot path: array}, in the dtypes to store.
      tokenizer: folder whose tokenizer files are copied.
      provenance: JSON values that say where the weights come from.
      sources: folders that they come from, see `check_target`.
    """
    with new_folder(folder, sources=[*sources, tokenizer], overwrite=overwrite) as partial:
        save_tensors(partial / MODEL_FILE, model, {"format": FORMAT})
        save_tensors(partial / VAE_FILE, vae, {"format": FORMAT})
        copy_tokenizer(Path(tokenizer), partial)
        write_config(partial, config, provenance)
