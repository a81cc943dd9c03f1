# SPDX-License-Identifier: Apache-2.0
"""Training state on disk: Orbax, asynchronous, atomic; which steps are kept; what refuses to resume."""

import contextlib
import functools
import itertools
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
from filelock import FileLock, Timeout
from jax.experimental import multihost_utils
from orbax.checkpoint import checkpoint_managers as policies

from ditfuse_jax.config import to_dict
from ditfuse_jax.training import checksums
from ditfuse_jax.training.config import TrainConfig, differences
from ditfuse_jax.training.log import warn
from ditfuse_jax.training.step import TrainState, state_shardings
from ditfuse_jax.training.trainable import Params

STATE, CONFIG, NOTES = "state", "config", "notes"  # items of a checkpoint
DELETED = "deleted"  # a folder beside the steps


class CheckpointError(RuntimeError):
    """A checkpoint could not be written, or none of a workdir can be read."""


class Checkpoints:
    """The checkpoints of a workdir. A step's folder exists only when it is complete."""

    def __init__(self, workdir: Path, *, keep: int, read_only: bool = False):
        self.workdir, self.folder = workdir.resolve(), workdir.resolve() / "checkpoints"
        self.read_only = read_only
        self.unsummed: list[int] = []  # steps saved here whose checksums were not taken yet
        # what Orbax would set itself where nothing is written, with a log line for each
        reads = {"create": False, "save_interval_steps": 0} if read_only else {}
        best = policies.BestN(get_metric_fn=_by_loss, n=1, keep_checkpoints_without_metrics=False)
        options = ocp.CheckpointManagerOptions(
            preservation_policy=policies.AnyPreservationPolicy([policies.LatestN(keep), best]),
            cleanup_tmp_directories=not read_only,
            enable_async_checkpointing=not read_only,
            read_only=read_only,
            todelete_subdir=None if read_only else DELETED,
            **reads,
        )
        self.manager = ocp.CheckpointManager(self.folder, options=options)

    def latest_whole(self) -> int | None:
        """The newest step that is not damaged. Damaged ones are moved to damaged/ with a warning.

        Several processes take what the first one finds. Raises CheckpointError when all are damaged.
        """
        if jax.process_count() == 1:
            return self._newest_whole()
        found = self._newest_whole() if jax.process_index() == 0 else None
        step = int(multihost_utils.broadcast_one_to_all(np.int32(-1 if found is None else found)))
        self.manager.reload()
        return None if step < 0 else step

    def _newest_whole(self) -> int | None:
        steps, reason = sorted(self.steps(), reverse=True), None
        for step in steps:
            reason = self.damage(step)
            if reason is None:
                return step
            warn(f"checkpoint {step} of {self.folder} is damaged ({reason}); moved to {self._aside(step)}")
        if steps:
            raise CheckpointError(
                f"no checkpoint of {self.folder} can be read; the last reason: {reason}. They are in "
                f"{self.workdir / 'damaged'}; put a copy back, or run again to start anew"
            )
        return None

    def damage(self, step: int) -> str | None:
        """What is wrong with a step, or None."""
        if reason := checksums.damage(self.workdir, step):
            return reason
        try:
            self.config(step), self.notes(step)
        except Exception as error:  # Orbax raises what its readers raise
            return _short(error)
        return None

    def _delete(self) -> None:
        """Old steps, which Orbax moves to DELETED first: a kill leaves no half of one under its number."""
        place = self.folder / DELETED
        if jax.process_index() == 0 and place.is_dir():
            for step in place.iterdir():
                shutil.rmtree(step, ignore_errors=True)

    def _aside(self, step: int) -> Path:
        (self.workdir / "damaged").mkdir(exist_ok=True)
        names = (f"{step}" if n == 0 else f"{step}.{n}" for n in itertools.count())
        place = next(p for p in (self.workdir / "damaged" / name for name in names) if not p.exists())
        (self.folder / str(step)).rename(place)
        self.manager.reload()
        return place

    def steps(self) -> list[int]:
        return list(self.manager.all_steps())

    def save(
        self, state: TrainState, config: TrainConfig, *, step: int, loss: float | None, notes: dict
    ) -> None:
        """Starts writing the state.

        Args:
          loss: the validation loss at this step, if there is one; the step with the least is kept.
          notes: measured values that belong to the weights.

        Raises CheckpointError when this or the save before could not be written.
        """
        items = {
            STATE: ocp.args.PyTreeSave(owned(state)),
            CONFIG: ocp.args.JsonSave(to_dict(config)),
            NOTES: ocp.args.JsonSave(notes),
        }
        metrics = None if loss is None else {"loss": loss}
        self._delete()
        self._guarded(lambda: self.manager.save(step, args=ocp.args.Composite(**items), metrics=metrics))
        self.unsummed.append(step)

    def wait(self) -> None:
        """Returns when what was saved is complete. Raises CheckpointError when it could not be written."""
        self._guarded(self.manager.wait_until_finished)
        while self.unsummed:
            step = self.unsummed.pop()
            if jax.process_index() == 0 and (self.folder / str(step)).is_dir():
                self._guarded(functools.partial(checksums.write, self.workdir, step))

    def check(self) -> None:
        """Raises CheckpointError when the last save has failed already."""
        if self.unsummed and not self.manager.is_saving_in_progress():
            self.wait()

    def config(self, step: int) -> dict:
        """The settings, as plain values, of the run that wrote a step."""
        return self._json(step, CONFIG)

    def notes(self, step: int) -> dict:
        """What `save` was given as notes."""
        return self._json(step, NOTES)

    def _json(self, step: int, item: str) -> dict:
        return self.manager.restore(step, args=ocp.args.Composite(**{item: ocp.args.JsonRestore()}))[item]

    def params(self, step: int, shapes: Params, *, average: bool) -> Params:
        """The trained parameters of a step, or their moving average, without the rest."""
        part = {"ema" if average else "params": shapes}
        restore = ocp.args.PyTreeRestore(
            part, restore_args=ocp.checkpoint_utils.construct_restore_args(part), partial_restore=True
        )
        found = self.manager.restore(step, args=ocp.args.Composite(**{STATE: restore}))[STATE]
        return next(iter(found.values()))

    def check_run(self, step: int, config: TrainConfig) -> None:
        """ValueError listing the differences when another model, optimizer or stream wrote the step."""
        if wrong := differences(self.config(step), config):
            raise ValueError(
                f"{self.folder} is of another run; continue with its settings, or choose another --workdir:"
                + "".join(f"\n  {line}" for line in wrong)
            )

    def restore(self, step: int, shapes: TrainState, config: TrainConfig, mesh) -> TrainState:
        """The state of a step, on any mesh.

        Args: shapes: the state's shapes and dtypes (jax.eval_shape of `new_state`).
        Raises ValueError as `check_run` does.
        """
        self.check_run(step, config)
        places = state_shardings(shapes, mesh)
        target = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, places)
        restore = ocp.args.PyTreeRestore(
            target, restore_args=ocp.checkpoint_utils.construct_restore_args(target)
        )
        return self.manager.restore(step, args=ocp.args.Composite(**{STATE: restore}))[STATE]

    def close(self) -> None:
        self.manager.close()
        if not self.read_only:
            self._delete()

    def _last(self) -> str:
        """The last complete step, as the folders say: the manager also knows of the one that failed."""
        steps = [int(path.name) for path in self.folder.iterdir() if path.name.isdigit()]
        return f"step {max(steps)}" if steps else "none"

    def _guarded(self, action) -> None:
        try:
            action()
        except (OSError, ValueError, RuntimeError) as error:
            free = shutil.disk_usage(self.folder).free / 1e6
            raise CheckpointError(
                f"a checkpoint could not be written to {self.folder} ({free:.0f} MB free): {_short(error)}; "
                f"{self._last()} is the last complete one. Make room, then run the same command"
            ) from error


