# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from pictures import triple

from ditfuse_jax.evaluation.metrics import similarity

pytest.importorskip("skimage", reason="the extra eval is not installed")
from scipy.signal import convolve2d  # noqa: E402


def window_11():
    x = np.arange(-5, 6)
    window = np.exp(-(x[:, None] ** 2 + x[None, :] ** 2) / (2 * 1.5**2))
    return window / window.sum()


def patches(image, size):
    """Every size x size patch, row by row."""
    height, width = image.shape
    return [
        image[y : y + size, x : x + size] for y in range(height - size + 1) for x in range(width - size + 1)
    ]


def moments(one, other, window):
    mean_1, mean_2 = (window * one).sum(), (window * other).sum()
    return (
        mean_1,
        mean_2,
        *(
            (window * (a - b) * (c - d)).sum()
            for a, b, c, d in (
                (one, mean_1, one, mean_1),
                (other, mean_2, other, mean_2),
                (one, mean_1, other, mean_2),
            )
        ),
    )


def test_ssim_by_a_loop_over_windows():
    first, second, fused = triple(14, 17)
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2

    def loop(one, other):
        values = []
        for a, b in zip(patches(one, 11), patches(other, 11), strict=True):
            m1, m2, v1, v2, cov = moments(a, b, window_11())
            values.append((2 * m1 * m2 + c1) * (2 * cov + c2) / ((m1**2 + m2**2 + c1) * (v1 + v2 + c2)))
        return np.mean(values)

    assert similarity.pair_ssim(fused, first) == pytest.approx(loop(first, fused), rel=1e-9)
    wanted = (loop(first, fused) + loop(second, fused)) / 2
    assert similarity.ssim(first, second, fused) == pytest.approx(wanted, rel=1e-9)
    assert similarity.pair_ssim(first, first) == pytest.approx(1)


def test_ms_ssim_by_two_dimensional_convolutions():
    first, second, fused = triple(177, 190)
    weights, c1, c2 = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333), (0.01 * 255) ** 2, (0.03 * 255) ** 2

    def smooth(image):
        return convolve2d(image, window_11(), mode="valid")

    def half(image):
        extended = np.pad(image, ((0, 1), (0, 1)), mode="symmetric")
        return convolve2d(extended, np.full((2, 2), 0.25), mode="valid")[::2, ::2]

    def direct(one, other):
        value = 1.0
        for scale, weight in enumerate(weights):
            m1, m2 = smooth(one), smooth(other)
            v1, v2, cov = smooth(one**2) - m1**2, smooth(other**2) - m2**2, smooth(one * other) - m1 * m2
            part = (2 * cov + c2) / (v1 + v2 + c2)
            if scale == 4:
                part = part * (2 * m1 * m2 + c1) / (m1**2 + m2**2 + c1)
            value *= part.mean() ** weight
            one, other = half(one), half(other)
        return value

    assert similarity.pair_ms_ssim(fused, first) == pytest.approx(direct(fused, first), rel=1e-9)
    assert similarity.ms_ssim(first, first, first) == pytest.approx(1)


def loop_mef_ssim(sources, fused):
    """The definition patch by patch, vectors of 121 pixels."""
    window, eps, values = window_11().ravel(), np.finfo(float).eps, []
    columns = [[patch.ravel() for patch in patches(image, 11)] for image in (*sources, fused)]
    for *vectors, target in zip(*columns, strict=True):
        centred = [v - v.mean() for v in vectors]
        strengths = [np.linalg.norm(v) + 0.001 for v in centred]
        lengths = sum(np.linalg.norm(v) for v in centred)
        consistency = (np.linalg.norm(sum(centred)) + eps) / (lengths + eps)
        power = min(np.tan(np.pi / 2 * min(consistency, 1 - eps)), 10)
        weights = np.array([(s / 11) ** power + eps for s in strengths])
        weights /= weights.sum()
        wanted = sum(w * v / s for w, v, s in zip(weights, centred, strengths, strict=True))
        if np.linalg.norm(wanted) > 0:
            wanted = wanted / np.linalg.norm(wanted) * max(strengths)
        _, _, v1, v2, cov = moments(wanted, target, window)
        values.append((2 * cov + 58.5225) / (v1 + v2 + 58.5225))
    return np.mean(values)


@pytest.mark.parametrize("flat", [False, True])
def test_mef_ssim_patch_by_patch(flat):
    first, second, fused = triple(15, 18)
    if flat:
        first[:, :12] = 255  # over-exposed
    wanted = loop_mef_ssim((first, second), fused)
    assert similarity.mef_ssim(first, second, fused) == pytest.approx(wanted, abs=1e-7)


def test_mef_ssim_of_one_image_twice_is_one():
    first, _, fused = triple(20, 20)
    assert similarity.mef_ssim(first, first, first) == pytest.approx(1, abs=1e-4)
    assert similarity.mef_ssim(first, first, fused) < 0.99


def test_tang_ms_ssim_is_mef_ssim_on_three_scales():
    images = triple(48, 56)
    wanted = 1.0
    for weight in np.array([0.0448, 0.2856, 0.3001]) / (0.0448 + 0.2856 + 0.3001):
        wanted *= loop_mef_ssim(images[:2], images[2]) ** weight
        height, width = images[0].shape
        images = [image.reshape(height // 2, 2, width // 2, 2).mean((1, 3)) for image in images]
    assert similarity.tang_ms_ssim(*triple(48, 56)) == pytest.approx(wanted, abs=1e-7)


def test_q_w_by_a_loop_over_windows():
    first, second, fused = triple(13, 12)
    first[:9, :9] = second[:9, :9] = 40  # a window where nobody has contrast
    uniform = np.full((8, 8), 1 / 64)
    total = weights = 0.0
    for a, b, f in zip(*(patches(image, 8) for image in (first, second, fused)), strict=True):
        indices = []
        for source in (a, b):
            m1, m2, v1, v2, cov = moments(source, f, uniform)
            indices.append(2 * m1 * m2 / (m1**2 + m2**2) * 2 * cov / (v1 + v2))
        share = a.var() / (a.var() + b.var()) if a.var() + b.var() else 0.5
        weight = max(a.var(), b.var())
        total, weights = total + weight * (share * indices[0] + (1 - share) * indices[1]), weights + weight
    assert similarity.q_w(first, second, fused) == pytest.approx(total / weights, rel=1e-9)
    assert similarity.q_w(first, first, first) == pytest.approx(1)
    assert np.isnan(similarity.q_w(*np.full((3, 12, 12), 7.0)))


@pytest.mark.parametrize(
    ("metric", "side"),
    [
        (similarity.ssim, 11),
        (similarity.ms_ssim, 176),
        (similarity.mef_ssim, 11),
        (similarity.tang_ms_ssim, 44),
        (similarity.q_w, 8),
    ],
)
def test_too_small_images_are_named(metric, side):
    assert np.isfinite(metric(*triple(side, side)))
    with pytest.raises(ValueError, match=f"at least {side} pixels .* {side} x {side - 1}; score larger"):
        metric(*triple(side - 1, side))
