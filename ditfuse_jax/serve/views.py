# SPDX-License-Identifier: Apache-2.0
"""What the page shows of a result: small copies, and its two maps as colours over the picture."""

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from ditfuse_jax import fidelity, image
from ditfuse_jax.inference.fuse import Fused
from ditfuse_jax.serve import answer

SIDE = 1600  # pixels: the longest side of what is shown; the download has all
FIRST, SECOND = np.array([255, 140, 0]), np.array([0, 110, 255])  # orange and blue, apart for all eyes
ALARM = np.array([230, 0, 90])
SATURATED = 24  # levels beyond the sources at which the alarm colour covers the picture


class Shown(NamedTuple):
    file: Path  # the whole picture
    sources: list[np.ndarray]  # uint8 [h, w, 3], small, as the other pictures
    fused: np.ndarray
    origin: np.ndarray | None  # where each pixel comes from; None at fidelity 0
    invented: np.ndarray | None
    explained: float | None
    facts: dict[str, str]


def viewer(
    files: list[Path], folder: Path, kind: str, metadata: Mapping[str, str]
) -> Callable[[Fused], Shown]:
    """How the worker turns a result into what the page shows; the whole picture goes into `folder`."""

    def show(fused: Fused) -> Shown:
        facts = answer.facts_of(fused, metadata)
        place = Path(tempfile.mkdtemp(dir=folder)) / f"fused{answer.SUFFIXES[kind]}"
        small = shrink(image.seen(fused.image, fused.origin.profile))
        mapped = fused.weights is not None
        return Shown(
            answer.write(fused, place, facts),
            [shrink(image.read(file)) for file in files],
            small,
            origin(small, shrink(fused.weights)) if mapped else None,
            invented(small, shrink(fused.invented)) if mapped else None,
            fused.explained,
            facts,
        )

    return show


def shrink(values: np.ndarray, side: int = SIDE) -> np.ndarray:
    """uint8 [H, W, 3] or float32 [H, W] with its longest side at most `side` pixels."""
    height, width = values.shape[:2]
    scale = min(1.0, side / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return values if scale == 1 else np.asarray(Image.fromarray(values).resize(size, Image.Resampling.BOX))


def origin(picture: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """uint8 [h, w, 3]: orange where the first source decides, blue where the second does, over its greys."""
    share = np.clip(weights, 0, 1)[..., None]
    return _over(picture, share * FIRST + (1 - share) * SECOND, np.float32(0.6))


def invented(picture: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """uint8 [h, w, 3]: red where the picture is further from the sources than `fidelity.EXPLAINED` levels."""
    beyond = np.clip((levels - fidelity.EXPLAINED) / (SATURATED - fidelity.EXPLAINED), 0, 1)
    return _over(picture, ALARM, beyond[..., None])


def _over(picture: np.ndarray, colour: np.ndarray, cover) -> np.ndarray:
    grey = picture.mean(axis=-1, keepdims=True)
    return np.rint(grey * (1 - cover) + colour * (0.25 + 0.75 * grey / 255) * cover).astype(np.uint8)
