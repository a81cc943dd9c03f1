# SPDX-License-Identifier: Apache-2.0
"""Image files: read what a camera wrote, keep the geometry, write atomically; uint8 <-> float only here."""

import json
import os
import secrets
import struct
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps, PngImagePlugin

MIN_SIDE = 16  # pixels: one patch of the released VAE
MAX_ASPECT = 8  # the longer side by the shorter
MAX_PIXELS = 100_000_000
FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
}
SAVE_OPTIONS = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"lossless": True},
    "TIFF": {"compression": "tiff_lzw"},
}
DESCRIPTION = 0x010E  # EXIF tag ImageDescription: where formats without text chunks keep the metadata
MAX_SIDES = {"JPEG": 65500, "WEBP": 16383}  # pixels that libjpeg and libwebp can write
MAX_DESCRIPTION = 60_000  # bytes; all EXIF data of a JPEG must fit into 64 KB
MARK, SOFTWARE = "software", "ditfuse-jax"  # in the metadata of every picture that is written here
# what Pillow's decoders raise on damaged files
BROKEN_FILE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    struct.error,
)


class Geometry(NamedTuple):
    """Sizes (height, width) on the way of an image through the model, all in pixels."""

    native: tuple[int, int]  # of the first input, and of the result
    fused: tuple[int, int]  # native, or scaled down
    padded: tuple[int, int]  # fused, padded at the bottom and right to a shape that the model knows


def fit(image: np.ndarray, sizes: Geometry) -> np.ndarray:
    """uint8 [H, W, 3] of the native -> of the padded size: Lanczos down if needed, then reflected borders."""
    if sizes.fused != sizes.native:
        image = np.asarray(Image.fromarray(image).resize(sizes.fused[::-1], Image.Resampling.LANCZOS))
    bottom, right = (pad - side for pad, side in zip(sizes.padded, sizes.fused, strict=True))
    return np.pad(image, ((0, bottom), (0, right), (0, 0)), mode="reflect")


def restore(pixels: np.ndarray, sizes: Geometry) -> np.ndarray:
    """float32 [H, W, 3] in [-1, 1] of the padded size -> the native size: `fit` undone.

    Works on floats, so that rounding happens once, in `to_image`.
    """
    pixels = pixels[: sizes.fused[0], : sizes.fused[1]]
    if sizes.fused != sizes.native:
        planes = [Image.fromarray(np.ascontiguousarray(pixels[..., c])) for c in range(pixels.shape[-1])]
        planes = [np.asarray(plane.resize(sizes.native[::-1], Image.Resampling.LANCZOS)) for plane in planes]
        pixels = np.stack(planes, axis=-1)
    return np.clip(pixels, -1.0, 1.0)


def to_pixels(image: np.ndarray) -> np.ndarray:
    """uint8 [..., 3] -> float32 in [-1, 1], in the reference's order of operations, so bit for bit."""
    return (image.astype(np.float32) / np.float32(255) - np.float32(0.5)) / np.float32(0.5)


def to_image(pixels: np.ndarray) -> np.ndarray:
    """float32 [..., 3] in [-1, 1] -> uint8, clipped and rounded (the reference truncates)."""
    return np.rint(np.clip(pixels * 0.5 + 0.5, 0.0, 1.0) * 255.0).astype(np.uint8)


def read(source) -> np.ndarray:
    """An input of the library as uint8 [H, W, 3] RGB, turned upright by its EXIF tag.

    Grey is repeated over the channels, 16-bit values are scaled to 8 bits (65535 -> 255, never
    clipped or stretched), transparent pixels are laid over black.

    Args:
      source: a path, a PIL image, or an array: uint8 or uint16 [H, W], uint8 [H, W, 3] or [H, W, 4].
    Raises ValueError that names file, rule and way out for whatever is no still image of usable size.
    """
    if isinstance(source, np.ndarray):
        return _check_side(_rgb(_from_array(source), "the array"), "the array")
    if isinstance(source, Image.Image):
        return _check_side(_decode(source, "the PIL image"), "the PIL image")
    return _check_side(_read_file(Path(source)), str(source))


