# SPDX-License-Identifier: Apache-2.0
"""Differences of pixel values: MSE and PSNR, to a truth and to both sources."""

import numpy as np

PEAK = 255.0


def pair_mse(image: np.ndarray, reference: np.ndarray) -> float:
    """mean((image - reference)^2) in squared grey levels of 0 to 255; lower is better."""
    return float(np.square(image.astype(np.float64) - reference).mean())


def pair_psnr(image: np.ndarray, reference: np.ndarray) -> float:
    """10 log10(255^2 / MSE) in dB; higher is better, infinite for equal images. Any equal shapes.

    The one number of this package that measures truth, where there is a truth.
    """
    return _decibel(pair_mse(image, reference))


def mse(first: np.ndarray, second: np.ndarray, fused: np.ndarray) -> float:
    """Mean of MSE(fused, first) and MSE(fused, second), squared grey levels; lower is called better.

    Grey in 0 to 255. Traps: the plain mean of the sources is the best possible image, so this does not
    measure fusion; the field's tables print it on [0, 1], which is 65025 times smaller (`tang_mse`).
    """
    return (pair_mse(fused, first) + pair_mse(fused, second)) / 2


def psnr(first: np.ndarray, second: np.ndarray, fused: np.ndarray) -> float:
    """10 log10(255^2 / mse(first, second, fused)) in dB; higher is called better.

    Traps: the mean of the sources is optimal, at 10 log10(255^2 / mean((A - B)^2 / 4)); averaging two PSNRs
    instead of two MSEs is another number; four variants live in the field (see `tang_psnr`).
    """
    return _decibel(mse(first, second, fused))


def tang_mse(first: np.ndarray, second: np.ndarray, fused: np.ndarray) -> float:
    """`mse` of images on [0, 1], as the paper's Table I prints it (0.02 to 0.09)."""
    return mse(first, second, fused) / PEAK**2


def tang_psnr(first: np.ndarray, second: np.ndarray, fused: np.ndarray) -> float:
    """20 log10(255 / sqrt(MSE on [0, 1])) in dB: `psnr` + 48.13, since scale and peak do not belong together.

    Source: PSNR_evaluation of Evaluation-for-Image-Fusion (L. Tang), whose numbers the paper prints: 66 dB
    there are 17.9 dB.
    """
    return psnr(first, second, fused) + 20 * np.log10(PEAK)


def _decibel(error: float) -> float:
    return float(10 * np.log10(PEAK**2 / error)) if error else float("inf")
