# SPDX-License-Identifier: Apache-2.0
"""`--report-to`: what reaches TensorBoard, wandb (a stand-in of its three calls) or nothing."""

import sys
import types

import numpy as np
import pytest

from ditfuse_jax.training import trackers
from ditfuse_jax.training.log import Log

VALUES = {"step": 4, "loss": 0.5, "task_loss": {"m3": 0.25}}
PICTURE = np.zeros((4, 6, 3), np.uint8)


class Wandb(types.ModuleType):
    """Notes what is called."""

    def __init__(self):
        super().__init__("wandb")
        self.begun, self.logged, self.ended = [], [], 0

    def init(self, **how):
        self.begun.append(how)
        return self

    def log(self, values, step):
        self.logged.append((step, values))

    def Image(self, pixels):  # noqa: N802
        return pixels.shape

    def finish(self):
        self.ended += 1


def report(workdir, report_to):
    with Log(workdir, last_step=0, report_to=report_to) as log:
        log.write(VALUES)
        log.picture("held-out", PICTURE, 4)
    assert (workdir / "log.jsonl").read_text().count("\n") == 1


def test_wandb_gets_numbers_and_pictures_in_one_run_per_workdir(tmp_path, monkeypatch):
    wandb = Wandb()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    report(tmp_path, "wandb")
    assert wandb.begun == [
        {"dir": str(tmp_path), "id": tmp_path.name, "name": tmp_path.name, "resume": "allow"}
    ]
    assert wandb.logged == [(4, {"loss": 0.5, "task_loss/m3": 0.25}), (4, {"held-out": (4, 6, 3)})]
    assert wandb.ended == 1


def test_tensorboard_has_its_folder_and_none_has_nothing(tmp_path):
    report(tmp_path, "tensorboard")
    (events,) = (tmp_path / "tensorboard").iterdir()
    assert b"held-out" in events.read_bytes()
    other = tmp_path / "other"
    other.mkdir()
    report(other, "none")
    assert [path.name for path in other.iterdir()] == ["log.jsonl"]


def test_a_missing_wandb_is_said_before_the_run(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)  # import fails
    with pytest.raises(
        ValueError, match=r'wandb, which is not installed: pip install "ditfuse-jax\[wandb\]"'
    ):
        trackers.check("wandb")
