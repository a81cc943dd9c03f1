# SPDX-License-Identifier: Apache-2.0
"""Every command of docs/evaluation.md runs, on small pictures in the folders that it names."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from pictures import coloured, folders, write, write_mask

from ditfuse_jax.data.segmentation import overlay
from ditfuse_jax.evaluation import catalogue
from ditfuse_jax.evaluation.__main__ import main
from runs import write_photos

pytest.importorskip("matplotlib", reason="the extra eval is not installed")

TEXT = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text("utf-8")
COMMANDS = re.findall(r"^    python -m ditfuse_jax\.evaluation (.*)$", TEXT, re.MULTILINE)
ONE = ["--data", "data", "--limit", "1", "--steps", "1", "--noises", "1"]
SMALLER = {
    "runtime": ["--size", "48x32", "--samples", "1", "--steps", "1"],
    "prompts": [*ONE, "--only", "irregular", "--side", "48"],
    "figures": [*ONE, "--groups", "groups.toml", "--baselines", "mean"],
}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The folders that the commands name, in the current folder."""
    at = folders(tmp_path, stems=("a", "b"))
    for old, new in (("one", "vis"), ("two", "ir"), ("mean_of_both", "ours")):
        at[old].rename(tmp_path / new)
    mask = np.zeros((32, 48), bool)
    mask[:16] = True
    for seed, stem in enumerate("ab"):
        write(tmp_path / "theirs" / f"{stem}.png", coloured(48, 64, seed=seed))
        plain = coloured(32, 48, seed=seed)
        write(tmp_path / "plain" / f"{stem}.png", plain)
        write(tmp_path / "pairs/vis" / f"{stem}.png", plain)
        write(tmp_path / "pairs/ir" / f"{stem}.png", plain)
        write(tmp_path / "answers/car" / f"{stem}.png", overlay(plain, mask))
        write(tmp_path / "labels" / f"{stem}.png", mask.astype(np.uint8))
        write_mask(tmp_path / "masks/car" / f"{stem}.png", mask)
    (tmp_path / "classes.txt").write_text("0 other\n1 car\n")
    write_photos(tmp_path / "data")
    (tmp_path / "groups.toml").write_text('[fog]\n"../pairs" = ["a"]\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "none")  # no request is sent without --yes


def test_all_commands_are_shown():
    assert {command.split()[0] for command in COMMANDS} == {
        *("score", "compare", "trust", "run", "prompts", "figures", "runtime", "iou", "judge")
    }


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("command", COMMANDS)
def test_command_runs(command, capsys):
    words = shlex.split(command)
    if "--model" in words:
        pytest.importorskip("openai", reason="the extra judge is not installed")
    jobs = ["--jobs", "1"] if words[0] in ("score", "compare", "trust", "run") else []
    assert main([*words, *jobs, *SMALLER.get(words[0], [])]) == 0, capsys.readouterr().err


def test_every_metric_is_explained():
    for name in (*catalogue.BY_NAME, *catalogue.IQA):
        assert f"`{name}`" in TEXT
