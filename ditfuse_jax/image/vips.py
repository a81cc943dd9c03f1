# SPDX-License-Identifier: Apache-2.0
"""libvips, which has what Pillow lacks: 16-bit colours and ICC profiles at 16 bits. Imported on use."""

import functools

import numpy as np

from ditfuse_jax.image.faults import NoLibrary


@functools.cache
def loaded():
    """The module pyvips, keeping no pictures in memory. Raises NoLibrary where it cannot be loaded."""
    try:
        import pyvips
    except (ImportError, OSError) as error:
        raise NoLibrary(
            f"16-bit colours and colour profiles need libvips ({error}); pip install pyvips pyvips-binary"
        ) from error
    pyvips.cache_set_max(0)
    return pyvips


def from_array(pixels: np.ndarray):
    """uint8 or uint16 [H, W, C], contiguous, as an image of libvips that shares its memory."""
    height, width, channels = pixels.shape
    deep = pixels.dtype == np.uint16
    image = loaded().Image.new_from_memory(
        pixels.data, width, height, channels, "ushort" if deep else "uchar"
    )
    names = ("grey16", "rgb16") if deep else ("b-w", "srgb")
    return image.copy(interpretation=names[channels > 2])


def with_blob(image, name: str, content: bytes):
    """A copy of the image with a field of its metadata set."""
    image = image.copy()
    image.set_type(loaded().GValue.blob_type, name, content)
    return image