def _by_loss(metrics: dict) -> float:
    return -metrics["loss"]  # the policy keeps the greatest


def _short(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__


@jax.jit
def _copy(state):
    return jax.tree.map(lambda x: x.copy(), state)


def owned(state: TrainState) -> TrainState:
    """Buffers of its own on CPU, where Orbax's host copy is the buffer that the next step reuses."""
    return _copy(state) if jax.default_backend() == "cpu" else state


def check_writable(workdir: Path) -> None:
    """Makes the workdir; ValueError when nothing can be written there."""
    probe = workdir / f".probe-{os.getpid()}"
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        probe.write_text(json.dumps({"pid": os.getpid()}))
        probe.unlink(missing_ok=True)
    except OSError as error:
        raise ValueError(
            f"--workdir {workdir}: {error.strerror}; choose a folder that can be written to"
        ) from error


@contextlib.contextmanager
def locked(workdir: Path) -> Iterator[None]:
    """Keeps other runs out of the workdir; the first process of several holds the lock.

    Raises ValueError when another run is in it. A killed run leaves nothing behind that locks.
    """
    if jax.process_index() != 0:
        yield
        return
    lock = FileLock(workdir / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ValueError(
            f"--workdir {workdir}: another run is training in it; wait for its end, or choose another folder"
        ) from None
    try:
        yield
    finally:
        lock.release()
