# SPDX-License-Identifier: Apache-2.0
"""How well pictures are brought over each other, and how often a wrong answer is accepted.

    python benchmarks/registration.py [--data DIR] [--limit 40]

Held-out pictures. The second of a pair is moved by up to 32 pixels and turned by up to 3 degrees, at random,
then both are cut so that no empty border tells anything. Error: mean pixels, over the picture, between where
the alignment and the truth take a point. Brackets are two stops over and under; focus shots are those of
benchmarks/stacks.py, halves: the sharp half of one is the blurred half of the other. Infrared-visible pairs
of the data are themselves some pixels off, so their truth is the movement after the alignment that is
measured without it; the error to the movement alone and what the pairs are off are told too. Mismatched: the
two pictures are of different scenes and every accepted answer is wrong. Left alone: unmoved pairs that
--align auto would not warp if they were of one camera. Ghosts: brackets and focus shots in which nothing
moved, but --deghost auto finds that something did.
"""

import argparse
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import stacks
from demo_cases import VALIDATION, spread
from demo_items import table

from ditfuse_jax import image
from ditfuse_jax.data import sources
from ditfuse_jax.inference.aligning import LEAST
from ditfuse_jax.registration import geometry, ghosts
from ditfuse_jax.registration.alignment import register

SHIFT, TURN = 32.0, 3.0  # pixels, degrees
WRONG = 3.0  # pixels
LARGE = 300  # pixels of the shorter side, from which more is cut off

Pair = tuple[np.ndarray, np.ndarray]


class Row(NamedTuple):
    error: float
    plain: float  # to the movement alone
    sure: bool
    off: float  # pixels that the unmoved pair is off


def moved(rng: np.random.Generator, pair: Pair) -> tuple[Pair, np.ndarray]:
    """The pair with its second picture moved, cut, and the true matrix between them."""
    first, second = pair
    size = first.shape[:2]
    angle, far = rng.uniform(0, 2 * np.pi), rng.uniform(0, SHIFT)
    shift = geometry.shift(far * np.cos(angle), far * np.sin(angle))
    matrix = shift @ geometry.turn(rng.uniform(-TURN, TURN), size)
    there = geometry.warp(second, np.linalg.inv(matrix), size, sharp=True)
    edge = margin(size)
    corner = geometry.shift(edge, edge)
    inner = np.s_[edge:-edge, edge:-edge]
    return (first[inner], there[inner]), np.linalg.inv(corner) @ matrix @ corner


def margin(size: tuple[int, int]) -> int:
    return 44 if min(size) >= LARGE else 30


def measured(rng: np.random.Generator, pair: Pair, *, own: bool) -> Row:
    """own: the pair is not exactly registered."""
    edge = margin(pair[0].shape[:2])
    still = register(*(each[edge:-edge, edge:-edge] for each in pair), model="homography")
    two, truth = moved(rng, pair)
    found = register(*two, model="homography")
    size = two[0].shape[:2]
    plain = geometry.distance(found.matrix, truth, size)
    error = geometry.distance(found.matrix, truth @ still.matrix, size) if own else plain
    return Row(error, plain, found.sure, still.moved)


def mismatched(pairs: list[Pair]) -> list[Pair]:
    """Every first picture with the second one of a pair half the list away."""
    others = [pairs[(i + len(pairs) // 2) % len(pairs)][1] for i in range(len(pairs))]
    return [
        (first, cv2.resize(other, first.shape[1::-1]))
        for (first, _), other in zip(pairs, others, strict=True)
    ]


def halves(photo: np.ndarray) -> Pair:
    """Focus: each sharp in one half."""
    blurred = cv2.GaussianBlur(photo, (0, 0), 4)
    left = (np.arange(photo.shape[1]) < photo.shape[1] // 2)[None, :, None]
    return np.where(left, photo, blurred), np.where(left, blurred, photo)


def told(name: str, rows: list[Row]) -> list:
    sure = [row for row in rows if row.sure]
    errors, plain, off = ([row[k] for row in rows] for k in (0, 1, 3))
    wrong = [row.error > WRONG for row in sure]
    return [
        name,
        len(rows),
        f"{np.median(errors):.2f}",
        f"{np.median(plain):.2f}",
        f"{np.median(off):.2f}",
        f"{len(sure) / len(rows):.0%}",
        f"{np.mean(wrong):.1%}" if wrong else "none accepted",
        f"{np.mean([each < LEAST for each in off]):.0%}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path)
    parser.add_argument("--limit", type=int, default=40, help="pictures of each kind; 0: all")
    args = parser.parse_args()
    root = sources.data_root(args.data)
    items = spread(sources.find("photos", "photos", root, VALIDATION).items, args.limit)
    photos = [image.read_file(item.images[0]) for item in items]
    photos = [photo for photo in photos if min(photo.shape[:2]) >= 200]
    infrared = spread(sources.find("pairs", "ivif/*", root, VALIDATION).items, args.limit)
    real = [sources.load(item).images for item in infrared]
    brackets = [stacks.brackets(np.random.default_rng(n), photo) for n, photo in enumerate(photos)]
    focus = [stacks.focus_shots(np.random.default_rng(n), photo) for n, photo in enumerate(photos)]
    kinds = {
        "photographs": [(photo, photo) for photo in photos],
        "brackets, four stops": [(shots[2], shots[0]) for shots in brackets],
        "focus shots, first and fourth": [(shots[0], shots[3]) for shots in focus],
        "focus, halves": [halves(photo) for photo in photos],
        "infrared-visible": real,
        "mismatched photographs": mismatched([(photo, photo) for photo in photos]),
        "mismatched infrared-visible": mismatched(real),
    }
    rows = []
    for name, pairs in kinds.items():
        rng = np.random.default_rng(0)
        rows.append(told(name, [measured(rng, pair, own=name == "infrared-visible") for pair in pairs]))
    heads = ("", "pairs", "error, px", "to the movement", "unmoved, px off", "accepted", "of these wrong")
    table([*heads, "left alone"], rows)
    static = {
        "brackets": [(s[1], s[k], False) for s in brackets for k in (0, 2)],
        "focus shots": [(s[2], s[k], True) for s in focus for k in (0, 4)],
    }
    for name, cases in static.items():
        shares = [float(ghosts.moved(a, b, focus=f).mean()) for a, b, f in cases]
        print(
            f"\nghosts in still {name}: in {np.mean(np.array(shares) > 0):.1%} of {len(shares)} pairs, "
            f"{np.mean(shares):.2%} of all pixels"
        )


if __name__ == "__main__":
    main()
