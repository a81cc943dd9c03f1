# SPDX-License-Identifier: Apache-2.0
from collections import Counter
from math import log2

import numpy as np
import pytest
from pictures import triple

from ditfuse_jax.evaluation.metrics import information


def bits(values):
    values = list(values)
    return -sum(n / len(values) * log2(n / len(values)) for n in Counter(values).values())


def loop_information(source, fused):
    """Sum of p(x, y) log2(p(x, y) / p(x) p(y)) over the pairs that occur."""
    pairs = list(zip(source.ravel(), fused.ravel(), strict=True))
    count, left, right = len(pairs), Counter(a for a, _ in pairs), Counter(b for _, b in pairs)
    return sum(n / count * log2(n * count / (left[a] * right[b])) for (a, b), n in Counter(pairs).items())


def test_entropy_by_counting():
    fused = triple(20, 21)[2]
    assert information.entropy(fused) == pytest.approx(bits(fused.ravel()), rel=1e-12)
    assert information.entropy(np.full((4, 4), 3.0)) == 0
    assert information.entropy(np.arange(256.0).reshape(16, 16)) == 8


def test_mutual_information_by_counting():
    first, second, fused = triple(20, 21)
    parts = loop_information(first, fused), loop_information(second, fused)
    assert information.mutual_information(first, second, fused) == pytest.approx(sum(parts), rel=1e-9)
    entropies = [bits(source.ravel()) + bits(fused.ravel()) for source in (first, second)]
    wanted = 2 * (parts[0] / entropies[0] + parts[1] / entropies[1])
    assert information.normalised_mutual_information(first, second, fused) == pytest.approx(wanted, rel=1e-9)


def test_normalised_mutual_information_of_one_image_is_two():
    image = triple(20, 21)[0]
    assert information.normalised_mutual_information(image, image, image) == pytest.approx(2)
    assert information.normalised_mutual_information(*np.zeros((3, 4, 4))) == 0


def test_tang_merges_the_two_brightest_levels_in_the_joint_alone():
    image = np.array([[254.0, 255.0], [0.0, 1.0]])
    merged = np.minimum(image, 254)
    wanted = 2 * (2 * bits(image.ravel()) - bits(zip(merged.ravel(), merged.ravel(), strict=True)))
    assert information.tang_mutual_information(image, image, image) == pytest.approx(wanted)
    assert wanted > information.mutual_information(image, image, image)
