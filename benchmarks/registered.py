# SPDX-License-Identifier: Apache-2.0
"""Whether the infrared-visible pairs of the data lie over each other, by a second witness.

    python benchmarks/registered.py [--data DIR] [--limit 20]

registration.py finds unmoved pairs some pixels off. Here normalised mutual information, which the alignment
does not use, is asked too: what it is unmoved and after the alignment, and how far from unmoved the turn,
scale and shift lie at which it is highest (Nelder-Mead from unmoved, SciPy of the extra `eval`).
"""

import argparse
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from demo_cases import VALIDATION, spread
from demo_items import table
from scipy.optimize import minimize

from ditfuse_jax.data import sources
from ditfuse_jax.registration import geometry
from ditfuse_jax.registration.alignment import outline, register
from registration import Pair, margin

BINS, RIM, BLUR = 32, 24, 1.0  # levels; pixels that are not counted, and of the smoothing
STEP, CALLS = 3.0, 120  # of the search: pixels, at the most
PERCENT, DEGREES = 1.0, 0.2  # of scale and of turn that are searched like a pixel


class Row(NamedTuple):
    ours: float  # pixels that the alignment finds the unmoved pair off
    theirs: float  # the same of mutual information
    apart: float  # pixels between both
    unmoved: float  # mutual information
    aligned: float


def measured(pair: Pair) -> Row:
    edge = margin(pair[0].shape[:2])
    inner = np.s_[edge:-edge, edge:-edge]
    found = register(*(each[inner] for each in pair), model="homography").matrix
    first, second = outline(pair[0][inner]), outline(pair[1])
    size, corner = first.shape, geometry.shift(edge, edge)

    def at(matrix: np.ndarray) -> float:
        moved = geometry.warp(second, corner @ matrix, size, sharp=True)
        return information(*(smooth(each)[RIM:-RIM, RIM:-RIM] for each in (first, moved)))

    corners = np.vstack([np.zeros(4), STEP * np.eye(4)]) - STEP / 6
    search = {"initial_simplex": corners, "maxfev": CALLS, "xatol": 0.05, "fatol": 1e-6}
    best = minimize(lambda p: -at(motion(p, size)), np.zeros(4), method="Nelder-Mead", options=search)
    highest, still = motion(best.x, size), np.eye(3)
    far = (geometry.distance(*two, size) for two in ((found, still), (highest, still), (found, highest)))
    return Row(*far, at(still), at(found))


def motion(p: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Shift, scale and turn about the middle, of four numbers of about a pixel each."""
    middle = geometry.shift((size[1] - 1) / 2, (size[0] - 1) / 2)
    grown = np.diag([1 + p[2] * PERCENT / 100] * 2 + [1])
    turned = geometry.turn(p[3] * DEGREES, size)
    return geometry.shift(p[0], p[1]) @ turned @ middle @ grown @ np.linalg.inv(middle)


def smooth(grey: np.ndarray) -> np.ndarray:
    return cv2.GaussianBlur(grey, (0, 0), BLUR)


def information(first: np.ndarray, second: np.ndarray) -> float:
    """(H(a) + H(b)) / H(a, b) of uint8 [h, w], 1 to 2 (Studholme et al., 1999)."""
    counts, _, _ = np.histogram2d(first.ravel(), second.ravel(), BINS, [[0, 256], [0, 256]])
    joint = counts / counts.sum()
    return (entropy(joint.sum(0)) + entropy(joint.sum(1))) / entropy(joint)


def entropy(shares: np.ndarray) -> float:
    there = shares[shares > 0]
    return float(-(there * np.log(there)).sum())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path)
    parser.add_argument("--limit", type=int, default=20, help="pairs; 0: all")
    args = parser.parse_args()
    items = sources.find("pairs", "ivif/*", sources.data_root(args.data), VALIDATION).items
    rows = [measured(sources.load(item).images) for item in spread(items, args.limit)]
    medians = [float(np.median([row[k] for row in rows])) for k in range(3)]
    grown = np.mean([row.aligned > row.unmoved for row in rows])
    heads = ["pairs", "off, by the alignment", "off, by mutual information", "between both"]
    table([*heads, "information grows with the alignment"], [[len(rows), *medians, f"{grown:.0%}"]])


if __name__ == "__main__":
    main()
