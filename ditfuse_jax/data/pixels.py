# SPDX-License-Identifier: Apache-2.0
"""Image and label files -> aligned uint8 crops: one window per sample, cut from every image of it."""

import io
import math
import struct
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageOps

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
_PNG_START, _PNG_END = b"\x89PNG", b"IEND\xaeB`\x82"
_REDUCED = {2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4, 8: cv2.IMREAD_REDUCED_COLOR_8}


class BadFile(ValueError):
    """A file that cannot be read: during a run it is replaced by another draw, with a warning."""


class Window(NamedTuple):
    """A part of an image, in pixels, and whether it is mirrored left to right."""

    top: int
    left: int
    height: int
    width: int
    flip: bool


def read(path: Path, *, shortest: int | None = None) -> np.ndarray:
    """RGB uint8 [H, W, 3], turned as EXIF says; grey is repeated, alpha dropped, 16 bits become 8.

    `shortest` lets a JPEG be decoded at 1/2, 1/4 or 1/8 of its size, as long as its short side keeps that
    many
    pixels. Raises BadFile naming the file and the reason.
    """
    data = _bytes(path)
    if not _complete(data):
        return _read_strict(data, path)
    flag = _REDUCED.get(_reduction(data, shortest), cv2.IMREAD_COLOR)
    image = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
    if image is None:
        raise BadFile(f"{path} cannot be decoded; repair or remove it")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def read_labels(path: Path) -> np.ndarray:
    """Class indices, uint8 [H, W]. Raises BadFile, or ValueError when it is not one channel of 8 bits."""
    labels = cv2.imdecode(np.frombuffer(_bytes(path), np.uint8), cv2.IMREAD_UNCHANGED)
    if labels is None:
        raise BadFile(f"{path} cannot be decoded; repair or remove it")
    if labels.ndim != 2 or labels.dtype != np.uint8:
        raise ValueError(
            f"{path} has shape {labels.shape}, {labels.dtype}; labels are one 8-bit channel of class indices"
        )
    return labels


def size_of(path: Path) -> tuple[int, int]:
    """(height, width) from the header, EXIF turn included. Raises BadFile."""
    try:
        with Image.open(path) as image:
            turned = image.getexif().get(0x0112, 1) >= 5
            return (image.width, image.height) if turned else (image.height, image.width)
    except (OSError, ValueError, SyntaxError) as error:
        raise BadFile(f"{path} cannot be read: {error}; repair or remove it") from error


def draw_window(rng, size: tuple[int, int], shape: tuple[int, int], *, smallest: float, flip: bool) -> Window:
    """A window of the shape's aspect inside an image of (height, width) `size`.

    Its side is uniform in [smallest, 1] of the largest that fits, its place uniform; mirrored by a fair coin
    if `flip`.
    """
    height, width = size
    largest = min(height / shape[0], width / shape[1])
    scale = largest * rng.uniform(smallest, 1.0)
    high = min(height, max(1, round(scale * shape[0])))
    wide = min(width, max(1, round(scale * shape[1])))
    top, left = int(rng.integers(height - high + 1)), int(rng.integers(width - wide + 1))
    return Window(top, left, high, wide, bool(flip and rng.random() < 0.5))


def centre_window(size: tuple[int, int], shape: tuple[int, int]) -> Window:
    """The largest centred window of the shape's aspect: what validation sees."""
    height, width = size
    scale = min(height / shape[0], width / shape[1])
    high, wide = min(height, max(1, round(scale * shape[0]))), min(width, max(1, round(scale * shape[1])))
    return Window((height - high) // 2, (width - wide) // 2, high, wide, False)


def cut(image: np.ndarray, window: Window, shape: tuple[int, int]) -> np.ndarray:
    """The window of `image`, resized to (height, width) `shape`; labels [H, W] keep their values."""
    part = image[window.top : window.top + window.height, window.left : window.left + window.width]
    if part.shape[:2] != tuple(shape):
        part = cv2.resize(part, (shape[1], shape[0]), interpolation=_interpolation(image, window, shape))
    return np.ascontiguousarray(part[:, ::-1] if window.flip else part)


def _interpolation(image, window: Window, shape) -> int:
    if image.ndim == 2:
        return cv2.INTER_NEAREST
    return cv2.INTER_AREA if window.height > shape[0] else cv2.INTER_CUBIC


def _bytes(path: Path) -> bytes:
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise BadFile(f"{path} cannot be read: {error.strerror}") from error
    if not data:
        raise BadFile(f"{path} is empty; repair or remove it")
    return data


def _complete(data: bytes) -> bool:
    """True when the file ends as its format does. OpenCV pads a truncated file with grey, silently."""
    return (data.startswith(_JPEG_START) and data.endswith(_JPEG_END)) or (
        data.startswith(_PNG_START) and data.endswith(_PNG_END)
    )


def _read_strict(data: bytes, path: Path) -> np.ndarray:
    """Pillow's way, which refuses truncated files and copes with bytes after the end."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            turned = ImageOps.exif_transpose(image)
            if turned.mode.startswith("I"):  # 16-bit grey: Pillow's own conversion clips instead of scaling
                turned = Image.fromarray((np.asarray(turned, np.int64) >> 8).clip(0, 255).astype(np.uint8))
            return np.array(turned.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise BadFile(f"{path} cannot be decoded: {error}; repair or remove it") from error


def _reduction(data: bytes, shortest: int | None) -> int:
    """1, 2, 4 or 8: how far a JPEG can be decoded smaller and keep `shortest` pixels on its short side."""
    if shortest is None or not data.startswith(_JPEG_START):
        return 1
    side = min(_jpeg_size(data))
    return next((factor for factor in (8, 4, 2) if math.ceil(side / factor) >= shortest), 1)


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """(height, width) of the first frame header, or (0, 0)."""
    at = 2
    while at + 9 < len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], struct.unpack_from(">H", data, at + 2)[0]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return struct.unpack_from(">HH", data, at + 5)
        at += 2 + length
    return 0, 0
