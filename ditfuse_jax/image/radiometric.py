# SPDX-License-Identifier: Apache-2.0
"""One radiometric JPEG as a pair: the photograph where the thermal plane lies, and the plane at its size."""

from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from ditfuse_jax.image import exif, flir, temperature
from ditfuse_jax.image.faults import BadFile, damage_named
from ditfuse_jax.image.flir import Inset
from ditfuse_jax.image.geometry import check_size
from ditfuse_jax.image.picture import Origin, Picture


class ThermalPair(NamedTuple):
    visible: Picture  # [H, W, 3], with the EXIF of the file
    degrees: np.ndarray  # float32 [H, W], Celsius


def read_degrees(file: Path) -> np.ndarray:
    """The thermal plane as the camera has it, float32 [h, w], Celsius. Raises BadFile with what is wrong."""
    return _degrees(file, flir.read(file))


def read_pair(file: Path) -> ThermalPair:
    """Both planes, one over the other as the file says.

    The photograph is cut to the field of the thermal plane, which is enlarged to it between its values.
    Raises BadFile for a file without a photograph, and as `read_degrees` does.
    """
    found = flir.read(file)
    if found.photo is None:
        raise BadFile(f"{file} holds no photograph; give one as image 1 and this file as image 2")
    degrees, photo = _degrees(file, found), found.photo
    over = placed(found.inset, photo.shape[:2], degrees.shape)
    rows, columns = box(over, photo.shape[:2], degrees.shape)
    seen = np.ascontiguousarray(photo[rows, columns])
    check_size(*seen.shape[:2], f"{file}: the photograph where the thermal plane lies")
    over = over @ np.float64([[1, 0, columns.start], [0, 1, rows.start], [0, 0, 1]])
    way = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    large = cv2.warpAffine(degrees, over[:2], seen.shape[1::-1], flags=way, borderMode=cv2.BORDER_REPLICATE)
    with damage_named(str(file)), Image.open(file, formats=["JPEG", "MPO"]) as outer:
        return ThermalPair(Picture(seen, Origin(format="JPEG", exif=exif.of_image(outer))), large)


def _degrees(file: Path, found: flir.Flir) -> np.ndarray:
    with damage_named(str(file)):
        return temperature.celsius(found.counts, found.constants)


def placed(inset: Inset, size: tuple[int, int], thermal: tuple[int, int]) -> np.ndarray:
    """[3, 3] from pixels of the photograph to those of the thermal plane; sizes: height, width."""
    (height, width), (h, w) = size, thermal
    scale = w * inset.ratio / width
    right, down = (width - 1) / 2 + inset.right, (height - 1) / 2 + inset.down
    return np.float64(
        [[scale, 0, (w - 1) / 2 - scale * right], [0, scale, (h - 1) / 2 - scale * down], [0, 0, 1]]
    )


def box(over: np.ndarray, size: tuple[int, int], thermal: tuple[int, int]) -> tuple[slice, slice]:
    """Rows and columns of the photograph whose pixels lie in the thermal plane; over: of `placed`."""
    ranges = []
    for axis in (1, 0):
        there = over[axis, axis] * np.arange(size[1 - axis]) + over[axis, 2]
        inside = np.flatnonzero((there > -0.5) & (there < thermal[1 - axis] - 0.5))
        ranges.append(slice(inside[0], inside[-1] + 1) if inside.size else slice(0, 0))
    return tuple(ranges)
