# SPDX-License-Identifier: Apache-2.0
"""What infer.py shows: the plan before it runs, a bar with the time left, the path of each picture."""

import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import jax
from tqdm import tqdm

from ditfuse_jax.inference.fuse import Fused
from ditfuse_jax.inference.jobs import Failure, Job
from ditfuse_jax.inference.making import Watch
from ditfuse_jax.inference.plan import Plan, describe


class Compiled(NamedTuple):
    """Programs that XLA compiled, and programs taken from the persistent compilation cache."""

    new: int
    cached: int


class Shown:
    """A `Watch` on one bar over the steps of all pictures."""

    def __init__(self, jobs: Sequence[Job], steps: int, bar: tqdm, *, verbose: bool):
        self.bar, self.steps, self.verbose = bar, steps, verbose
        self.places = {job.out: place for place, job in enumerate(jobs, 1)}
        self.plans: list[Plan] = []
        self.begun, self.due = 0, 0  # steps at which the batch of the moment begins, and is sampled
        self.ended, self.start = 0, time.monotonic()  # pictures, made or failed

    @property
    def several(self) -> bool:
        return len(self.places) > 1

    def settle(self) -> None:
        """The total without the steps of copied tiles."""
        self.bar.total += self.bar.n - self.due
        self.begun = self.due = self.bar.n

    def on_plan(self, job: Job, plan: Plan) -> None:
        if self.bar.n > self.begun:  # else one more picture of the same batch
            self.settle()
        self.bar.total += plan.calls - self.steps  # a large picture takes them for every batch of its tiles
        self.due += plan.calls
        if plan not in self.plans:
            tqdm.write(describe(plan, verbose=self.verbose), file=sys.stdout)
            self.plans.append(plan)
        place = f"{self.places[job.out]} of {len(self.places)}: " if self.several else ""
        self.bar.set_description(place + job.out.stem)

    def on_step(self) -> None:
        self.bar.update()

    def on_done(self, job: Job, result: Fused) -> None:
        self.count_one()
        for line in told_of(job, result):
            tqdm.write(line, file=sys.stdout)

    def on_failure(self, failure: Failure) -> None:
        tqdm.write(f"failed      {failure.message}", file=sys.stderr)
        self.bar.total -= self.steps  # what is left, near enough: a failed pair rarely takes a step
        self.count_one()
        self.bar.refresh()

    def on_note(self, job: Job, note: str) -> None:
        name = f"{job.out.stem}: " if self.several else ""
        tqdm.write(f"note        {name}{note}", file=sys.stdout)

    def count_one(self) -> None:
        self.ended += 1
        if self.several:
            speed = 60 * self.ended / (time.monotonic() - self.start)
            self.bar.set_postfix_str(f"{speed:.3g} pictures a minute")


@contextmanager
def progress(jobs: Sequence[Job], steps: int, *, verbose: bool = False):
    """Yields a `Watch` that moves one bar over the steps of all pictures; each new plan is printed.

    jobs: all of the run, in its order. With several the bar says which of them is made, and how many are made
    in a minute.
    """
    with tqdm(total=len(jobs) * steps, unit="step", dynamic_ncols=True, disable=None) as bar:
        shown = Shown(jobs, steps, bar, verbose=verbose)
        yield Watch(shown.on_plan, shown.on_step, shown.on_done, shown.on_failure, shown.on_note)
        shown.settle()


def told_of(job: Job, result: Fused) -> Iterator[str]:
    """The lines of a picture that is made."""
    spent = ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in result.timings._asdict().items())
    yield f"seconds     {spent}"
    for file in (*job.files, *filter(None, [job.alignment])):
        yield f"written     {file}"
    if result.explained is not None:
        yield f"explained   {result.explained:.1%} of the pixels by the sources"


@contextmanager
def count_compiled():
    """Yields a function that says what was `Compiled` inside the with block until now."""
    events: Counter[str] = Counter()

    def count(name: str, *_, **__):
        events[name.rsplit("/", 1)[-1]] += 1

    jax.monitoring.register_event_listener(count)
    jax.monitoring.register_event_duration_secs_listener(count)
    try:
        # a program from the cache passes through the same timer as one that is compiled
        yield lambda: Compiled(
            events["backend_compile_duration"] - events["cache_hits"], events["cache_hits"]
        )
    finally:
        jax.monitoring.unregister_event_listener(count)
        jax.monitoring.unregister_event_duration_listener(count)
