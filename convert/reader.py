# SPDX-License-Identifier: Apache-2.0
"""Published checkpoints on disk: which files they are, what they hold, what is missing. Nothing is loaded."""

import hashlib
import re
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

import ditfuse_jax
from ditfuse_jax.checkpoints import hub
from ditfuse_jax.checkpoints.safetensors import open_tensors
from ditfuse_jax.text import quoted, read_json

from .engine import FLOATS

PICKLES = (".pt", ".pth", ".ckpt", ".bin", ".pkl")


class Tensors(NamedTuple):
    arrays: dict[str, np.ndarray]  # views of memory-mapped files
    files: list[Path]

    @property
    def dtype(self) -> np.dtype:
        """The floating-point dtype that most of the bytes have."""
        sizes: dict[np.dtype, int] = {np.dtype(np.float32): 0}
        for array in self.arrays.values():
            if array.dtype.name in FLOATS:
                sizes[array.dtype] = sizes.get(array.dtype, 0) + array.nbytes
        return max(sizes, key=sizes.get)


def locate(source: str) -> Path:
    """The local folder (or file) of a path or of `hf:owner/name`; raises ValueError saying what to do."""
    if source.startswith(hub.PREFIX):
        return hub.fetch(source)
    path = Path(source).expanduser()
    if path.exists():
        return path
    near = f"hf:{source}" if hub.is_name(source) else "hf:Shitao/OmniGen-v1"
    raise ValueError(f"{quoted(source)[1:-1]} does not exist; name a folder, or a hub id as {near}")


def read_tensors(folder: Path, stem: str) -> Tensors:
    """The tensors of `stem`.safetensors in `folder`, or its shards; raises ValueError if some are missing."""
    single, index = folder / f"{stem}.safetensors", folder / f"{stem}.safetensors.index.json"
    if single.is_file():
        return _checked(open_tensors(single), [single])
    if index.is_file():
        return _read_shards(folder, index)
    if pickles := sorted(path.name for path in folder.glob("*") if path.suffix in PICKLES):
        raise ValueError(refusal(folder / pickles[0], single.name))
    raise ValueError(
        f"{folder} has no {single.name}; download it (or {index.name} and its shards) into this folder"
    )


def refusal(path: Path, wanted: str) -> str:
    """Why a pickle is not opened."""
    return (
        f"{path} is a pickle, which can run any code when it is opened, so it is refused; "
        f"download {wanted} of the same checkpoint instead, or save it as safetensors"
    )


def read_file(path: Path) -> Tensors:
    """The tensors of one safetensors file."""
    if path.suffix in PICKLES:
        raise ValueError(refusal(path, f"{path.stem}.safetensors"))
    return _checked(open_tensors(path), [path])


def _read_shards(folder: Path, index: Path) -> Tensors:
    places = read_json(index).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise ValueError(f"{index} has no weight_map; copy or download it again")
    for name in places.values():
        if not _plain_name(name):
            raise ValueError(
                f"{index} names the shard {quoted(name)}, which is no file name; shards lie beside "
                "the index, download it again"
            )
    files = sorted({folder / name for name in places.values()})
    if missing := [path.name for path in files if not path.is_file()]:
        raise ValueError(
            f"{folder} lacks {', '.join(missing)}, named in {index.name}; download the missing shards"
        )
    shards = {path.name: open_tensors(path) for path in files}
    lost = sorted(key for key, name in places.items() if key not in shards[name])
    extra = sorted(key for name, arrays in shards.items() for key in arrays if places.get(key) != name)
    if lost or extra:
        raise ValueError(
            f"{index.name} and the shards in {folder} disagree on {', '.join((lost + extra)[:8])}; "
            "download all of them again"
        )
    return _checked({key: shards[name][key] for key, name in places.items()}, files)


def _plain_name(name) -> bool:
    """Whether a file of that name lies in the folder itself, on every system."""
    return isinstance(name, str) and name not in ("", ".", "..") and not set(name) & set("/\\:\0")


def _checked(arrays: dict[str, np.ndarray], files: list[Path]) -> Tensors:
    if not arrays:
        raise ValueError(f"{files[0]} holds no tensors; use the published weights")
    return Tensors(arrays, files)


def sha256(paths: Iterable[Path]) -> dict[str, str]:
    """{file name: hash}, read as a stream."""
    hashes = {}
    for path in paths:
        with path.open("rb") as file:
            hashes[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return hashes


def licence(folder: Path) -> str | None:
    """The source's licence: the `license:` line of its model card, or the name of its licence file."""
    card = folder / "README.md"
    if card.is_file():
        match = re.search(
            r"^license:\s*(\S+)", card.read_text(encoding="utf-8", errors="replace"), re.MULTILINE
        )
        if match:
            return match[1]
    files = sorted(path.name for path in folder.glob("LICENSE*"))
    return f"see {files[0]} of the source" if files else None


def stamp(name: str, folder: Path) -> dict:
    """The part of provenance that every conversion has."""
    return {
        "source": name,
        "licence": licence(folder) if folder.is_dir() else None,
        "converted": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "tool": f"ditfuse-jax {ditfuse_jax.__version__}",
    }


class Hashing:
    """SHA-256 of files on a second thread, while the first converts, because hashing 15 GB takes long."""

    def __init__(self, folder: Path, files: list[Path]):
        self.folder, self.files, self.hashes = folder, files, {}
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        for path in self.files:
            inside = path.is_relative_to(self.folder)
            name = str(path.relative_to(self.folder)) if inside else str(path)
            self.hashes[name] = sha256([path])[path.name]

    def result(self) -> dict[str, str]:
        self.thread.join()
        return {name: self.hashes[name] for name in sorted(self.hashes)}
