# SPDX-License-Identifier: Apache-2.0
"""Information theory on grey levels: EN, MI, NMI."""

import numpy as np

LEVELS = 256


def entropy(fused: np.ndarray) -> float:
    """EN: Shannon entropy of the 256-bin histogram in bits, 0 to 8; higher is called better.

    Source: Roberts, van Aardt and Ahmed 2008. Grey [H, W], rounded to integers first. Trap: noise raises it.
    """
    return _bits(np.bincount(_levels(fused).ravel(), minlength=LEVELS))


def mutual_information(first: np.ndarray, second: np.ndarray, fused: np.ndarray) -> float:
    """MI: I(A; F) + I(B; F) from joint histograms of 256 x 256 levels, in bits; higher is called better.

    Source: Qu, Zhang and Yan 2002. Traps: code on sklearn prints nats (divide by 0.6931), VIFB stretches the
    images first; it was anti-correlated with truth on multi-focus pairs.
    """
    return _pair_information(first, fused) + _pair_information(second, fused)


def normalised_mutual_information(first: np.ndarray, second: np.ndarray, fused: np.ndarray) -> float:
    """NMI: 2 (I(A; F) / (H(A) + H(F)) + I(B; F) / (H(B) + H(F))), 0 to 2; higher is called better.

    Source: Hossny, Nahavandi and Creighton 2008. Trap: IVIF_ZOO divides both by H(A) + H(B). A constant
    source with a constant fused image counts as 0.
    """
    total = 0.0
    for source in (first, second):
        entropies = entropy(source) + entropy(fused)
        total += 2 * _pair_information(source, fused) / entropies if entropies else 0.0
    return total


def tang_mutual_information(first: np.ndarray, second: np.ndarray, fused: np.ndarray) -> float:
    """As the toolbox of L. Tang: uint8 + 1 saturates, so levels 254 and 255 are one in the joint histogram,
    but not in the marginals. In bits.
    """
    total = 0.0
    for source in (first, second):
        joint = _joint(np.minimum(_levels(source), 254), np.minimum(_levels(fused), 254))
        total += entropy(source) + entropy(fused) - _bits(joint)
    return total


def _pair_information(source: np.ndarray, fused: np.ndarray) -> float:
    return entropy(source) + entropy(fused) - _bits(_joint(_levels(source), _levels(fused)))


def _levels(image: np.ndarray) -> np.ndarray:
    return np.rint(image).astype(np.int64)


def _joint(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.bincount((one * LEVELS + other).ravel(), minlength=LEVELS**2)


def _bits(counts: np.ndarray) -> float:
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log2(share)).sum()) + 0.0  # no -0 for a single level
