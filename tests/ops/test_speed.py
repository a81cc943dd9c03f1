# SPDX-License-Identifier: Apache-2.0
"""The faster dtype of a machine: by measurement, and bfloat16 only where it gains."""

import pytest

from ditfuse_jax.ops import speed


@pytest.mark.parametrize(
    ("float32", "bfloat16", "chosen"),
    [(1.0, 0.5, "bfloat16"), (1.0, 0.95, "float32"), (1.0, 4.0, "float32")],
)
def test_the_faster_one_is_chosen_and_a_tie_is_float32(monkeypatch, float32, bfloat16, chosen):
    seconds = {"float32": float32, "bfloat16": bfloat16}
    monkeypatch.setattr(speed, "layer_seconds", lambda dtype, *_: seconds[dtype])
    assert speed.faster_dtype.__wrapped__(64, 128) == chosen


def test_both_are_measured():
    assert speed.layer_seconds("float32", 64, 128) > 0
    assert speed.layer_seconds("bfloat16", 64, 128) > 0
    assert speed.product_speed("float32") > 1e6
