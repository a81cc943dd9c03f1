# SPDX-License-Identifier: Apache-2.0
"""The second half of each piece of work beside the first half of the next one.

this thread    read, encode, sample 1 | read, encode, sample 2 | ...
the other one                         | decode, write 1        | decode, write 2
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def overlapped(halves: Iterable[Callable[[], T]]) -> Iterator[T]:
    """What the second halves return, in their order; each runs while the iterable goes on to the next.

    One is under way at most, so that results of two pieces of work are in memory and no more. An error of one
    comes where its result would have come. Whatever ends the iteration, Ctrl-C too, waits for the one that
    runs: what it writes is whole.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="second half") as background:
        running = None
        for half in halves:
            done = running and running.result()
            before, running = running, background.submit(half)
            if before:
                yield done
                done = None
        if running:
            yield running.result()
