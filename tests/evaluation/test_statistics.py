# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from pictures import triple

from ditfuse_jax.evaluation.metrics import gradients, statistics


def test_deviation_by_a_loop():
    fused = triple(9, 8)[2]
    mean = sum(fused.ravel()) / fused.size
    wanted = (sum((x - mean) ** 2 for x in fused.ravel()) / fused.size) ** 0.5
    assert statistics.deviation(fused) == pytest.approx(wanted, rel=1e-12)
    assert statistics.tang_deviation(fused) == pytest.approx(wanted / 255, rel=1e-12)


def test_correlations_as_numpy_computes_them():
    first, second, fused = triple(9, 8)

    def r(one, other):
        return np.corrcoef(one.ravel(), other.ravel())[0, 1]

    wanted = (r(first, fused) + r(second, fused)) / 2
    assert statistics.correlation(first, second, fused) == pytest.approx(wanted, rel=1e-9)
    wanted = r(fused - second, first) + r(fused - first, second)
    assert statistics.scd(first, second, fused) == pytest.approx(wanted, rel=1e-9)
    assert statistics.scd(first, second, first + second) == pytest.approx(2)
    assert np.isnan(statistics.correlation(first, second, np.full_like(first, 3)))


def test_spatial_frequency_by_a_loop():
    fused = triple(9, 8)[2]
    rows = [(fused[y, x] - fused[y, x - 1]) ** 2 for y in range(9) for x in range(1, 8)]
    columns = [(fused[y, x] - fused[y - 1, x]) ** 2 for y in range(1, 9) for x in range(8)]
    wanted = (sum(rows) / len(rows) + sum(columns) / len(columns)) ** 0.5
    assert gradients.spatial_frequency(fused) == pytest.approx(wanted, rel=1e-12)


def test_average_gradient_by_a_loop():
    fused = triple(9, 8)[2]

    def slope(line, i):
        low, high = max(i - 1, 0), min(i + 1, len(line) - 1)
        return (line[high] - line[low]) / (high - low)

    total = 0.0
    for y in range(9):
        for x in range(8):
            total += ((slope(fused[y], x) ** 2 + slope(fused[:, x], y) ** 2) / 2) ** 0.5
    assert gradients.average_gradient(fused) == pytest.approx(total / 72, rel=1e-12)
    assert gradients.tang_average_gradient(fused) == pytest.approx(total / 56, rel=1e-12)
