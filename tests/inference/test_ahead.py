# SPDX-License-Identifier: Apache-2.0
"""The second half of each piece of work runs while the next one's first half does, one at most, in order."""

import functools
import threading

import pytest

from conftest import PATIENCE
from ditfuse_jax.inference.ahead import overlapped


def test_a_second_half_runs_beside_the_next_first_half_and_results_are_in_order():
    fetched = [threading.Event() for _ in range(3)]
    begun, under_way = [], []

    def half(number: int) -> int:
        begun.append(number)
        under_way.append(len(begun) - len(results))
        if number < 2:  # would wait for ever where the next one is not fetched meanwhile
            assert fetched[number + 1].wait(PATIENCE)
        return number

    def halves():
        for number, event in enumerate(fetched):
            event.set()
            yield functools.partial(half, number)

    results = []
    for result in overlapped(halves()):
        results.append(result)
    assert results == begun == [0, 1, 2]
    assert max(under_way) <= 2  # the one that runs, and one that is about to be handed over


def test_an_error_comes_where_the_result_would_have_come():
    def bad():
        raise ValueError("a.png is damaged")

    results = overlapped([lambda: 1, bad, lambda: 3])
    assert next(results) == 1
    with pytest.raises(ValueError, match=r"a\.png is damaged"):
        next(results)


def test_ctrl_c_waits_for_what_is_being_written():
    go, written = threading.Event(), []

    def write():
        assert go.wait(PATIENCE)
        written.append("whole")

    def halves():
        yield write
        threading.Timer(0.05, go.set).start()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(overlapped(halves()))
    assert written == ["whole"]
