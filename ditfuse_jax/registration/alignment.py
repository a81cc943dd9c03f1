# SPDX-License-Identifier: Apache-2.0
"""One picture brought brought over another: how it lies to it, and how sure that is.

rough shift and turn      phase correlation of edge directions at 256 pixels      search.py
finer and finer           blocks, one motion that most agree on                   blocks.py, motion.py
score                     share of the blocks that agree, times their likeness
"""

from typing import NamedTuple

import cv2
import numpy as np

from ditfuse_jax.registration import blocks, geometry, motion, search

ROUGH, FINE, FINEST = 256, 512, 2048  # pixels of the longer side: search, first blocks, last blocks
REACH, AGAIN, CHECK = 10, 5, 8  # pixels in which blocks are looked for: first, then, and for the score
SURE = 0.09  # of the score; mismatched pictures of other scenes stay below (benchmarks/registration.py)
AGREEING = 8  # blocks at least


class Alignment(NamedTuple):
    """Of a second picture to a first one; the matrix is explained in geometry.py."""

    matrix: np.ndarray  # float64 [3, 3]
    size: tuple[int, int]  # height and width of both pictures
    model: str  # one of motion.MODELS, or the name of a file
    score: float  # 0 to 1; at SURE and over it can be relied on
    agreeing: int  # blocks

    @property
    def sure(self) -> bool:
        return self.score >= SURE and self.agreeing >= AGREEING

    @property
    def moved(self) -> float:
        """Mean pixels between where a point is in the first and in the second picture."""
        return geometry.distance(self.matrix, np.eye(3), self.size)

    @property
    def degrees(self) -> float:
        """The turn in it."""
        return float(np.degrees(np.arctan2(self.matrix[1, 0], self.matrix[0, 0])))


def register(first: np.ndarray, second: np.ndarray, *, model: str) -> Alignment:
    """Measures how `second` lies to `first`: uint8 or uint16 [H, W, 3], or [H, W] for grey, of one size.

    model: "translation" or "homography". Whether the result can be relied on is `sure`.
    Raises ValueError for another model and for pictures of different sizes.
    """
    if first.shape[:2] != second.shape[:2]:
        (height, width), (other_height, other_width) = first.shape[:2], second.shape[:2]
        raise ValueError(
            f"sizes {width} x {height} and {other_width} x {other_height} differ; resize the second first"
        )
    return measure(outline(first), outline(second), first.shape[:2], model=model)


def measure(one: np.ndarray, other: np.ndarray, size: tuple[int, int], *, model: str) -> Alignment:
    """`register` of two pictures of `size` by their outlines."""
    if model not in motion.MODELS:
        raise ValueError(f"model {model!r} is not one of {', '.join(motion.MODELS)}; choose one")
    small = [reduce(each, ROUGH) for each in (one, other)]
    matrix = _between(search.rough(*small), small[0].shape, size)
    if model == "translation":
        points = geometry.grid(size)
        matrix = geometry.shift(*(geometry.apply(matrix, points) - points).mean(0))
    for longest, reach in _rounds(max(one.shape)):
        level = [reduce(each, longest) for each in (one, other)]
        near = _between(matrix, size, level[0].shape)
        found = blocks.match(*level, near, reach)
        rest = motion.fit(found.points, found.moves, model=model, spread=max(level[0].shape) / 2)
        matrix = _between(near @ rest, level[0].shape, size)
    level = [reduce(each, FINE) for each in (one, other)]
    score, agreeing = _score(level, _between(matrix, size, level[0].shape))
    return Alignment(matrix, size, model, score, agreeing)


def _rounds(side: int) -> list[tuple[int, int]]:
    """(longer side, reach) of every round of blocks: twice at FINE, once at every doubling up to `side`."""
    larger, longest = [], FINE
    while longest < side:
        longest = min(2 * longest, side)
        larger.append((longest, AGAIN))
    return [(FINE, REACH), (FINE, AGAIN), *larger]


def _score(level: list[np.ndarray], matrix: np.ndarray) -> tuple[float, int]:
    """Of blocks that are looked for once more, farther than a small error explains; how many agree."""
    found = blocks.match(*level, matrix, CHECK)
    if not len(found.points):
        return 0.0, 0
    agree = np.linalg.norm(found.moves, axis=1) < motion.NEAR
    return float(agree.mean() * max(0.0, found.likeness.mean())), int(agree.sum())


def _between(matrix: np.ndarray, size: tuple[int, int], to: tuple[int, int]) -> np.ndarray:
    """A matrix between two pictures of `size` as one between the same pictures at another size."""
    change = geometry.scale(size, to)
    matrix = change @ matrix @ np.linalg.inv(change)
    return matrix / matrix[2, 2]


def reduce(picture: np.ndarray, longest: int) -> np.ndarray:
    """[H, W] or [H, W, C] with a longer side of at most `longest` pixels."""
    ratio = longest / max(picture.shape[:2])
    if ratio >= 1:
        return picture
    size = [max(1, round(side * ratio)) for side in picture.shape[:2]]
    return cv2.resize(picture, size[::-1], interpolation=cv2.INTER_AREA)


def outline(picture: np.ndarray) -> np.ndarray:
    """What is measured: uint8 [h, w], at most FINEST pixels long, of uint8 or uint16 [H, W] or [H, W, 3].

    A picture that uses less than half of its range is stretched: the edges of the darkest of brackets lie
    within a few levels.
    """
    small = reduce(picture, FINEST)
    plane = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY) if small.ndim == 3 else small
    low, high = np.percentile(plane, (0.5, 99.5))
    if plane.dtype == np.uint8 and high - low > 127:
        return plane
    return np.clip((plane.astype(np.float32) - low) * (255 / max(high - low, 1.0)), 0, 255).astype(np.uint8)
