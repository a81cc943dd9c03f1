# SPDX-License-Identifier: Apache-2.0
"""Structural similarity and its relatives: SSIM, MS-SSIM, MEF-SSIM, Q_W (Piella)."""

import cv2
import numpy as np

from ditfuse_jax.evaluation.metrics.windows import check_sides, filter_valid, gaussian, square

WINDOW = gaussian(11, 1.5)
SSIM_SMALLEST = 11  # pixels: one window
MS_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang 2003, of the five scales from fine to coarse
MS_SMALLEST = 11 * 2 ** (len(MS_WEIGHTS) - 1)
LUMINANCE, CONTRAST = (0.01 * 255) ** 2, (0.03 * 255) ** 2  # C_1, C_2

MEF_FLOOR = 0.001  # added to a patch's strength, as in the authors' code
MEF_MOST = 10.0  # exponent of the weights that stands for taking the strongest patch
TANG_MS_WEIGHTS = (0.0448, 0.2856, 0.3001)  # of its three scales, normalised to sum 1

Q_WINDOW = square(8)


def ssim(first: np.ndarray, second: np.ndarray, fused: np.ndarray) -> float:
    """Mean of SSIM(fused, first) and SSIM(fused, second), at most 1; higher is better.

    Trap: much code prints the sum (VIFB, CDDFuse: at most 2).
    """
    return (pair_ssim(fused, first) + pair_ssim(fused, second)) / 2


def pair_ssim(image: np.ndarray, reference: np.ndarray) -> float:
    """SSIM of Wang et al. 2004 by scikit-image: Gaussian 11 x 11 with sigma 1.5, K 0.01 and 0.03, range 255,
    only whole windows. Grey float64 [H, W] in 0 to 255; 1 for equal images.

    Trap: skimage's own defaults are a 7 x 7 square and the sample covariance, and MATLAB takes floats for
    images on [0, 1].
    """
    from skimage.metrics import structural_similarity  # extra `eval`

    check_sides(reference, SSIM_SMALLEST, "SSIM")
    how = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
    return float(structural_similarity(image, reference, **how))


def ms_ssim(first: np.ndarray, second: np.ndarray, fused: np.ndarray) -> float:
    """Mean of MS-SSIM with each source, at most 1; higher is better.

    Trap: what the toolbox of L. Tang prints as MS_SSIM is MEF-SSIM on three scales (`tang_ms_ssim`).
    """
    return (pair_ms_ssim(fused, first) + pair_ms_ssim(fused, second)) / 2


def pair_ms_ssim(image: np.ndarray, reference: np.ndarray) -> float:
    """MS-SSIM of Wang et al. 2003: contrast and structure on five scales, luminance on the last one.

    Scales are means of 2 x 2 pixels. Negative means count as 0. Sides from 176 pixels.
    """
    check_sides(reference, MS_SMALLEST, "MS-SSIM")
    quality = 1.0
    for scale, weight in enumerate(MS_WEIGHTS):
        if scale:
            image, reference = halve(image), halve(reference)
        luminance, structure = _ssim_terms(image, reference)
        value = (luminance * structure if scale == len(MS_WEIGHTS) - 1 else structure).mean()
        quality *= max(value, 0.0) ** weight
    return float(quality)


def halve(image: np.ndarray) -> np.ndarray:
    """Means of 2 x 2 pixels, an odd last row or column repeated; float64 [ceil(H / 2), ceil(W / 2)]."""
    padded = np.pad(image, ((0, image.shape[0] % 2), (0, image.shape[1] % 2)), mode="edge")
    return (padded[::2, ::2] + padded[1::2, ::2] + padded[::2, 1::2] + padded[1::2, 1::2]) / 4


