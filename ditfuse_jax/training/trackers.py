# SPDX-License-Identifier: Apache-2.0
"""Where the numbers and pictures of a run are charted besides log.jsonl: `train.py --report-to`."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np


class Nothing:
    """log.jsonl alone."""

    def __init__(self, workdir: Path, last_step: int): ...

    def numbers(self, values: Mapping[str, float], step: int) -> None: ...

    def picture(self, name: str, image: np.ndarray, step: int) -> None:
        """image: uint8 [H, W, 3]."""

    def close(self) -> None:
        """Writes what is held back; also called after an error, for the process may then end at once."""


class TensorBoard(Nothing):
    """Event files in `tensorboard/` of the workdir; what came after `last_step` is dropped."""

    def __init__(self, workdir: Path, last_step: int):
        from tensorboardX import SummaryWriter  # 0.5 s that other processes need not spend

        self.board = SummaryWriter(str(workdir / "tensorboard"), purge_step=last_step + 1)

    def numbers(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self.board.add_scalar(name, value, step)

    def picture(self, name: str, image: np.ndarray, step: int) -> None:
        self.board.add_image(name, image, step, dataformats="HWC")

    def close(self) -> None:
        self.board.close()


class WeightsAndBiases(Nothing):
    """One run of wandb per workdir, which goes on when the training does.

    Its own variables say the rest: WANDB_PROJECT, WANDB_MODE=offline. Steps that run again after a crash are
    charted once: wandb ignores a step below its last.
    """

    def __init__(self, workdir: Path, last_step: int):
        check("wandb")
        import wandb

        name = workdir.resolve().name
        self.wandb = wandb
        self.run = wandb.init(dir=str(workdir), id=name, name=name, resume="allow")

    def numbers(self, values: Mapping[str, float], step: int) -> None:
        self.run.log(dict(values), step=step)

    def picture(self, name: str, image: np.ndarray, step: int) -> None:
        self.run.log({name: self.wandb.Image(image)}, step=step)

    def close(self) -> None:
        self.run.finish()


TRACKERS = {"tensorboard": TensorBoard, "wandb": WeightsAndBiases, "none": Nothing}


def check(report_to: str) -> None:
    """Raises ValueError for a tracker that is not installed; asked before a run begins."""
    if report_to != "wandb":
        return
    try:
        import wandb  # noqa: F401
    except ImportError as error:
        raise ValueError(
            "--report-to wandb needs the package wandb, which is not installed: "
            'pip install "ditfuse-jax[wandb]", or choose tensorboard or none'
        ) from error
