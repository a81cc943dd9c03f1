# SPDX-License-Identifier: Apache-2.0
"""What becomes of the sources' edges: Qabf (kept) and Nabf (invented)."""

from collections.abc import Callable

import cv2
import numpy as np

from ditfuse_jax.evaluation.metrics.windows import sobel

STRENGTH_SHARP = 2.0  # Nabf: gradients from here on weigh by their strength
WEAK_WEIGHT = 0.001


def qabf(first: np.ndarray, second: np.ndarray, fused: np.ndarray) -> float:
    """Share of the sources' edges that the fused image keeps, 0 to 1; higher is better.

    Xydeas and Petrovic 2000. Of Sobel strength g and angle a = atan(y / x): G = smaller / larger strength,
    A = 1 - |a_A - a_F| / (pi / 2), Q = 0.9994 / (1 + exp(-15 (G - 0.5))) * 0.9879 / (1 + exp(-22 (A - 0.8))),
    averaged over both sources with weights g. Grey float64 [H, W]; zeros around, so
    that the frame of a bright image is an edge too. nan where both sources are black. Trap: see `tang_qabf`.
    """
    return _qabf(first, second, fused, ratio=_ratio)


def tang_qabf(first: np.ndarray, second: np.ndarray, fused: np.ndarray) -> float:
    """As the field's MATLAB code computes it, on [0, 1], with G = g where strengths are exactly equal.

    On 0 to 255 that saturates and hardly matters; on [0, 1] a copied weak edge counts as lost, so methods
    that copy pixels score too low.
    """
    return _qabf(first / 255.0, second / 255.0, fused / 255.0, ratio=_tang_ratio)


def _qabf(first: np.ndarray, second: np.ndarray, fused: np.ndarray, *, ratio: Callable) -> float:
    strength_f, angle_f = _strength_and_angle(fused, cv2.BORDER_CONSTANT)
    kept = weights = 0.0
    for source in (first, second):
        strength, angle = _strength_and_angle(source, cv2.BORDER_CONSTANT)
        turned = 1 - np.abs(angle - angle_f) / (np.pi / 2)
        quality = _sigmoid(ratio(strength, strength_f), 0.9994, 15, 0.5) * _sigmoid(turned, 0.9879, 22, 0.8)
        kept, weights = kept + (quality * strength).sum(), weights + strength.sum()
    return float(kept / weights) if weights else float("nan")


def nabf(first: np.ndarray, second: np.ndarray, fused: np.ndarray) -> float:
    """Share of the fused image's edges that no source explains, 0 to 1; LOWER is better.

    Kumar 2013. Where the fused gradient is stronger than both sources':
    sum((1 - Q_A) w_A + (1 - Q_B) w_B) / sum(w_A + w_B) over all pixels; w = g^1.5 if g >= 2 else 0.001, with
    Sobel / 8 on 0 to 255, Q = sqrt(Q_g Q_a) of sigmoids (0.9999, 19, 0.5) and (0.9995, 22, 0.5). Borders are
    reflected. Traps: the fused image is the first argument of the MATLAB function, which some calls forget;
    see also `tang_nabf`.
    """
    strength_f, angle_f = _strength_and_angle(fused / 8, cv2.BORDER_REFLECT_101)
    strengths, lost, weights = [], [], []
    for source in (first, second):
        strength, angle = _strength_and_angle(source / 8, cv2.BORDER_REFLECT_101)
        turned = np.abs(np.abs(angle - angle_f) - np.pi / 2) * 2 / np.pi
        quality = _sigmoid(_ratio(strength, strength_f), 0.9999, 19, 0.5) * _sigmoid(turned, 0.9995, 22, 0.5)
        weight = np.where(strength >= STRENGTH_SHARP, strength**1.5, WEAK_WEIGHT)
        strengths.append(strength)
        lost.append((1 - np.sqrt(quality)) * weight)
        weights.append(weight)
    invented = (strength_f > strengths[0]) & (strength_f > strengths[1])
    return float((lost[0] + lost[1])[invented].sum() / (weights[0] + weights[1]).sum())


def tang_nabf(first: np.ndarray, second: np.ndarray, fused: np.ndarray) -> float:
    """`nabf` of images on [0, 1]: no gradient reaches 2, so all pixels weigh the same."""
    return nabf(first / 255.0, second / 255.0, fused / 255.0)


def _strength_and_angle(image: np.ndarray, border: int) -> tuple[np.ndarray, np.ndarray]:
    """Of the gradient; angles in (-pi / 2, pi / 2], pi / 2 where the horizontal difference is 0."""
    across, down = sobel(image, border=border)
    slope = np.divide(down, across, out=np.full_like(down, np.inf), where=across != 0)
    return np.hypot(across, down), np.arctan(slope)


def _ratio(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Smaller over larger; 0 where both are 0."""
    low, high = np.minimum(one, other), np.maximum(one, other)
    return np.divide(low, high, out=np.zeros_like(low), where=high > 0)


def _tang_ratio(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.where(one == other, one, _ratio(one, other))


def _sigmoid(x: np.ndarray, top: float, slope: float, middle: float) -> np.ndarray:
    return top / (1 + np.exp(-slope * (x - middle)))
