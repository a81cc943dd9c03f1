# SPDX-License-Identifier: Apache-2.0
"""What a folder's bar says: which of how many pictures, and their speed."""

import functools
import io
from pathlib import Path
from types import SimpleNamespace

from tqdm import tqdm

from ditfuse_jax.config import SamplingConfig
from ditfuse_jax.image import Geometry
from ditfuse_jax.inference import terminal
from ditfuse_jax.inference.jobs import Failure, Job
from ditfuse_jax.inference.plan import Plan
from ditfuse_jax.inference.timings import Timings

SIZE = Geometry((32, 48), (32, 48), (32, 48))
PLAN = Plan(SIZE, None, 1, True, SamplingConfig(steps=2), {"cond": (9, 7)}, 1_600_000, 500_000_000, 1.0)


class Screen(io.StringIO):
    def isatty(self) -> bool:  # without one there is no bar
        return True


def shown(monkeypatch, num_jobs: int) -> str:
    stream = Screen()
    bar = functools.partial(tqdm, file=stream, mininterval=0)
    bar.write = lambda *_, **__: None
    monkeypatch.setattr(terminal, "tqdm", bar)
    pair = Path("a.png"), Path("b.png")
    jobs = [Job(pair, "words", Path(f"scene{number}.png")) for number in range(num_jobs)]
    with terminal.progress(jobs, 2) as watch:
        for number, job in enumerate(jobs):
            if number == 1:
                watch.on_failure(Failure(job.out, "a.png is damaged"))
                continue
            watch.on_plan(job, PLAN)
            watch.on_step()
            watch.on_step()
            watch.on_done(job, SimpleNamespace(timings=Timings(), explained=None))
    return stream.getvalue()


def test_the_bar_of_a_folder_names_the_picture_its_place_and_the_speed(monkeypatch):
    text = shown(monkeypatch, 3)
    assert "1 of 3: scene0" in text
    assert "3 of 3: scene2" in text  # a failed one counts
    assert "pictures a minute" in text


def test_the_bar_counts_the_steps_of_every_picture_of_a_batch(monkeypatch):
    bars = []
    monkeypatch.setattr(terminal, "tqdm", lambda **how: bars.append(tqdm(file=Screen(), **how)) or bars[0])
    terminal.tqdm.write = lambda *_, **__: None
    jobs = [Job((Path("a.png"), Path("b.png")), "words", Path(f"{number}.png")) for number in range(3)]
    twice = PLAN._replace(fusions=2)
    with terminal.progress(jobs, 2) as watch:
        for batch in (jobs[:2], jobs[2:]):
            for job in batch:
                watch.on_plan(job, twice)
            for _ in range(4 * len(batch)):
                watch.on_step()
            assert bars[0].n == 4 * (batch[-1] is jobs[2]) + 8
    assert bars[0].total == bars[0].n == 12


def test_the_bar_of_one_picture_names_it_alone(monkeypatch):
    text = shown(monkeypatch, 1)
    assert "scene0: " in text
    assert " of 1" not in text
    assert "a minute" not in text
