# SPDX-License-Identifier: Apache-2.0
"""The training loop."""

import math
import signal
import threading
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

import jax
import numpy as np
from jax.sharding import Mesh

from ditfuse_jax import flops, validation
from ditfuse_jax.checkpoint import Checkpoints
from ditfuse_jax.data.loader import Loader, make_loader
from ditfuse_jax.data.mixture import Mixture
from ditfuse_jax.log import Clock, Log, progress, record
from ditfuse_jax.sharding import local_rows, put_batch
from ditfuse_jax.train_config import TrainConfig
from ditfuse_jax.training import Frozen, Metrics, TrainState, code_statistics, new_state, sizes, train_step

SAME = 1e-3  # relative; means of one array on two meshes differ in the order of their sums


class Diverged(RuntimeError):
    """The loss or its gradient is not a number any more."""


class Stop:
    """Set by SIGTERM; the loop saves and ends."""

    def __init__(self):
        self.asked = False
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._ask)

    def _ask(self, *_):
        self.asked = True


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

    def loader(self, mixture: Mixture, config: TrainConfig, mesh: Mesh, start: int, workers: int) -> Loader:
        """This process's rows of every batch from `start` on."""
        rows = local_rows(config.batch_size, mesh)
        size = rows.stop - rows.start
        hosts = {"host": rows.start // size, "num_hosts": config.batch_size // size}
        settings = {"batch_size": config.batch_size, "start_batch": start, "workers": workers}
        return make_loader(mixture, self.tokenizer, **settings, **hosts)


def train(config: TrainConfig, params, frozen: Frozen, data: Data, *, mesh: Mesh, workdir: Path) -> int:
    """Trains until config.steps, or until SIGTERM; returns the number of steps done.

    Args: params, frozen: starting weights; a checkpoint in the workdir replaces params.
    Raises Diverged, CheckpointError, or ValueError when the workdir holds another run.
    """
    # --- state: new, or the last complete checkpoint ---
    checkpoints = Checkpoints(workdir, keep=config.keep)
    frozen_sizes = {name: float(size) for name, size in jax.device_get(sizes(frozen)).items()}
    vocabulary = crc32(data.tokenizer.backend_tokenizer.to_str().encode())
    state, start = resumed(checkpoints, new_state(params, config, mesh), config, mesh)
    if start:
        saved = checkpoints.notes(start)
        check_frozen(saved.get("frozen", {}), frozen_sizes, config)
        check_vocabulary(saved.get("tokenizer", vocabulary), vocabulary, config)
    del params
    log, clock, stop = Log(workdir, last_step=start), Clock(), Stop()
    log.say(f"starts at step {start} of {config.steps}" if start else f"starts anew, {config.steps} steps")
    fixed = fixed_batches(data, config, mesh) if config.validate_every else None
    peak = flops.peak(config.model.dtype if config.stage == "model" else "float32")
    row_flops = {}

    def finish(pending: Pending) -> bool:
        """Reads the metrics of a step, logs them; true when some process was asked to stop."""
        metrics = jax.device_get(pending.metrics)
        check_finite(pending, metrics)
        clock.add(config.batch_size, config.batch_size * pending.row_flops)
        if pending.step % config.log_every == 0 or pending.step == config.steps:
            speed, work = clock.read()
            values = record(pending.step, metrics, rows_per_second=speed, flops=work)
            log.write(values)
            log.say(progress(values, steps=config.steps, batch_size=config.batch_size, peak=peak))
        return bool(metrics.stop)

    # --- the loop: metrics of a step are read after the next one was dispatched ---
    def save(step: int, loss: float | None) -> None:
        measured = {"frozen": frozen_sizes, "tokenizer": vocabulary} | code_notes(state, batch, config)
        checkpoints.save(state, config, step=step, loss=loss, notes=measured)

    pending, stopping, step, saved = None, False, start, start if start else None
    loader = data.loader(data.mixture, config, mesh, start, config.workers)
    while step < config.steps and not stopping:
        rows = next(loader)
        shape = (rows.prompt.token_ids.shape[1], *rows.target.shape[1:3])
        if shape not in row_flops:
            row_flops[shape] = flops.row_flops(config, rows)
        batch = put_batch(rows, config.batch_size, mesh)
        asked = put_batch(np.full(rows.task.shape, stop.asked), config.batch_size, mesh)
        state, metrics = train_step(state, frozen, batch, asked, config=config)
        step += 1
        if pending:
            stopping = finish(pending)
        pending = Pending(step, metrics, rows.index, row_flops[shape])
        validates = bool(config.validate_every) and (
            step % config.validate_every == 0 or step == config.steps
        )
        saves = step % config.save_every == 0 or step == config.steps or stopping
        if validates or saves:
            stopping |= finish(pending)  # nothing is kept of a step that is not known to be finite
            pending = None
            loss = validate(state, frozen, fixed, step, config, log, workdir) if validates else None
            if saves:
                save(step, loss)
                saved = step
            clock.read()
        else:
            checkpoints.check()

    # --- the end ---
    loader.close()
    if pending:
        finish(pending)
    if saved != step:
        save(step, None)
    checkpoints.wait()
    checkpoints.close()
    log.close()
    if step < config.steps:
        log.say(f"asked to stop: step {step} is saved; the same command continues")
    return step


def resumed(
    checkpoints: Checkpoints, state: TrainState, config: TrainConfig, mesh: Mesh
) -> tuple[TrainState, int]:
    """The last complete checkpoint, or `state` where there is none, and the steps done."""
    step = checkpoints.latest()
    if step is None:
        return state, 0
    shapes = jax.eval_shape(lambda: state)
    jax.tree.map(lambda x: x.delete(), state)  # only its shapes are needed; room for the restored one
    return checkpoints.restore(step, shapes, config, mesh), step


def check_frozen(saved: dict, found: dict, config: TrainConfig) -> None:
    """ValueError when the frozen weights are not those that the run began with."""
    other = [name for name in saved if not math.isclose(saved[name], found.get(name, 0.0), rel_tol=SAME)]
    if other:
        raise ValueError(
            f"the frozen weights of init {config.init or '(none)'}, init_vae {config.init_vae or '(none)'} "
            f"are not those that this run began with: {other[0]} and {len(other) - 1} more differ; name the "
            "folders it began with, or choose another --workdir"
        )


def check_vocabulary(saved: int, found: int, config: TrainConfig) -> None:
    """ValueError when the tokenizer is not the one that the run began with."""
    if saved != found:
        raise ValueError(
            f"the tokenizer {config.tokenizer or '(of init, or the demo)'} is not the one that this run "
            "began with; name that one, or choose another --workdir"
        )


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


def validate(
    state: TrainState, frozen: Frozen, fixed, step: int, config: TrainConfig, log: Log, workdir: Path
) -> float:
    """Losses and pictures of the held-out batches, logged; returns the loss."""
    params = state.ema or state.params
    found = validation.losses(params, frozen, fixed, config)
    sheet = validation.pictures(params, frozen, fixed, config)
    log.write({"step": step, "validation_loss": found["loss"], "validation_task_loss": found["task_loss"]})
    log.picture("pictures", sheet, step)
    if jax.process_index() == 0:
        validation.write_picture(sheet, workdir / "pictures" / f"step_{step:06d}.png")
    log.say(f"step {step}/{config.steps}  validation loss {found['loss']:.4f}")
    return found["loss"]
