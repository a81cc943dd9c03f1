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
from ditfuse_jax.inference.jobs import Failure, Job, Watch
from ditfuse_jax.inference.plan import Plan, describe


class Compiled(NamedTuple):
    """Programs that XLA compiled, and programs taken from the persistent compilation cache."""

    new: int
    cached: int


@contextmanager
def progress(jobs: Sequence[Job], steps: int, *, verbose: bool = False):
    """Yields a `Watch` that moves one bar over the steps of all pictures; each new plan is printed.

    jobs: all of the run, in its order. With several the bar says which of them is made, and how many are made
    in a minute.
    """
    num_jobs, places = len(jobs), {job.out: place for place, job in enumerate(jobs, 1)}
    shown: list[Plan] = []
    due = 0  # steps at which the picture of the moment is sampled
    ended, start = 0, time.monotonic()  # pictures, made or failed
    with tqdm(total=num_jobs * steps, unit="step", dynamic_ncols=True, disable=None) as bar:

        def settle():
            bar.total += bar.n - due  # without the steps of copied tiles

        def on_plan(job: Job, plan: Plan):
            nonlocal due
            settle()
            bar.total += plan.calls - steps  # a large picture takes them for every batch of its tiles
            due = bar.n + plan.calls
            if plan not in shown:
                tqdm.write(describe(plan, verbose=verbose), file=sys.stdout)
                shown.append(plan)
            place = f"{places[job.out]} of {num_jobs}: " if num_jobs > 1 else ""
            bar.set_description(place + job.out.stem)

        def count_one():
            nonlocal ended
            ended += 1
            if num_jobs > 1:
                bar.set_postfix_str(f"{60 * ended / (time.monotonic() - start):.3g} pictures a minute")

        def on_failure(failure: Failure):
            tqdm.write(f"failed      {failure.message}", file=sys.stderr)
            bar.total -= steps  # what is left, near enough: a failed pair rarely takes a step
            count_one()
            bar.refresh()

        def on_note(job: Job, note: str):
            name = f"{job.out.stem}: " if num_jobs > 1 else ""
            tqdm.write(f"note        {name}{note}", file=sys.stdout)

        def on_done(job: Job, result: Fused):
            count_one()
            for line in told_of(job, result):
                tqdm.write(line, file=sys.stdout)

        def on_step():
            bar.update()

        yield Watch(on_plan, on_step, on_done, on_failure, on_note)
        settle()


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
