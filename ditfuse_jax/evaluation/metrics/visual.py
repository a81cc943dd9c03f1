# SPDX-License-Identifier: Apache-2.0
"""Models of what an eye gets from an image: VIF, Q_CV (Chen-Varshney), Q_CB (Chen-Blum)."""

import cv2
import numpy as np

from ditfuse_jax.evaluation.metrics.windows import check_sides, filter_valid, filter_zero, gaussian, sobel

NOISE = 2.0  # variance of the eye's noise in grey levels, as in the authors' code
TINY = 1e-10
VIF_SMALLEST = 41  # pixels: four scales of its windows need this

BLOCK = 16  # pixels: a region of Q_CV
SALIENCY_POWER = 5  # of the gradients of a region


def vif(first: np.ndarray, second: np.ndarray, fused: np.ndarray) -> float:
    """pair_vif(fused, first) + pair_vif(fused, second); higher is better, about 0 to 2.

    Trap: the sum is often called VIFF, which is another metric (Han 2013).
    """
    return pair_vif(fused, first) + pair_vif(fused, second)


def pair_vif(image: np.ndarray, reference: np.ndarray) -> float:
    """Information about the reference in the image over that in the reference: 1 for equal images.

    Pixel-domain VIF of Sheikh and Bovik 2006 (`vifp_mscale` of LIVE): four scales, Gaussian windows of 17, 9,
    5 and 3 pixels with sigma size / 5, only whole windows, halved between scales, noise variance 2. Grey
    float64 [H, W] in 0 to 255. Higher is better; sharpening can exceed 1. nan for a constant reference.
    Trap: a port in circulation (IVIF_ZOO) moves the window off its centre and pads with zeros: one pair
    came out 13 % higher.
    """
    check_sides(reference, VIF_SMALLEST, "VIF")
    gained = given = 0.0
    for scale in range(4):
        size = 2 ** (4 - scale) + 1
        window = gaussian(size, size / 5)
        if scale:
            reference, image = (filter_valid(x, window)[::2, ::2] for x in (reference, image))
        one, other = _information(reference, image, window)
        gained, given = gained + other, given + one
    return gained / given if given > TINY else float("nan")


def _information(reference: np.ndarray, image: np.ndarray, window: np.ndarray) -> tuple[float, float]:
    """Of one scale: what the eye gets from the reference, and of it through the image."""
    mean_r, mean_i = filter_valid(reference, window), filter_valid(image, window)
    var_r = np.maximum(filter_valid(reference * reference, window) - mean_r**2, 0)
    var_i = np.maximum(filter_valid(image * image, window) - mean_i**2, 0)
    covariance = filter_valid(reference * image, window) - mean_r * mean_i
    gain = covariance / (var_r + TINY)
    rest = var_i - gain * covariance
    flat = var_r < TINY
    gain[flat], rest[flat], var_r[flat] = 0, var_i[flat], 0
    blank = var_i < TINY
    gain[blank], rest[blank] = 0, 0
    inverted = gain < 0
    gain[inverted], rest[inverted] = 0, var_i[inverted]
    rest = np.maximum(rest, TINY)
    through = np.log1p(gain**2 * var_r / (rest + NOISE)).sum()
    return float(np.log1p(var_r / NOISE).sum()), float(through)


def q_cv(first: np.ndarray, second: np.ndarray, fused: np.ndarray) -> float:
    """Visible error of the fused image in salient regions, squared grey levels; LOWER is better.

    Chen and Varshney 2007: A - F and B - F filtered by the contrast sensitivity of the eye (Mannos-Sakrison,
    frequency in cycles over an eighth of the side), mean square in 16 x 16 blocks, averaged with each
    source's sum of Sobel magnitude^5 as weight. As in Liu's `metricChen`: images stretched to 0..255 first,
    zeros around and in part blocks, 0.144 in the sensitivity, one ratio of sums (the paper's bracket is
    unclear). nan where both sources are black.
    """
    a, b, f = (stretch(image) for image in (first, second, fused))
    sensitivity = _mannos_sakrison(*fused.shape)
    shown = weights = 0.0
    for source in (a, b):
        across, down = sobel(source, border=cv2.BORDER_CONSTANT)
        saliency = _block_sums(np.hypot(across, down) ** SALIENCY_POWER)
        error = _block_sums(_filter_spectrum(source - f, sensitivity) ** 2) / BLOCK**2
        shown, weights = shown + (saliency * error).sum(), weights + saliency.sum()
    return float(shown / weights) if weights else float("nan")


