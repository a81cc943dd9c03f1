# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from pictures import triple

from ditfuse_jax.evaluation.metrics import visual

signal = pytest.importorskip("scipy.signal", reason="the extra eval is not installed")


def direct_vif(reference, image):
    """vifp_mscale of LIVE, written out: two-dimensional windows, base-10 logarithms."""
    gained = given = 0.0
    for scale in range(1, 5):
        size = 2 ** (5 - scale) + 1
        x = np.arange(size) - size // 2
        window = np.exp(-(x[:, None] ** 2 + x[None, :] ** 2) / (2 * (size / 5) ** 2))
        window /= window.sum()

        def smooth(picture, window=window):
            return signal.convolve2d(picture, window, mode="valid")

        if scale > 1:
            reference, image = smooth(reference)[::2, ::2], smooth(image)[::2, ::2]
        mean_r, mean_i = smooth(reference), smooth(image)
        var_r = np.maximum(smooth(reference**2) - mean_r**2, 0)
        var_i = np.maximum(smooth(image**2) - mean_i**2, 0)
        cov = smooth(reference * image) - mean_r * mean_i
        for r, i, c in zip(var_r.ravel(), var_i.ravel(), cov.ravel(), strict=True):
            gain = c / (r + 1e-10)
            rest = i - gain * c
            if r < 1e-10:
                gain, rest, r = 0, i, 0
            if i < 1e-10:
                gain, rest = 0, 0
            if gain < 0:
                gain, rest = 0, i
            rest = max(rest, 1e-10)
            gained += np.log10(1 + gain**2 * r / (rest + 2))
            given += np.log10(1 + r / 2)
    return gained / given


def test_vif_as_the_authors_define_it():
    first, second, fused = triple(48, 53)
    first[:24, :30] = 255  # flat: the cases without variance
    assert visual.pair_vif(fused, first) == pytest.approx(direct_vif(first, fused), rel=1e-9)
    wanted = direct_vif(first, fused) + direct_vif(second, fused)
    assert visual.vif(first, second, fused) == pytest.approx(wanted, rel=1e-9)


def test_vif_knows_blur_and_contrast():
    first, _, _ = triple(64, 64)
    blurred = np.rint(signal.convolve2d(first, np.full((3, 3), 1 / 9), mode="same", boundary="symm"))
    assert visual.pair_vif(first, first) == pytest.approx(1, abs=1e-6)
    assert visual.pair_vif(blurred, first) < 0.7
    assert visual.pair_vif(128 + 1.2 * (first - 128), first) > 1
    assert np.isnan(visual.pair_vif(first, np.full_like(first, 9)))


def test_vif_names_its_smallest_side():
    assert np.isfinite(visual.vif(*triple(41, 41)))
    with pytest.raises(ValueError, match="VIF needs sides of at least 41 pixels"):
        visual.vif(*triple(40, 60))


def freqspace(count):
    """MATLAB's: the frequencies of a centred FFT, Nyquist 1."""
    return (np.arange(count) - count // 2) * 2 / count


def centred(image, gain):
    spectrum = np.fft.fftshift(np.fft.fft2(image)) * gain
    return np.fft.ifft2(np.fft.ifftshift(spectrum)).real


@pytest.mark.parametrize("size", [(48, 64), (37, 50)])
def test_q_cv_block_by_block(size):
    images = [visual.stretch(image) for image in triple(*size)]
    radius = np.hypot(freqspace(size[0])[:, None] * size[0] / 8, freqspace(size[1])[None, :] * size[1] / 8)
    gain = 2.6 * (0.0192 + 0.144 * radius) * np.exp(-((0.144 * radius) ** 1.1))
    kernel = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    above = below = 0.0
    for source in images[:2]:
        strength = np.hypot(
            signal.convolve2d(source, kernel, mode="same"), signal.convolve2d(source, kernel.T, mode="same")
        )
        error = centred(source - images[2], gain) ** 2
        for y in range(0, size[0], 16):
            for x in range(0, size[1], 16):
                weight = (strength[y : y + 16, x : x + 16] ** 5).sum()
                above += weight * error[y : y + 16, x : x + 16].sum() / 256
                below += weight
    assert visual.q_cv(*triple(*size)) == pytest.approx(above / below, rel=1e-9)


@pytest.mark.parametrize("size", [(40, 44), (37, 51)])
def test_q_cb_pixel_by_pixel(size):
    radius = np.hypot(freqspace(size[0])[:, None] * size[0] / 30, freqspace(size[1])[None, :] * size[1] / 30)
    gain = np.exp(-((radius / 15.387) ** 2)) - 0.7622 * np.exp(-((radius / 1.3456) ** 2))
    x = np.arange(-15, 16)
    distance = x[:, None] ** 2 + x[None, :] ** 2
    near, far = (np.exp(-distance / (2 * s**2)) / (2 * np.pi * s**2) for s in (2, 4))
    contrasts = []
    for image in triple(*size):
        seen = centred(visual.stretch(image), gain)
        c = np.abs(signal.convolve2d(seen, near, mode="same") / signal.convolve2d(seen, far, mode="same") - 1)
        contrasts.append((c**3 / (c**2 + 0.0001)).ravel())
    values = []
    for a, b, f in zip(*contrasts, strict=True):
        kept = [min(s, f) / max(s, f) for s in (a, b)]
        values.append((a * a * kept[0] + b * b * kept[1]) / (a * a + b * b))
    assert visual.q_cb(*triple(*size)) == pytest.approx(np.mean(values), rel=1e-6)


def test_the_best_of_q_cv_is_zero_and_of_q_cb_one():
    first, _, fused = triple(48, 48)
    assert visual.q_cv(first, first, first) == 0
    assert visual.q_cb(first, first, first) == pytest.approx(1)
    assert visual.q_cv(first, first, fused) > 0
    assert visual.q_cb(first, first, fused) < 1


def test_images_without_contrast_have_no_value():
    black = np.zeros((3, 48, 48))
    assert np.isnan(visual.q_cv(*black))
    assert np.isnan(visual.q_cb(*black))
