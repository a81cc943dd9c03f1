# SPDX-License-Identifier: Apache-2.0
"""The training loop."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from ditfuse_jax.data.loader import Batch, Loader, make_loader
from ditfuse_jax.data.mixture import Mixture
from ditfuse_jax.ops.tuning import Tuning
from ditfuse_jax.training import flops, validation
from ditfuse_jax.training.config import TrainConfig
from ditfuse_jax.training.log import Clock, Log, progress, record
from ditfuse_jax.training.origin import check_origin, fingerprints
from ditfuse_jax.training.resume import Checkpoints
from ditfuse_jax.training.sharding import local_rows, put_batch
from ditfuse_jax.training.step import (
    Metrics,
    TrainState,
    code_statistics,
    new_state,
    state_shapes,
    train_step,
)
from ditfuse_jax.training.stop import Stop
from ditfuse_jax.training.trainable import Frozen, Params


class Diverged(RuntimeError):
    """The loss or its gradient is not a number any more."""


class Pending(NamedTuple):
    """A step that was dispatched and whose metrics were not read yet."""

    step: int  # steps done after it
    metrics: Metrics
    index: np.ndarray  # of this process's rows
    row_flops: float


class Data(NamedTuple):
    """Where batches come from; validation None where the mixture has no held-out lists."""

    mixture: Mixture
    validation: Mixture | None
    tokenizer: object
    accept_changed: bool = False  # resume although the files are not those that the run began with

    def loader(self, mixture: Mixture, config: TrainConfig, mesh: Mesh, start: int, workers: int) -> Loader:
        """This process's rows of every batch from `start` on."""
        rows = local_rows(config.batch_size, mesh)
        size = rows.stop - rows.start
        hosts = {"host": rows.start // size, "num_hosts": config.batch_size // size}
        settings = {"batch_size": config.batch_size, "start_batch": start, "workers": workers}
        return make_loader(mixture, self.tokenizer, **settings, **hosts, branches=bool(config.distil))


class MeshBatch(NamedTuple):
    """A batch on the mesh."""

    batch: Batch
    stop: jax.Array  # bool, one flag per row: whether its process was asked to stop
    index: np.ndarray  # of this process's rows
    row_flops: float


class Feed:
    """The run's batches from number `start` on."""

    def __init__(self, data: Data, config: TrainConfig, mesh: Mesh, start: int):
        self.config, self.mesh, self.row_flops = config, mesh, {}
        self.loader = data.loader(data.mixture, config, mesh, start, config.workers)

    def next(self, asked: bool) -> MeshBatch:
        rows = next(self.loader)
        shape = (rows.prompt.token_ids.shape[1], *rows.target.shape[1:3])
        if shape not in self.row_flops:
            self.row_flops[shape] = flops.row_flops(self.config, rows)
        flags = np.full(rows.task.shape, asked)
        batch, stop = (put_batch(part, self.config.batch_size, self.mesh) for part in (rows, flags))
        return MeshBatch(batch, stop, rows.index, self.row_flops[shape])


class Report:
    """Waits for dispatched steps, checks them and logs them."""

    def __init__(self, config: TrainConfig, log: Log):
        self.config, self.log, self.clock = config, log, Clock()
        self.peak = flops.peak(config.model.dtype if config.stage == "model" else "float32")

    def finish(self, pending: Pending | None) -> bool:
        """True when some process was asked to stop. Raises Diverged."""
        if pending is None:
            return False
        config, metrics = self.config, jax.device_get(pending.metrics)
        check_finite(pending, metrics)
        self.clock.add(config.batch_size, config.batch_size * pending.row_flops)
        if pending.step % config.log_every == 0 or pending.step == config.steps:
            speed, work = self.clock.read()
            values = record(pending.step, metrics, rows_per_second=speed, flops=work)
            self.log.write(values)
            self.log.say(progress(values, steps=config.steps, batch_size=config.batch_size, peak=self.peak))
        return bool(metrics.stop)


def train(
    config: TrainConfig,
    start: Callable[[], Params],
    frozen: Frozen,
    data: Data,
    *,
    mesh: Mesh,
    workdir: Path,
    tuning: Tuning,
    report_to: str = "tensorboard",
) -> int:
    """Trains until config.steps, or until SIGTERM or Ctrl-C; returns the number of steps done.

    Args:
      start: makes the weights that train; not called when the workdir has a checkpoint.
      frozen: the weights that do not train.
      report_to: a key of `trackers.TRACKERS`.
    Raises Diverged, CheckpointError, or ValueError when the workdir holds another run.
    """
    checkpoints = Checkpoints(workdir, keep=config.keep)
    origin = fingerprints(frozen, data.tokenizer, data.mixture)
    state, step = first_state(checkpoints, start, config, mesh)
    if step:
        check_origin(checkpoints.notes(step), origin, config, accept_changed_data=data.accept_changed)
    with Log(workdir, last_step=step, report_to=report_to) as log:
        begin = f"starts at step {step} of {config.steps}" if step else f"starts anew, {config.steps} steps"
        log.say(f"{begin}, {', '.join(map(str, config.mixture.buckets))} pixels")
        if data.validation and config.validate_every:
            log.say(held_out_line(data.validation.stems))
        run = Run(config, frozen, data, mesh, workdir, tuning, checkpoints, log, origin)
        step = take_steps(run, state, step)
    if step < config.steps:
        log.say(f"asked to stop: step {step} is saved; the same command continues")
    return step


def held_out_line(stems: list[str]) -> str:
    """`validates on 3 held-out scenes: a, b, c`, of which the first ones are named."""
    named = ", ".join(stems[:5]) + (" ..." if len(stems) > 5 else "")
    return f"validates on {len(stems)} held-out scenes: {named}"


class Run(NamedTuple):
    """All that stays the same while a run takes its steps."""

    config: TrainConfig
    frozen: Frozen
    data: Data
    mesh: Mesh
    workdir: Path
    tuning: Tuning
    checkpoints: Checkpoints
    log: Log
    origin: dict  # see `fingerprints`


def take_steps(run: Run, state: TrainState, step: int) -> int:
    """The loop: steps from `step` on, each with its log line, validation and save where these are due."""
    config, log, checkpoints, stop = run.config, run.log, run.checkpoints, Stop()
    fixed = fixed_batches(run.data, config, run.mesh) if config.validate_every else None
    feed, report = Feed(run.data, config, run.mesh, step), Report(config, log)

    pending, stopping = None, False
    while step < config.steps and not stopping:
        rows = feed.next(stop.asked)
        state, metrics = train_step(
            state, run.frozen, rows.batch, rows.stop, config=config, tuning=run.tuning
        )
        step += 1
        stopping = report.finish(pending)  # of the step before, while this one runs
        pending = Pending(step, metrics, rows.index, rows.row_flops)
        validates, saves = (due(step, every, config) for every in (config.validate_every, config.save_every))
        if not (validates or saves or stopping):
            checkpoints.check()
            continue
        stopping |= report.finish(pending)  # nothing is kept of a step that is not known to be finite
        pending = None
        loss = validate(run, state, fixed, step) if validates else None
        if saves or stopping:
            notes = run.origin | code_notes(state, rows.batch, config)
            checkpoints.save(state, config, step=step, loss=loss, notes=notes)
        report.clock.read()

    feed.loader.close()
    checkpoints.wait()
    checkpoints.close()
    return step


def due(step: int, every: int, config: TrainConfig) -> bool:
    """Every so many steps (0: never), and at the last one."""
    return bool(every) and (step % every == 0 or step == config.steps)


def first_state(
    checkpoints: Checkpoints, start: Callable[[], Params], config: TrainConfig, mesh: Mesh
) -> tuple[TrainState, int]:
    """The last complete checkpoint, or a new state around `start()` where there is none; the steps done."""
    step = checkpoints.latest_whole()
    if step is None:
        return new_state(start(), config, mesh), 0
    return checkpoints.restore(step, state_shapes(config), config, mesh), step


def code_notes(state: TrainState, batch, config: TrainConfig) -> dict:
    """For an autoencoder, mean and spread of its codes: they become shift and scale of the latents."""
    if config.stage == "model":
        return {}
    mean, spread = code_statistics(state.ema or state.params, batch.target, config=config)
    return {"code_mean": float(mean), "code_spread": float(spread)}


def check_finite(pending: Pending, metrics: Metrics) -> None:
    if math.isfinite(metrics.loss) and math.isfinite(metrics.grad_norm):
        return
    raise Diverged(
        f"step {pending.step}: loss {metrics.loss}, gradient norm {metrics.grad_norm}. Its samples have the "
        f"indices {', '.join(map(str, pending.index.tolist()))}. The last checkpoint was written before it; "
        "look at the samples, or start another --workdir with a lower optim.learning_rate"
    )


def fixed_batches(data: Data, config: TrainConfig, mesh: Mesh) -> validation.HeldOut:
    with data.loader(data.validation, config, mesh, 0, 0) as loader:
        rows = [next(loader) for _ in range(config.validation_batches)]
    return validation.held_out([put_batch(batch, config.batch_size, mesh) for batch in rows], config)


def validate(run: Run, state: TrainState, fixed, step: int) -> float:
    """Losses and pictures of the held-out batches, logged; returns the loss."""
    config, log, params = run.config, run.log, state.ema or state.params
    found = validation.losses(params, run.frozen, fixed, config, run.tuning)
    sheet = validation.pictures(params, run.frozen, fixed, config, run.tuning)
    log.write({"step": step, "validation_loss": found["loss"], "validation_task_loss": found["task_loss"]})
    log.picture("pictures", sheet, step)
    if jax.process_index() == 0:
        validation.write_picture(sheet, run.workdir / "pictures" / f"step_{step:06d}.png")
    log.say(f"step {step}/{config.steps}  validation loss {found['loss']:.4f}")
    return found["loss"]
