# SPDX-License-Identifier: Apache-2.0
"""What a run says while it runs: a progress line, one JSON line per logged step, a tracker's charts."""

import itertools
import json
import os
import sys
import time
from pathlib import Path

import jax
import numpy as np

from ditfuse_jax.data.config import TASKS
from ditfuse_jax.training.trackers import TRACKERS


def record(step: int, metrics, *, rows_per_second: float, flops: float) -> dict:
    """One logged step as plain values. metrics: host `Metrics`; flops: model FLOP/s."""
    tasks = zip(TASKS, metrics.task_loss, metrics.task_rows, strict=True)
    return {
        "step": step,
        "loss": float(metrics.loss),
        "task_loss": {name: float(loss) for name, loss, rows in tasks if rows},
        "learning_rate": float(metrics.learning_rate),
        "grad_norm": float(metrics.grad_norm),
        "samples_per_second": round(rows_per_second, 3),
        "model_flops_per_second": round(flops),
        "memory_bytes": memory(),
    }


def memory() -> int:
    """Bytes in use on the first device; of this process where the device does not say."""
    stats = jax.local_devices()[0].memory_stats()
    if stats:
        return stats["bytes_in_use"]
    pages = Path("/proc/self/statm")
    return int(pages.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if pages.exists() else 0


class Log:
    """log.jsonl in the workdir, the same numbers to a tracker, a console line; by the first process alone."""

    def __init__(self, workdir: Path, *, last_step: int, report_to: str = "tensorboard"):
        self.writes = jax.process_index() == 0
        self.path = workdir / "log.jsonl"
        self.tracker = None
        if self.writes:
            keep_until(self.path, last_step) if last_step else set_aside(self.path)
            self.tracker = TRACKERS[report_to](workdir, last_step)

    def write(self, values: dict) -> None:
        """Appends one line, flushed, and gives the same numbers to the tracker."""
        if not self.writes:
            return
        with self.path.open("a") as file:
            file.write(json.dumps(values) + "\n")
        numbers = {
            name: value for name, value in values.items() if isinstance(value, int | float) and name != "step"
        }
        numbers |= {f"task_loss/{name}": value for name, value in values.get("task_loss", {}).items()}
        self.tracker.numbers(numbers, values["step"])

    def picture(self, name: str, image: np.ndarray, step: int) -> None:
        """uint8 [H, W, 3] to the tracker."""
        if self.writes:
            self.tracker.picture(name, image, step)

    def say(self, line: str) -> None:
        """A line that stays."""
        if self.writes:
            print(line, flush=True)

    def __enter__(self) -> "Log":
        return self

    def __exit__(self, *_) -> None:
        """Also after an error, for the process then ends without a flush."""
        if self.tracker:
            self.tracker.close()


def set_aside(path: Path) -> None:
    """Gives the log of a run that left no checkpoint another name, for a new one begins."""
    if not path.exists() or not path.read_bytes().strip():
        return
    free = next(n for n in itertools.count(1) if not path.with_suffix(f".{n}.jsonl").exists())
    path.replace(path.with_suffix(f".{free}.jsonl"))


def keep_until(path: Path, step: int) -> None:
    """Drops the lines after `step`, for those steps run again, and a torn last one. Atomic.

    Other lines that cannot be read go to log.damaged.jsonl, with a warning.
    """
    if not path.exists():
        return
    lines, kept, damaged = path.read_text(errors="replace").splitlines(), [], []
    for number, line in enumerate(lines, 1):
        at = step_of(line)
        if at is None and number < len(lines):
            damaged.append((number, line))
        elif at is not None and at <= step:
            kept.append(line)
    if damaged:
        aside = path.with_suffix(".damaged.jsonl")
        with aside.open("a") as file:
            file.writelines(f"{line}\n" for _, line in damaged)
        numbers = ", ".join(str(number) for number, _ in damaged)
        warn(f"{path}: line {numbers} cannot be read; now in {aside.name}")
    temporary = path.with_suffix(".tmp")
    temporary.write_text("".join(line + "\n" for line in kept))
    temporary.replace(path)


def step_of(line: str) -> int | None:
    """The step that a line of the log is about; None where it cannot be read."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return None


class Clock:
    """Rows and FLOPs per second since the last reading."""

    def __init__(self):
        self.start, self.rows, self.flops = time.perf_counter(), 0, 0.0

    def add(self, rows: int, flops: float) -> None:
        self.rows, self.flops = self.rows + rows, self.flops + flops

    def read(self) -> tuple[float, float]:
        now = time.perf_counter()
        spent = max(now - self.start, 1e-9)
        speeds = self.rows / spent, self.flops / spent
        self.start, self.rows, self.flops = now, 0, 0.0
        return speeds


def progress(values: dict, *, steps: int, batch_size: int, peak: float) -> str:
    """`step 120/4000  loss 0.3121  24.1 samples/s  1 h 12 min left  85 GFLOP/s  MFU 41 %`."""
    speed, flops = values["samples_per_second"], values["model_flops_per_second"]
    left = duration((steps - values["step"]) * batch_size / speed) if speed else "?"
    rate = f"{flops / 1e12:.1f} TFLOP/s" if flops > 1e12 else f"{flops / 1e9:.1f} GFLOP/s"
    shown = f"step {values['step']}/{steps}  loss {values['loss']:.4f}  {speed:.1f} samples/s"
    return f"{shown}  {left} left  {rate}" + (f"  MFU {100 * flops / peak:.0f} %" if peak else "")


def duration(seconds: float) -> str:
    hours, minutes = divmod(round(seconds / 60), 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min" if minutes else f"{round(seconds)} s"


def warn(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