def _ssim_terms(image: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Maps of luminance, and of contrast times structure."""
    mean_i, mean_r = filter_valid(image, WINDOW), filter_valid(reference, WINDOW)
    var_i = filter_valid(image**2, WINDOW) - mean_i**2
    var_r = filter_valid(reference**2, WINDOW) - mean_r**2
    covariance = filter_valid(image * reference, WINDOW) - mean_i * mean_r
    luminance = (2 * mean_i * mean_r + LUMINANCE) / (mean_i**2 + mean_r**2 + LUMINANCE)
    return luminance, (2 * covariance + CONTRAST) / (var_i + var_r + CONTRAST)


def mef_ssim(first: np.ndarray, second: np.ndarray, fused: np.ndarray) -> float:
    """MEF-SSIM of Ma, Zeng and Wang 2015 on one scale, at most 1; higher is better.

    In each 11 x 11 patch the wanted one has the strongest contrast among the sources and the weighted mean of
    their structures, weights strength^p with p = tan(pi / 2 R) of their consistency R; it is compared with
    the fused patch by (2 cov + C) / (var + var + C), C = (0.03 * 255)^2, Gaussian moments. Grey float64
    [H, W] in 0 to 255. Trap: for exposure alone, since it knows no luminance; its authors say
    that it does not rate multi-focus.
    """
    check_sides(fused, SSIM_SMALLEST, "MEF-SSIM")
    share_a, share_b = _wanted_patch(first, second)
    smooth = [filter_valid(image, WINDOW) for image in (first, second, fused)]

    def covariance(i: int, j: int) -> np.ndarray:
        images = (first, second, fused)
        return filter_valid(images[i] * images[j], WINDOW) - smooth[i] * smooth[j]

    cross = share_a * covariance(0, 2) + share_b * covariance(1, 2)
    wanted = share_a**2 * covariance(0, 0) + share_b**2 * covariance(1, 1)
    wanted += 2 * share_a * share_b * covariance(0, 1)
    return float(((2 * cross + CONTRAST) / (wanted + covariance(2, 2) + CONTRAST)).mean())


def _wanted_patch(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How much of each source's patch, less its mean, is in the wanted patch; float64 [H - 10, W - 10]."""
    window, count = square(len(WINDOW)), len(WINDOW) ** 2
    mean_a, mean_b = filter_valid(first, window), filter_valid(second, window)
    square_a = count * np.maximum(filter_valid(first**2, window) - mean_a**2, 0)
    square_b = count * np.maximum(filter_valid(second**2, window) - mean_b**2, 0)
    product = count * (filter_valid(first * second, window) - mean_a * mean_b)
    both = np.sqrt(np.maximum(square_a + square_b + 2 * product, 0))
    eps = np.finfo(np.float64).eps
    consistency = (both + eps) / (np.sqrt(square_a) + np.sqrt(square_b) + eps)
    power = np.minimum(np.tan(np.pi / 2 * np.minimum(consistency, 1 - eps)), MEF_MOST)
    strength_a, strength_b = np.sqrt(square_a) + MEF_FLOOR, np.sqrt(square_b) + MEF_FLOOR
    weight_a, weight_b = ((s / len(WINDOW)) ** power + eps for s in (strength_a, strength_b))
    share_a = weight_a / (weight_a + weight_b) / strength_a
    share_b = weight_b / (weight_a + weight_b) / strength_b
    length = share_a**2 * square_a + share_b**2 * square_b + 2 * share_a * share_b * product
    length = np.sqrt(np.maximum(length, 0))
    scale = np.divide(np.maximum(strength_a, strength_b), length, out=np.ones_like(length), where=length > 0)
    return share_a * scale, share_b * scale


def tang_ms_ssim(first: np.ndarray, second: np.ndarray, fused: np.ndarray) -> float:
    """MEF-SSIM on three scales, product with the first three weights of MS-SSIM, normalised; at most 1.

    What Evaluation-for-Image-Fusion (L. Tang) prints as MS_SSIM, and on one scale as SSIM (`mef_ssim`).
    """
    check_sides(fused, SSIM_SMALLEST * 2 ** (len(TANG_MS_WEIGHTS) - 1), "MS-SSIM of the protocol tang")
    quality = 1.0
    for scale, weight in enumerate(TANG_MS_WEIGHTS):
        if scale:
            first, second, fused = halve(first), halve(second), halve(fused)
        quality *= max(mef_ssim(first, second, fused), 0.0) ** (weight / sum(TANG_MS_WEIGHTS))
    return float(quality)


def q_w(first: np.ndarray, second: np.ndarray, fused: np.ndarray) -> float:
    """Weighted fusion quality index of Piella and Heijmans 2003, at most 1; higher is better.

    Of 8 x 8 windows: Wang and Bovik's index Q_0 of F with each source, weighted by that source's share of the
    variance, and windows by the larger variance. Grey float64 [H, W] in 0 to 255; nan where no source has
    contrast. Trap: code in the field puts SSIM in the place of Q_0, which is higher on flat areas.
    """
    check_sides(fused, len(Q_WINDOW), "Q_W")
    var_a, var_b = _variance(first), _variance(second)
    total = var_a + var_b
    share = np.divide(var_a, total, out=np.full_like(total, 0.5), where=total > 0)
    weight = np.maximum(var_a, var_b)
    quality = share * _index(first, fused) + (1 - share) * _index(second, fused)
    return float((weight * quality).sum() / weight.sum()) if weight.any() else float("nan")


def _box(image: np.ndarray) -> np.ndarray:
    """Means over 8 x 8 windows that lie in the image, [H - 7, W - 7]."""
    size = len(Q_WINDOW)
    mean = cv2.boxFilter(image, cv2.CV_64F, (size, size), anchor=(0, 0))
    return mean[: image.shape[0] - size + 1, : image.shape[1] - size + 1]


def _variance(image: np.ndarray) -> np.ndarray:
    variance = _box(image**2) - _box(image) ** 2
    return np.where(variance > 1e-9, variance, 0.0)  # what rounding leaves of 0 is no contrast


def _index(source: np.ndarray, fused: np.ndarray) -> np.ndarray:
    """Universal quality index Q_0 (Wang and Bovik 2002); where both are flat the luminance term alone."""
    mean_s, mean_f = _box(source), _box(fused)
    variances = _variance(source) + _variance(fused)
    covariance = _box(source * fused) - mean_s * mean_f
    power = mean_s**2 + mean_f**2
    luminance = np.divide(2 * mean_s * mean_f, power, out=np.ones_like(power), where=power > 0)
    return luminance * np.divide(2 * covariance, variances, out=np.ones_like(power), where=variances > 0)
