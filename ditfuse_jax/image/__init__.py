# SPDX-License-Identifier: Apache-2.0
"""Pictures: read what a camera wrote, keep the geometry, write atomically; uint8 <-> float only here."""

from ditfuse_jax.image.geometry import (
    MAX_ASPECT,
    MIN_SIDE,
    Geometry,
    check_same_size,
    check_size,
    fit,
    restore,
)
from ditfuse_jax.image.levels import luma, to_image, to_pixels
from ditfuse_jax.image.reader import FORMATS, BadFile, is_picture, read, read_file, read_labels, read_size
from ditfuse_jax.image.writer import MAX_SIDES, check_fits, check_writable, read_metadata, write

__all__ = [
    "FORMATS",
    "MAX_ASPECT",
    "MAX_SIDES",
    "MIN_SIDE",
    "BadFile",
    "Geometry",
    "check_fits",
    "check_same_size",
    "check_size",
    "check_writable",
    "fit",
    "is_picture",
    "luma",
    "read",
    "read_file",
    "read_labels",
    "read_metadata",
    "read_size",
    "restore",
    "to_image",
    "to_pixels",
    "write",
]
