# SPDX-License-Identifier: Apache-2.0
"""Pictures: read what a camera wrote, keep the geometry, write atomically; levels <-> floats only here."""

from ditfuse_jax.image.colour import convert, convert_floats
from ditfuse_jax.image.counts import read_counts, read_stored
from ditfuse_jax.image.decode import with_alpha
from ditfuse_jax.image.flir import is_flir
from ditfuse_jax.image.geometry import (
    MAX_ASPECT,
    MIN_SIDE,
    Geometry,
    check_same_size,
    check_size,
    fit,
    restore,
)
from ditfuse_jax.image.levels import luma, to_image, to_levels, to_pixels
from ditfuse_jax.image.picture import BITS, Origin, Picture, bits_of, checked_bits, deepened, seen, shallow
from ditfuse_jax.image.radiometric import read_pair
from ditfuse_jax.image.reader import (
    FORMATS,
    BadFile,
    is_picture,
    read,
    read_depth,
    read_file,
    read_labels,
    read_picture,
    read_size,
)
from ditfuse_jax.image.writer import (
    MAX_SIDES,
    check_depth,
    check_fits,
    check_plane,
    check_writable,
    depth_of,
    read_metadata,
    write,
    write_plane,
)

__all__ = [
    "BITS",
    "FORMATS",
    "MAX_ASPECT",
    "MAX_SIDES",
    "MIN_SIDE",
    "BadFile",
    "Geometry",
    "Origin",
    "Picture",
    "bits_of",
    "check_depth",
    "check_fits",
    "check_plane",
    "check_same_size",
    "check_size",
    "check_writable",
    "checked_bits",
    "convert",
    "convert_floats",
    "deepened",
    "depth_of",
    "fit",
    "is_flir",
    "is_picture",
    "luma",
    "read",
    "read_counts",
    "read_depth",
    "read_file",
    "read_labels",
    "read_metadata",
    "read_pair",
    "read_picture",
    "read_size",
    "read_stored",
    "restore",
    "seen",
    "shallow",
    "to_image",
    "to_levels",
    "to_pixels",
    "with_alpha",
    "write",
    "write_plane",
]
