# SPDX-License-Identifier: Apache-2.0
"""Arrays of other libraries as the reader of pictures takes them: JAX's, floats of a stated range, BGR."""

from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from PIL import Image

from ditfuse_jax.config import closest
from ditfuse_jax.image import Picture

CHANNELS = ("rgb", "bgr")
RANGES = "value_range=(0, 1), for example"


def readable(images: Sequence, *, channels: str, value_range: tuple[float, float] | None) -> Sequence:
    """The images with every array as uint8 or uint16 in RGB order; others as they are.

    Args:
      images: each a path, a PIL image, a Picture, or a NumPy or JAX array [H, W], [H, W, 3] or [H, W, 4].
      channels: "rgb" or "bgr", the order in colour arrays, OpenCV's being bgr.
      value_range: black and white of float arrays, such as (0, 1), (-1, 1) or (0, 255).
    Raises ValueError for other types, floats without a range or outside of it, and another order.
    """
    if channels not in CHANNELS:
        near = closest(str(channels), CHANNELS)
        raise ValueError(f"channels {channels!r} is not one of {', '.join(CHANNELS)}{near}")
    if not isinstance(images, Sequence | np.ndarray | jax.Array | Path):
        raise ValueError(f"images {_shown(images)} is no sequence; give a list of two images or more")
    if isinstance(images, str | Path):
        return images  # one picture: `scene.read` says that it is too few
    return [_readable(each, number, channels, value_range) for number, each in enumerate(images, 1)]


def _readable(source, number: int, channels: str, value_range):
    if isinstance(source, str | Path | Image.Image | Picture):
        return source
    if not isinstance(source, np.ndarray | jax.Array):
        raise ValueError(
            f"image {number} is {_shown(source)}; give a path, a PIL image, or an array uint8 [H, W, 3]"
        )
    array = np.asarray(source)
    if np.issubdtype(array.dtype, np.floating):
        array = _scaled(array, number, value_range)
    if channels == "bgr" and array.ndim == 3 and array.shape[-1] in (3, 4):
        array = np.concatenate([array[..., 2::-1], array[..., 3:]], axis=-1)
    return array


def _scaled(array: np.ndarray, number: int, value_range) -> np.ndarray:
    """uint8 of floats, rounded."""
    name = f"image {number} is {array.dtype}{list(array.shape)}"
    if value_range is None:
        raise ValueError(f"{name}; say what is black and what white with {RANGES}")
    black, white = _limits(value_range)
    low, high = (array.min(), array.max()) if array.size else (black, white)
    if not (low >= black and high <= white):  # also where it holds NaN
        raise ValueError(
            f"{name} with values {low:g} .. {high:g}, outside {black:g} .. {white:g}; clip it first"
        )
    return np.rint((array.astype(np.float64) - black) * (255 / (white - black))).astype(np.uint8)


def _limits(value_range) -> tuple[float, float]:
    try:
        black, white = map(float, value_range)
    except (TypeError, ValueError) as error:
        raise ValueError(f"value_range {value_range!r} is no pair of numbers; give {RANGES}") from error
    if not black < white:
        raise ValueError(f"value_range {value_range!r}: black must be less than white; give {RANGES}")
    return black, white


def _shown(value) -> str:
    return f"{value!r}"[:60] + f" of type {type(value).__name__}"
