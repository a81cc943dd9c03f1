# SPDX-License-Identifier: Apache-2.0
"""What fusion without a network can do: uint8 [H, W, 3] twice -> uint8 [H, W, 3]."""

import cv2
import numpy as np

from ditfuse_jax.data import pyramid

# Li, Kang and Hu 2013: windows in pixels, eps for images on [0, 1]
BASE_WINDOW = 31  # of the mean that splits base and detail
SALIENCY_WINDOW, SALIENCY_SIGMA = 11, 5.0
BASE_RADIUS, BASE_EPS = 45, 0.3
DETAIL_RADIUS, DETAIL_EPS = 7, 1e-6


def mean(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return _to_uint8((first.astype(np.float32) + second) / 2)


def maximum(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.maximum(first, second)


def laplacian(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Of every band the stronger source, of what remains the mean (Burt and Adelson, 1983).

    Strength is summed over the channels, so that a pixel's colours all come from one source.
    """
    *bands, (low1, low2) = zip(*(pyramid.bands(x.astype(np.float32)) for x in (first, second)), strict=True)
    image = (low1 + low2) / 2
    for one, two in reversed(bands):
        stronger = np.abs(one).sum(-1, keepdims=True) >= np.abs(two).sum(-1, keepdims=True)
        image = pyramid.up(image, one) + np.where(stronger, one, two)
    return _to_uint8(image)


def mertens(*images: np.ndarray) -> np.ndarray:
    """OpenCV's exposure fusion with its own weights. Its result leaves [0, 1], hence the clipping."""
    return _to_uint8(255 * cv2.createMergeMertens().process(list(images)))


def guided(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Guided filtering fusion (Li, Kang and Hu 2013): base and detail, each by weights that follow edges.

    A pixel first goes to the source with the larger blurred Laplacian; the guided filter, here by box
    filters, then fits these weights to the edges of the source's grey image.
    """
    sources = [image.astype(np.float32) / 255 for image in (first, second)]
    guides = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in sources]
    one, two = (_saliency(guide) for guide in guides)
    share = (np.sign(one - two) + 1) / 2  # one half where both are equal
    chosen = [share, 1 - share]
    bases = [cv2.blur(image, (BASE_WINDOW, BASE_WINDOW)) for image in sources]
    details = [image - base for image, base in zip(sources, bases, strict=True)]
    fused = _by_weights(bases, guides, chosen, BASE_RADIUS, BASE_EPS)
    fused += _by_weights(details, guides, chosen, DETAIL_RADIUS, DETAIL_EPS)
    return _to_uint8(255 * fused)


def _saliency(grey: np.ndarray) -> np.ndarray:
    size = (SALIENCY_WINDOW, SALIENCY_WINDOW)
    return cv2.GaussianBlur(np.abs(cv2.Laplacian(grey, cv2.CV_32F)), size, SALIENCY_SIGMA)


def _by_weights(layers, guides, chosen, radius: int, eps: float) -> np.ndarray:
    """The layers, float32 [H, W, 3] each, mixed by their weights after the guided filter."""
    weights = [
        guided_filter(guide, weight, radius=radius, eps=eps).clip(0, 1)
        for guide, weight in zip(guides, chosen, strict=True)
    ]
    total = np.maximum(weights[0] + weights[1], 1e-6)
    return sum(layer * (weight / total)[..., None] for layer, weight in zip(layers, weights, strict=True))


def guided_filter(guide: np.ndarray, image: np.ndarray, *, radius: int, eps: float) -> np.ndarray:
    """`image` smoothed where `guide` is smooth (He, Sun and Tang 2010); float32 [H, W] each, guide on [0, 1].

    In each window of 2 radius + 1 pixels the result is a linear function of the guide.
    """

    def mean(array: np.ndarray) -> np.ndarray:
        return cv2.blur(array, (2 * radius + 1, 2 * radius + 1))

    wide_guide, wide_image = guide.astype(np.float64), image.astype(np.float64)
    mean_guide, mean_image = mean(wide_guide), mean(wide_image)
    variance = mean(wide_guide**2) - mean_guide**2
    slope = (mean(wide_guide * wide_image) - mean_guide * mean_image) / (variance + eps)
    offset = mean_image - slope * mean_guide
    return (mean(slope) * wide_guide + mean(offset)).astype(np.float32)


BASELINES = {
    "mean": mean,
    "maximum": maximum,
    "Laplacian pyramid": laplacian,
    "Mertens": mertens,
    "guided filter": guided,
}


def _to_uint8(image: np.ndarray) -> np.ndarray:
    return np.rint(image).clip(0, 255).astype(np.uint8)
