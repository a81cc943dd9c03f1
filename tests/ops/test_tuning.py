# SPDX-License-Identifier: Apache-2.0
"""The decision about the machine."""

import dataclasses

import jax
import pytest

from ditfuse_jax.ops.tuning import PORTABLE, Tuning


def test_accelerators_take_their_kernel_on_one_device_and_the_defaults_on_a_mesh():
    for backend, kernel in (("gpu", "cudnn"), ("tpu", "splash")):
        assert Tuning.choose(backend, 1) == dataclasses.replace(PORTABLE, attention=kernel)
        assert Tuning.choose(backend, 8) == PORTABLE


def test_virtual_devices_keep_whole_batches_of_scores():
    one, eight = (Tuning.choose("cpu", count) for count in (1, 8))
    assert one.max_scores < eight.max_scores == PORTABLE.max_scores


def test_pictures_go_together_where_one_leaves_the_machine_idle():
    assert [Tuning.choose(backend, 1).pictures for backend in ("cpu", "gpu", "tpu")] == [1, 8, 8]
    assert Tuning.choose("cpu", 8).pictures == 1


def test_options_of_jit_are_known_to_the_compiler():
    for tuning in (PORTABLE, Tuning.choose("cpu", 1)):
        assert float(jax.jit(lambda x: x + 1, **tuning.jit_options())(1.0)) == 2.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attention": "flash"}, "attention 'flash' is not one of blocks, plain, cudnn, splash"),
        ({"max_scores": 0}, "max_scores 0 is not positive"),
        ({"pictures": 0}, "pictures 0 is not positive"),
    ],
)
def test_values_that_do_not_exist_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Tuning(**changes)
