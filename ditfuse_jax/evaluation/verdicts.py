# SPDX-License-Identifier: Apache-2.0
"""The paper's three questions about a segmentation, answered from labels, and their ratios (Table IV).

1. Precision: is less than 20 % of the marked area wrong?
2. Recall: is more than 80 % of the thing marked?
3. Contour: of the correctly marked area, is more than 80 % of the outline right?
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from ditfuse_jax import __version__

LABELS = ("sky", "tree", "car", "road", "building", "person")  # of the paper's Table IV
MOST_WRONG, LEAST_FOUND, LEAST_OUTLINE = 0.2, 0.8, 0.8
TOLERANCE = (
    0.008  # of the diagonal: how far a right outline may lie from the true one; the paper says nothing
)


class Verdict(NamedTuple):
    precision: bool
    recall: bool
    contour: bool


class Ratios(NamedTuple):
    """Shares of results, in [0, 1]."""

    precision: float
    recall: float
    contour: float
    count: int


def from_labels(found: np.ndarray, truth: np.ndarray) -> Verdict:
    """Exact answers for one mask, bool [H, W] each. Raises ValueError where the thing is not there."""
    if not truth.any():
        raise ValueError("the thing is not in the picture; ask about what the labels hold")
    right = found & truth
    wrong = (found & ~truth).sum() / found.sum() if found.any() else 0.0
    precise, complete = bool(wrong < MOST_WRONG), bool(right.sum() / truth.sum() > LEAST_FOUND)
    return Verdict(precise, complete, bool(right.any()) and outline_accuracy(right, truth) > LEAST_OUTLINE)


def outline_accuracy(right: np.ndarray, truth: np.ndarray) -> float:
    """Share of the outline of `right` that lies within TOLERANCE of that of `truth`; bool [H, W] each.

    The picture's own edge is no outline.
    """
    reach = max(1, round(TOLERANCE * float(np.hypot(*truth.shape))))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    near = cv2.dilate(outline(truth).astype(np.uint8), kernel).astype(bool)
    line = outline(right)
    return float(near[line].mean()) if line.any() else 1.0


def outline(mask: np.ndarray) -> np.ndarray:
    """Pixels of bool mask [H, W] with a neighbour outside it."""
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    return mask & (cv2.erode(mask.astype(np.uint8), cross) == 0)


def ratios(verdicts: Sequence[Verdict]) -> Ratios:
    """P.Ratio, R.Ratio and I.Ratio of the paper. Raises ValueError without verdicts."""
    if not verdicts:
        raise ValueError("no verdict to count; answer at least one question")
    return Ratios(*(float(share) for share in np.mean(verdicts, axis=0)), len(verdicts))


def markdown(found: Mapping[str, Ratios], judge: str) -> str:
    lines = [
        f"- judge: {judge}",
        f"- code: ditfuse-jax {__version__}",
        "",
        "| label | P.Ratio | R.Ratio | I.Ratio | images |",
        "| --- | --- | --- | --- | --- |",
    ]
    for label, one in found.items():
        lines.append(
            f"| {label} | {one.precision:.2f} | {one.recall:.2f} | {one.contour:.2f} | {one.count} |"
        )
    return "\n".join(lines) + "\n"
