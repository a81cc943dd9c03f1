# SPDX-License-Identifier: Apache-2.0
"""What a thermal camera counted: the values of a grey picture of more than 8 bits, as they are stored.

Of a radiometric JPEG of FLIR they are degrees Celsius.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from ditfuse_jax.image import camera, decode, deep, flir, radiometric, reader
from ditfuse_jax.image.faults import BadFile, damage_named
from ditfuse_jax.image.geometry import check_size


def read_counts(source) -> np.ndarray | None:
    """float32 [H, W], upright, of a path, a PIL image or an array; None for what is no deep grey picture.

    Arrays are uint16, or float32 as this function gives them.
    Raises ValueError as `read` does, and for values that are no numbers.
    """
    if isinstance(source, np.ndarray):
        deep_grey = source.ndim == 2 and source.dtype in (np.uint16, np.float32)
        return source.astype(np.float32) if deep_grey else None
    if isinstance(source, Image.Image):
        deep_grey = source.mode.startswith("I;16") or source.mode in ("I", "F")
        return _checked(np.asarray(source), "the PIL image").astype(np.float32) if deep_grey else None
    if not isinstance(source, str | Path):
        return None
    found = read_stored(Path(source))
    return None if found is None else found.astype(np.float32)


def read_stored(file: Path) -> np.ndarray | None:
    """[H, W], upright: uint16 where a file stores that, else float32. None and errors as of `read_counts`."""
    if file.is_file() and camera.kind_of(file):
        return None
    if flir.is_flir(file):
        return radiometric.read_degrees(file)
    if reader.read_depth(file) == 8:
        return None
    with damage_named(str(file)):
        head = deep.header(file)
        if head.channels > 1 or head.pages > 1:
            return None
        stored = deep.values(file)[..., 0]
        kind = np.uint16 if stored.dtype == np.uint16 else np.float32
        turned = np.empty(stored.shape[:: -1 if head.orientation > 4 else 1], kind)
        decode.stored_view(turned, head.orientation)[...] = stored
    return _checked(turned, str(file))


def _checked(values: np.ndarray, name: str) -> np.ndarray:
    check_size(*values.shape, name)
    if not np.isfinite(values).all():
        raise BadFile(f"{name} holds values that are no numbers (NaN or infinite); export it again")
    return values
