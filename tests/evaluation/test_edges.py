# SPDX-License-Identifier: Apache-2.0
from math import atan, exp, pi, sqrt

import numpy as np
import pytest
from pictures import triple

from ditfuse_jax.evaluation.metrics import edges

KERNEL = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])


def gradients(image, *, mode, divide=1):
    """Strength and angle of every pixel, one after the other."""
    padded, found = np.pad(image, 1, mode=mode), []
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            patch = padded[y : y + 3, x : x + 3]
            across, down = (patch * KERNEL).sum() / divide, (patch * KERNEL.T).sum() / divide
            found.append((sqrt(across**2 + down**2), atan(down / across) if across else pi / 2))
    return found


def smaller_over_larger(a, b):
    return min(a, b) / max(a, b) if max(a, b) else 0


def loop_qabf(first, second, fused, *, equal):
    target = gradients(fused, mode="constant")
    above = below = 0.0
    for source in (first, second):
        for (g, a), (g_f, a_f) in zip(gradients(source, mode="constant"), target, strict=True):
            ratio = equal(g) if g == g_f else smaller_over_larger(g, g_f)
            turned = 1 - abs(a - a_f) / (pi / 2)
            quality = 0.9994 / (1 + exp(-15 * (ratio - 0.5))) * 0.9879 / (1 + exp(-22 * (turned - 0.8)))
            above, below = above + quality * g, below + g
    return above / below


def test_qabf_pixel_by_pixel():
    first, second, fused = triple(12, 14)
    fused[:, :6] = first[:, :6]  # copied: equal strengths
    wanted = loop_qabf(first, second, fused, equal=lambda g: 1)
    assert edges.qabf(first, second, fused) == pytest.approx(wanted, rel=1e-9)
    images = [image / 255 for image in (first, second, fused)]
    wanted = loop_qabf(*images, equal=lambda g: g)
    assert edges.tang_qabf(first, second, fused) == pytest.approx(wanted, rel=1e-9)


def test_tang_qabf_calls_copied_weak_edges_lost():
    image = triple(40, 40)[0] / 20
    assert edges.qabf(image, image, image) > 0.97
    assert edges.tang_qabf(image, image, image) < 0.1


def test_nabf_pixel_by_pixel():
    first, second, fused = triple(12, 14)
    maps = [gradients(image, mode="reflect", divide=8) for image in (first, second, fused)]
    above = below = 0.0
    for (g_a, a_a), (g_b, a_b), (g_f, a_f) in zip(*maps, strict=True):
        lost = 0.0
        for g, a in ((g_a, a_a), (g_b, a_b)):
            turned = abs(abs(a - a_f) - pi / 2) * 2 / pi
            strength = 0.9999 / (1 + exp(-19 * (smaller_over_larger(g, g_f) - 0.5)))
            quality = sqrt(strength * 0.9995 / (1 + exp(-22 * (turned - 0.5))))
            weight = g**1.5 if g >= 2 else 0.001
            lost, below = lost + (1 - quality) * weight, below + weight
        above += lost if g_f > g_a and g_f > g_b else 0
    assert edges.nabf(first, second, fused) == pytest.approx(above / below, rel=1e-9)


def test_nabf_rises_with_invented_edges():
    first, second, _ = triple(40, 40)
    smooth = (first + second) / 2
    noisy = smooth + 60 * np.random.default_rng(1).standard_normal(smooth.shape)
    assert edges.nabf(first, second, smooth) < edges.nabf(first, second, noisy)
    assert edges.nabf(first, first, first) == 0


def test_tang_nabf_weighs_all_pixels_alike():
    """No gradient of an image on [0, 1] reaches 2."""
    first, second, fused = triple(40, 40)
    assert edges.tang_nabf(first, second, fused) == edges.nabf(first / 255, second / 255, fused / 255)
    assert edges.tang_nabf(first, second, fused) != pytest.approx(edges.nabf(first, second, fused), rel=0.01)


def test_no_edges_no_value():
    assert np.isnan(edges.qabf(*np.zeros((3, 8, 8))))
