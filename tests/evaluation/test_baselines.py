# SPDX-License-Identifier: Apache-2.0
"""Fusion without a network."""

import cv2
import numpy as np
import pytest

from ditfuse_jax.evaluation import baselines
from ditfuse_jax.evaluation.metrics.errors import pair_psnr as psnr
from synthetic import noise


def test_every_baseline_of_an_image_with_itself_is_the_image():
    """Within a level: the pyramids go through float32, Mertens also through weights that sum to 1 + 1e-12."""
    image = noise(0, 61, 84, 3)  # odd sides, which pyramids have to find back to
    for fuse in baselines.BASELINES.values():
        fused = fuse(image, image)
        assert fused.dtype == np.uint8
        assert np.abs(fused.astype(int) - image).max() <= 1


def test_baselines_know_no_order_of_the_sources():
    """Of two equally strong bands the pyramid takes the first; noise pictures hold none."""
    first, second = noise(1, 64, 80, 3), noise(2, 64, 80, 3)
    for fuse in baselines.BASELINES.values():
        assert np.abs(fuse(first, second).astype(int) - fuse(second, first)).max() <= 1


def blurred_halves() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A picture, and two copies of which each is sharp in one half; uint8 [128, 128, 3] each."""
    truth = np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8)
    blurred = cv2.GaussianBlur(truth, (0, 0), 1.5)
    first, second = truth.copy(), truth.copy()
    first[:, 64:], second[:, :64] = blurred[:, 64:], blurred[:, :64]
    return truth, first, second


@pytest.mark.parametrize(("fuse", "gain"), [(baselines.laplacian, 15), (baselines.guided, 10)])
def test_the_sharp_half_of_each_source_is_taken(fuse, gain):
    """The truth but for a seam, where both sides mix; gain in dB over the mean."""
    truth, first, second = blurred_halves()
    away = np.s_[:, np.r_[:48, 80:128]]
    mean = baselines.mean(first, second)
    assert psnr(fuse(first, second)[away], truth[away]) > psnr(mean[away], truth[away]) + gain


def test_guided_filter_window_by_window():
    """He, Sun and Tang 2010, equations 5, 6 and 8, on the pixels whose windows lie in the image."""
    rng, radius, eps = np.random.default_rng(0), 2, 0.01
    guide, image = rng.random((2, 15, 16)).astype(np.float32)
    size, slopes, offsets = 2 * radius + 1, {}, {}
    for y in range(radius, 15 - radius):
        for x in range(radius, 16 - radius):
            window = np.s_[y - radius : y + radius + 1, x - radius : x + radius + 1]
            g, p = guide[window].astype(float).ravel(), image[window].astype(float).ravel()
            slopes[y, x] = ((g * p).mean() - g.mean() * p.mean()) / (g.var() + eps)
            offsets[y, x] = p.mean() - slopes[y, x] * g.mean()
    found = baselines.guided_filter(guide, image, radius=radius, eps=eps)
    for y in range(2 * radius, 15 - 2 * radius):
        for x in range(2 * radius, 16 - 2 * radius):
            near = [
                (v, u) for v in range(y - radius, y + radius + 1) for u in range(x - radius, x + radius + 1)
            ]
            a, b = (sum(values[at] for at in near) / size**2 for values in (slopes, offsets))
            assert found[y, x] == pytest.approx(a * guide[y, x] + b, abs=1e-5)
