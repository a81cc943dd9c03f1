# SPDX-License-Identifier: Apache-2.0
"""The safetensors format, read through memory maps and written as a stream.

A file is an 8-byte little-endian length, a JSON header {name: {dtype, shape, data_offsets}}, then the bytes.
The safetensors package writes only what is in memory; here a tensor is written piece by piece, so any file
needs little of it. Tensors whose size is a multiple of 64 bytes come first, and the data starts on such a
multiple: XLA can then use a mapped tensor in place, without a copy.
"""

import json
import math
import mmap
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import ml_dtypes
import numpy as np

from ditfuse_jax.text import quoted

ALIGNMENT = 64
MAX_HEADER = 100_000_000  # bytes; the limit of the safetensors package
DTYPES = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
    "I64": np.dtype(np.int64),
    "I32": np.dtype(np.int32),
    "I16": np.dtype(np.int16),
    "I8": np.dtype(np.int8),
    "U8": np.dtype(np.uint8),
    "BOOL": np.dtype(np.bool_),
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}


class Spec(NamedTuple):
    """What a header says of one tensor."""

    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


class Entry(NamedTuple):
    spec: Spec
    start: int  # byte in the file


def read_header(path: Path) -> dict[str, Entry]:
    """Every tensor of a safetensors file; raises ValueError for a damaged, incomplete or other file."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(8)
        length = int.from_bytes(head, "little") if len(head) == 8 else -1
        if head.startswith(b"version "):
            raise ValueError(
                f"{path} is a Git LFS pointer, not the weights; run `git lfs pull` or download the file"
            )
        if head.startswith((b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")):
            raise ValueError(
                f"{path} is a pickle under another name; pickles run code when opened, use safetensors"
            )
        if length < 2 or length > min(MAX_HEADER, size - 8):
            raise _damaged(path, f"its header should have {length} bytes, the file has {size}")
        text = file.read(length)
    try:
        header = json.loads(text)
        entries = {
            name: _entry(name, item, 8 + length) for name, item in header.items() if name != "__metadata__"
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _damaged(path, f"its header cannot be read ({quoted(str(error))})") from None
    _check_layout(path, entries, 8 + length, size)
    return entries


def _entry(name: str, item: dict, data: int) -> Entry:
    if item["dtype"] not in DTYPES:
        raise ValueError(f"{name} has type {item['dtype']}, which is none of {', '.join(DTYPES)}")
    start, stop = item["data_offsets"]
    if any(type(number) is not int or not 0 <= number < 2**63 for number in (start, stop, *item["shape"])):
        raise ValueError(f"{name} has offsets or sides that are no whole numbers of 63 bits")
    spec = Spec(tuple(item["shape"]), DTYPES[item["dtype"]])
    if stop - start != spec.nbytes:
        raise ValueError(f"{name} has {stop - start} bytes, its shape {spec.shape} needs {spec.nbytes}")
    return Entry(spec, data + start)


def _check_layout(path: Path, entries: dict[str, Entry], data: int, size: int) -> None:
    end = data
    for entry in sorted(entries.values(), key=lambda entry: (entry.start, entry.spec.nbytes)):
        if entry.start != end:
            raise _damaged(path, "its tensors overlap or leave holes")
        end = entry.start + entry.spec.nbytes
    if end != size:
        raise _damaged(path, f"it has {size} bytes and should have {end}")


def _damaged(path: Path, why: str) -> ValueError:
    return ValueError(f"{path} is truncated or not a safetensors file: {why}; copy or download it again")


def open_tensors(path: Path) -> dict[str, np.ndarray]:
    """{name: view of the mapped file}. Nothing is read before it is used; writing leaves the file alone."""
    entries = read_header(path)
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    return {
        name: np.frombuffer(mapped, entry.spec.dtype, math.prod(entry.spec.shape), entry.start).reshape(
            entry.spec.shape
        )
        for name, entry in entries.items()
    }


def write_tensors(
    path: Path,
    specs: Mapping[str, Spec],
    pieces: Callable[[str], Iterable[np.ndarray]],
    metadata: Mapping[str, str],
) -> None:
    """Writes a safetensors file as a stream.

    Args:
      specs: shape and dtype of every tensor.
      pieces: gives the tensor of a name as arrays of its dtype that follow each other in memory order.
      metadata: strings for the header.
    """
    order = sorted(
        specs, key=lambda name: (specs[name].nbytes % ALIGNMENT != 0, -specs[name].dtype.itemsize, name)
    )
    with path.open("wb") as file:
        file.write(_header(order, specs, metadata))
        for name in order:
            written = 0
            for piece in pieces(name):
                assert piece.dtype == specs[name].dtype, f"{name}: a piece is {piece.dtype}"
                data = np.ascontiguousarray(piece).reshape(-1).view(np.uint8)
                written += file.write(data)
            assert written == specs[name].nbytes, f"{name}: {written} bytes of {specs[name].nbytes} came"
        file.flush()
        os.fsync(file.fileno())


def _header(order: list[str], specs: Mapping[str, Spec], metadata: Mapping[str, str]) -> bytes:
    header, start = {"__metadata__": dict(metadata)}, 0
    for name in order:
        stop = start + specs[name].nbytes
        shape = list(specs[name].shape)
        header[name] = {"dtype": NAMES[specs[name].dtype], "shape": shape, "data_offsets": [start, stop]}
        start = stop
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def save_tensors(path: Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """`write_tensors` of arrays; device arrays come to the host one at a time."""
    specs = {name: Spec(tuple(array.shape), np.dtype(array.dtype)) for name, array in tensors.items()}
    write_tensors(path, specs, lambda name: [np.asarray(tensors[name])], metadata)
