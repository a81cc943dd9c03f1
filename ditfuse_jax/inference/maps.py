# SPDX-License-Identifier: Apache-2.0
"""Maps beside a fused picture as files: the source of each pixel, what no source explains, what is marked.

A PNG is grey, 8 bit: of the weights, 255 is the first source and 0 the second; of the invention, its levels;
of a mask, 255 where it is marked.
A .npy file holds the float32 array as it is.
"""

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ditfuse_jax import image

SUFFIXES = (".png", ".npy")


def check_writable(file: Path, *, overwrite: bool) -> None:
    """Raises ValueError for a suffix that no map has and for a file that must not be replaced.

    An array holds no mark of this program, so one that is there needs overwrite.
    """
    if file.suffix.lower() not in SUFFIXES:
        raise ValueError(f"{file}: a map is written as {' or '.join(SUFFIXES)}; choose one of these suffixes")
    if file.suffix.lower() == ".png":
        image.check_writable(file, overwrite=overwrite)
    elif file.is_symlink() or (file.exists() and not file.is_file()):
        raise ValueError(f"{file} is a link or no file, which is not replaced; choose another name")
    elif file.exists() and not overwrite:
        raise ValueError(f"{file} is there already; choose another name, or replace it with --overwrite")


def write_weights(file: Path, weights: np.ndarray, *, metadata: Mapping[str, str], overwrite: bool) -> None:
    """weights: float32 [H, W] in [0, 1]."""
    _write(file, weights, 255.0, metadata, overwrite)


def write_invented(file: Path, invented: np.ndarray, *, metadata: Mapping[str, str], overwrite: bool) -> None:
    """invented: float32 [H, W] in 8-bit levels."""
    _write(file, invented, 1.0, metadata, overwrite)


def write_mask(file: Path, mask: np.ndarray, *, metadata: Mapping[str, str], overwrite: bool) -> None:
    """mask: bool [H, W]; an array is written as float32 of 0 and 1."""
    _write(file, mask.astype(np.float32), 255.0, metadata, overwrite)


def _write(
    file: Path, values: np.ndarray, scale: float, metadata: Mapping[str, str], overwrite: bool
) -> None:
    check_writable(file, overwrite=overwrite)
    if file.suffix.lower() == ".png":
        levels = np.rint(np.clip(values * np.float32(scale), 0, 255)).astype(np.uint8)
        image.write(file, levels, metadata=metadata, overwrite=overwrite)
        return
    part = file.with_name(f".{secrets.token_hex(8)}.part")
    try:
        with part.open("xb") as stream:
            np.save(stream, values)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(part, file)
    finally:
        part.unlink(missing_ok=True)