def read_size(file: Path) -> tuple[int, int]:
    """Height, width of an image file by its header alone, before its EXIF tag turns it upright.

    Raises ValueError as `read` does for a file that is no image or has no usable size.
    """
    if not file.is_file():
        raise ValueError(f"{file}: no such file; check the path")
    with _open(file) as image:
        check_size(image.height, image.width, str(file))
        return image.height, image.width


def _read_file(file: Path) -> np.ndarray:
    if not file.is_file():
        raise ValueError(f"{file}: no such file; check the path")
    with _open(file) as image:
        return _decode(image, str(file))


def _open(file: Path) -> Image.Image:
    """The image with its header read, but no pixels decoded."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # MAX_PIXELS is checked instead
            return Image.open(file)
    except Image.DecompressionBombError as error:
        raise ValueError(_too_large(str(file), "far more than 100")) from error
    except BROKEN_FILE as error:
        raise ValueError(
            f"{file}: not an image that can be read; give a PNG, JPEG, TIFF, WebP or BMP file"
        ) from error


def _decode(image: Image.Image, name: str) -> np.ndarray:
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(_too_large(name, f"{image.width * image.height / 1e6:.0f}"))
    try:
        frames = getattr(image, "n_frames", 1)
        image.load()
        upright = ImageOps.exif_transpose(image)
    except BROKEN_FILE as error:
        raise ValueError(f"{name}: truncated or damaged ({error}); copy or export the file again") from error
    # An MPO is a phone's JPEG with a thumbnail or second view behind it: its first picture is the photo.
    if frames > 1 and image.format != "MPO":
        raise ValueError(
            f"{name}: holds {frames} frames or pages; give one still image, save the wanted frame"
        )
    return _rgb(upright, name)


def _too_large(name: str, megapixels: str) -> str:
    return f"{name}: {megapixels} megapixels, more than {MAX_PIXELS // 10**6}; scale the image down first"


def _from_array(array: np.ndarray) -> Image.Image:
    grey = array.ndim == 2 and array.dtype in (np.uint8, np.uint16)
    colour = array.ndim == 3 and array.shape[-1] in (3, 4) and array.dtype == np.uint8
    if not (grey or colour) or 0 in array.shape:
        raise ValueError(
            f"array {array.dtype}{list(array.shape)} is not an image: give uint8 [H, W, 3], or [H, W] for "
            "grey; scale floats in [0, 1] by 255 and round first"
        )
    return Image.fromarray(np.ascontiguousarray(array))


def _rgb(image: Image.Image, name: str) -> np.ndarray:
    """uint8 [H, W, 3] of an image in any of Pillow's modes."""
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        grey = _scale_deep(np.asarray(image), image.mode, name)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        image = Image.alpha_composite(black, image)
    return np.asarray(image.convert("RGB"))


def _scale_deep(values: np.ndarray, mode: str, name: str) -> np.ndarray:
    """One-channel 16-bit integers, or floats in [0, 1], as uint8."""
    top = 1.0 if mode == "F" else 65535.0
    if not (values.min() >= 0 and values.max() <= top):
        raise ValueError(
            f"{name}: values {values.min()} .. {values.max()} lie outside 0 .. {top:g}; "
            "save it as 8- or 16-bit PNG or TIFF"
        )
    return np.rint(values.astype(np.float64) * (255.0 / top)).astype(np.uint8)


def _check_side(image: np.ndarray, name: str) -> np.ndarray:
    check_size(image.shape[0], image.shape[1], name)
    return image


def check_size(height: int, width: int, name: str) -> None:
    """Raises ValueError for sides, in pixels, that cannot be fused: too short, or too unequal."""
    if min(height, width) < MIN_SIDE:
        raise ValueError(
            f"{name}: {width} x {height} pixels, a side is under {MIN_SIDE}; give a larger image"
        )
    if max(height, width) > MAX_ASPECT * min(height, width):
        raise ValueError(
            f"{name}: {width} x {height} pixels, the longer side is over {MAX_ASPECT} times the shorter; "
            "crop it, or fuse it in parts"
        )


def check_same_size(first: np.ndarray, second: np.ndarray, names: tuple[str, str]) -> None:
    """Raises ValueError unless both images [H, W, 3] have one size: fused pixels must show the same point."""
    if first.shape != second.shape:
        sizes = " and ".join(
            f"{name} {image.shape[1]} x {image.shape[0]}"
            for name, image in zip(names, (first, second), strict=True)
        )
        raise ValueError(f"different sizes: {sizes}; register the pair, then crop or resize both to one size")


