# SPDX-License-Identifier: Apache-2.0
import math

import numpy as np
import pytest
from pictures import triple

from ditfuse_jax.evaluation.metrics import errors


def loop_mse(one, other):
    pairs = zip(one.ravel(), other.ravel(), strict=True)
    return sum((a - b) ** 2 for a, b in pairs) / one.size


def test_mse_and_psnr_by_a_loop():
    first, second, fused = triple(9, 7)
    wanted = (loop_mse(first, fused) + loop_mse(second, fused)) / 2
    assert errors.mse(first, second, fused) == pytest.approx(wanted, rel=1e-12)
    assert errors.psnr(first, second, fused) == pytest.approx(10 * math.log10(255**2 / wanted), rel=1e-12)


def test_psnr_of_two_images_as_scikit_image():
    metrics = pytest.importorskip("skimage.metrics")
    first, second, _ = triple(9, 7)
    wanted = metrics.peak_signal_noise_ratio(first, second, data_range=255)
    assert errors.pair_psnr(second, first) == pytest.approx(wanted, rel=1e-12)
    assert errors.pair_psnr(first, first) == math.inf


def test_uint8_does_not_wrap():
    dark, bright = np.zeros((4, 4), np.uint8), np.full((4, 4), 255, np.uint8)
    assert errors.pair_mse(dark, bright) == 255**2


def test_mean_of_the_sources_is_the_best_image_for_psnr():
    """Why this number does not measure fusion; its ceiling is set by the data."""
    first, second, fused = triple(12, 12)
    ceiling = 10 * math.log10(255**2 / (np.square(first - second).mean() / 4))
    assert errors.psnr(first, second, (first + second) / 2) == pytest.approx(ceiling, rel=1e-12)
    assert errors.psnr(first, second, fused) < ceiling


def test_tang_scales_the_images_and_not_the_peak():
    first, second, fused = triple(9, 7)
    small = errors.tang_mse(first, second, fused)
    assert small == pytest.approx(
        loop_mse(first / 255, fused / 255) / 2 + loop_mse(second / 255, fused / 255) / 2
    )
    assert errors.tang_psnr(first, second, fused) == pytest.approx(20 * math.log10(255 / math.sqrt(small)))
    assert errors.tang_psnr(first, second, fused) - errors.psnr(first, second, fused) == pytest.approx(
        48.1308, abs=1e-4
    )
