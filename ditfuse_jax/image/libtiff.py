# SPDX-License-Identifier: Apache-2.0
"""The library by which Pillow reads compressed TIFF files, kept from writing to the terminal itself."""

import contextlib
import ctypes
import functools

from PIL import _imaging


@functools.cache
def silence() -> None:
    """No line for each damaged row ("Fax4Decode: Bad code word ..."): the reader names the file instead."""
    library = ctypes.CDLL(_imaging.__file__)  # with its libraries, libtiff among them
    with contextlib.suppress(AttributeError):  # a Pillow without libtiff, or one that hides its names
        library.TIFFSetErrorHandler(None)