def q_cb(first: np.ndarray, second: np.ndarray, fused: np.ndarray) -> float:
    """How much of the sources' local contrast the fused image keeps, 0 to 1; higher is better.

    Chen and Blum 2009: contrast sensitivity filter (difference of Gaussians in frequency), contrast
    C = G_2 * I / G_4 * I - 1, masked contrast |C|^3 / (C^2 + 0.0001), ratio of smaller to larger against F,
    averaged with weights C'^2. As in Liu's `metricChenBlum`: images stretched to 0..255 first, 31 x 31
    windows, zeros around. Trap: a port in circulation (IVIF_ZOO) halves all frequencies.
    """
    a, b, f = (_masked_contrast(stretch(image)) for image in (first, second, fused))
    weight_a, weight_b = a**2, b**2
    total = weight_a + weight_b
    quality = weight_a * _kept(a, f) + weight_b * _kept(b, f)
    seen = total > 0
    return float((quality[seen] / total[seen]).mean()) if seen.any() else float("nan")


def stretch(image: np.ndarray) -> np.ndarray:
    """Float64 of integers: the image's range on 0..255; a constant image is left as it is."""
    low, high = image.min(), image.max()
    return np.rint((image - low) / (high - low) * 255) if high > low else image.astype(np.float64)


def _frequencies(height: int, width: int, share: float) -> np.ndarray:
    """Distance of each FFT bin from zero, float64 [H, W], in units where Nyquist is side / share."""
    down = np.fft.fftfreq(height) * 2 * height / share
    across = np.fft.fftfreq(width) * 2 * width / share
    return np.hypot(down[:, None], across[None, :])


def _mannos_sakrison(height: int, width: int) -> np.ndarray:
    r = 0.144 * _frequencies(height, width, 8)
    return 2.6 * (0.0192 + r) * np.exp(-(r**1.1))


def _filter_spectrum(image: np.ndarray, gain: np.ndarray) -> np.ndarray:
    """gain float64 [H, W] is symmetric, so the real spectrum is enough."""
    spectrum = np.fft.rfft2(image) * gain[:, : image.shape[1] // 2 + 1]
    return np.fft.irfft2(spectrum, s=image.shape)


def _block_sums(image: np.ndarray) -> np.ndarray:
    """Sums over 16 x 16 blocks, those at the end filled with zeros."""
    height, width = (-side % BLOCK for side in image.shape)
    padded = np.pad(image, ((0, height), (0, width)))
    rows, columns = padded.shape[0] // BLOCK, padded.shape[1] // BLOCK
    return padded.reshape(rows, BLOCK, columns, BLOCK).sum((1, 3))


def _masked_contrast(image: np.ndarray) -> np.ndarray:
    r = _frequencies(*image.shape, 30)
    seen = _filter_spectrum(image, np.exp(-((r / 15.387) ** 2)) - 0.7622 * np.exp(-((r / 1.3456) ** 2)))
    near, far = (_centre_surround(seen, sigma) for sigma in (2.0, 4.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        contrast = np.nan_to_num(np.abs(near / far - 1), nan=0.0, posinf=1e6)
    return contrast**3 / (contrast**2 + 1e-4)


def _centre_surround(image: np.ndarray, sigma: float) -> np.ndarray:
    x = np.arange(-15, 16)
    window = np.exp(-(x**2) / (2 * sigma**2)) / (sigma * np.sqrt(2 * np.pi))
    return filter_zero(image, window, window)


def _kept(source: np.ndarray, fused: np.ndarray) -> np.ndarray:
    low, high = np.minimum(source, fused), np.maximum(source, fused)
    return np.divide(low, high, out=np.ones_like(low), where=high > 0)