def check_writable(file: Path, *, overwrite: bool = False) -> str:
    """The format that a file name asks for.

    Raises ValueError for a suffix that no images are written as, a path that cannot be written, a symbolic
    link, and a file that `write` did not make. With overwrite the last one may be replaced.
    """
    suffix = file.suffix.lower()
    if suffix not in FORMATS:
        raise ValueError(
            f"{file}: cannot write {suffix or 'a name without suffix'}; use one of {' '.join(FORMATS)}"
        )
    try:
        os.lstat(file)
    except FileNotFoundError:
        pass  # the usual case
    except OSError as error:
        raise ValueError(f"{file} cannot be written: {error.strerror}; choose another name") from error
    if file.is_symlink():
        raise ValueError(f"{file} is a symbolic link, which is not replaced; choose another name")
    if file.exists() and not file.is_file():
        raise ValueError(f"{file} is no file, so no picture can take its place; choose another name")
    if not overwrite and file.exists() and file.stat().st_size and read_metadata(file) is None:
        raise ValueError(
            f"{file} is there already and was not written by {SOFTWARE}; choose another name, or replace it "
            "with --overwrite (overwrite=True in Python)"
        )
    return FORMATS[suffix]


def check_fits(file: Path, height: int, width: int) -> None:
    """Raises ValueError for a picture that is too large for the format of its file name."""
    limit = MAX_SIDES.get(FORMATS[file.suffix.lower()], MAX_PIXELS)
    if max(height, width) > limit:
        raise ValueError(
            f"{file}: {width} x {height} pixels, a side is over {limit}, the most in this format; "
            "choose .png or .tif"
        )


def read_metadata(file: Path) -> dict[str, str] | None:
    """The metadata of a picture that `write` made; None for every other file. Decodes no pixels."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(file, formats=sorted(set(FORMATS.values()))) as image:
                png = image.format == "PNG"
                found = image.info if png else json.loads(image.getexif().get(DESCRIPTION, "null"))
    except (*BROKEN_FILE, TypeError, RecursionError, Image.DecompressionBombError):
        return None
    if not isinstance(found, dict) or found.get(MARK) != SOFTWARE:
        return None
    return {key: value for key, value in found.items() if isinstance(value, str) and key != MARK}


def write(file, image: np.ndarray, *, metadata: Mapping[str, str], overwrite: bool = False) -> None:
    """Writes uint8 [H, W, 3] under a temporary name, then renames: `file` is whole or not there.

    The format follows the suffix. metadata becomes PNG text chunks, elsewhere JSON in ImageDescription, with
    the mark by which `read_metadata` knows the picture again. Raises ValueError as `check_writable` does.
    """
    file = Path(file)
    kind = check_writable(file, overwrite=overwrite)
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{secrets.token_hex(8)}.part")
    options = SAVE_OPTIONS.get(kind, {}) | _metadata_option(kind, {**metadata, MARK: SOFTWARE})
    try:
        with part.open("x+b") as stream:
            Image.fromarray(image).save(stream, kind, **options)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(part, file)
    finally:
        part.unlink(missing_ok=True)


def _metadata_option(kind: str, metadata: Mapping[str, str]) -> dict:
    if kind == "PNG":
        text = PngImagePlugin.PngInfo()
        for key, value in metadata.items():
            text.add_text(key, value)  # values beyond Latin-1 become UTF-8 chunks
        return {"pnginfo": text}
    if kind == "BMP":
        return {}  # the format has no place for text
    exif = Image.Exif()
    exif[DESCRIPTION] = _description(dict(metadata))
    return {"exif": exif}


def _description(metadata: dict[str, str]) -> str:
    """JSON of the metadata, escaped, since EXIF strings are ASCII; the longest text is cut until it fits."""
    while len(text := json.dumps(metadata)) > MAX_DESCRIPTION:
        key = max(metadata, key=lambda key: len(metadata[key]))
        metadata[key] = metadata[key][: len(metadata[key]) * 9 // 10 - 3] + "..."
    return text
