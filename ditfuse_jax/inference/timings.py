# SPDX-License-Identifier: Apache-2.0
"""Seconds of a fusion by stage."""

import time
from typing import NamedTuple


class Timings(NamedTuple):
    """Seconds, waiting for compilers included. What prompts share is counted with the first of them, what
    pictures on one batch axis share is parted evenly.
    """

    encode: float = 0.0
    prefix: float = 0.0
    sample: float = 0.0
    decode: float = 0.0
    rebuild: float = 0.0  # blended, and made of the sources' pixels

    def plus(self, other: "Timings") -> "Timings":
        return Timings(*map(sum, zip(self, other, strict=True)))

    def share(self, count: int) -> "Timings":
        """Of one of `count` pictures."""
        return Timings(*(seconds / count for seconds in self))


class Stopwatch:
    """Adds up what each stage takes, a lap at a time."""

    def __init__(self):
        self.seconds = dict.fromkeys(Timings._fields, 0.0)
        self.last = time.perf_counter()

    def lap(self, stage: str) -> None:
        """Counts the time since the last lap for `stage`."""
        now = time.perf_counter()
        self.seconds[stage] += now - self.last
        self.last = now

    def take(self) -> Timings:
        """What was counted, and begins anew."""
        taken = Timings(**self.seconds)
        self.seconds = dict.fromkeys(Timings._fields, 0.0)
        return taken

    def go_on(self) -> None:
        """Begins a lap: what was since the last one counts for nothing."""
        self.last = time.perf_counter()
