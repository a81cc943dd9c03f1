# SPDX-License-Identifier: Apache-2.0
from math import atan2, cos, degrees, exp, hypot, radians, sin, sqrt

import numpy as np
import pytest
from pictures import coloured

from ditfuse_jax.evaluation.metrics import colour

skimage_color = pytest.importorskip("skimage.color", reason="the extra eval is not installed")


def ciede2000(lab1, lab2):
    """Sharma, Wu and Dalal 2005, equations 2 to 22, of two colours."""
    (l1, a1, b1), (l2, a2, b2) = lab1, lab2
    mean_c = (hypot(a1, b1) + hypot(a2, b2)) / 2
    g = 0.5 * (1 - sqrt(mean_c**7 / (mean_c**7 + 25**7)))
    a1, a2 = (1 + g) * a1, (1 + g) * a2
    c1, c2 = hypot(a1, b1), hypot(a2, b2)
    h1, h2 = degrees(atan2(b1, a1)) % 360, degrees(atan2(b2, a2)) % 360
    dh = 0 if c1 * c2 == 0 else (h2 - h1 + 180) % 360 - 180
    d_l, d_c, d_h = l2 - l1, c2 - c1, 2 * sqrt(c1 * c2) * sin(radians(dh / 2))
    m_l, m_c = (l1 + l2) / 2, (c1 + c2) / 2
    m_h = h1 + h2 if c1 * c2 == 0 else (h1 + dh / 2) % 360
    t = 1 - 0.17 * cos(radians(m_h - 30)) + 0.24 * cos(radians(2 * m_h))
    t += 0.32 * cos(radians(3 * m_h + 6)) - 0.20 * cos(radians(4 * m_h - 63))
    s_l = 1 + 0.015 * (m_l - 50) ** 2 / sqrt(20 + (m_l - 50) ** 2)
    s_c, s_h = 1 + 0.045 * m_c, 1 + 0.015 * m_c * t
    turn = -2 * sqrt(m_c**7 / (m_c**7 + 25**7)) * sin(radians(60 * exp(-(((m_h - 275) / 25) ** 2))))
    light, c, h = d_l / s_l, d_c / s_c, d_h / s_h
    return sqrt(light**2 + c**2 + h**2 + turn * c * h)


def test_the_formula_of_this_test_reproduces_the_published_pairs():
    """Sharma, Wu and Dalal 2005, Table 1, pairs 1, 7 and 17."""
    assert ciede2000((50, 2.6772, -79.7751), (50, 0, -82.7485)) == pytest.approx(2.0425, abs=5e-5)
    assert ciede2000((50, 0, 0), (50, -1, 2)) == pytest.approx(2.3669, abs=5e-5)
    assert ciede2000((50, 2.5, 0), (73, 25, -18)) == pytest.approx(27.1492, abs=5e-5)


def test_ciede2000_pixel_by_pixel():
    one, other = coloured(6, 5), coloured(6, 5, seed=1)
    labs = (skimage_color.rgb2lab(image).reshape(-1, 3) for image in (one, other))
    wanted = np.mean([ciede2000(a, b) for a, b in zip(*labs, strict=True)])
    assert colour.ciede2000(other, one) == pytest.approx(wanted, rel=1e-6)
    assert colour.ciede2000(one, one) == 0


def test_colourfulness_by_a_loop():
    image = coloured(5, 4)
    rows = [tuple(map(float, pixel)) for pixel in image.reshape(-1, 3)]
    rg = [r - g for r, g, _ in rows]
    yb = [(r + g) / 2 - b for r, g, b in rows]
    means = [sum(x) / len(x) for x in (rg, yb)]
    variances = [sum((v - m) ** 2 for v in x) / len(x) for x, m in zip((rg, yb), means, strict=True)]
    wanted = sqrt(sum(variances)) + 0.3 * hypot(*means)
    assert colour.colourfulness(image) == pytest.approx(wanted, rel=1e-12)


def test_grey_has_no_colour_and_keeps_its_levels():
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    image = np.repeat(levels[..., None], 3, axis=2)
    np.testing.assert_array_equal(colour.grey(image), levels)
    assert colour.colourfulness(image) == 0
    np.testing.assert_array_equal(
        colour.grey(np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)), [[76, 150, 29]]
    )
