# SPDX-License-Identifier: Apache-2.0
"""What README.md and docs/ show is run by a script or a test, has flags that exist, and claims what is so."""

import json
import shlex

import pytest

import scripts
from convert.__main__ import parser as convert_parser
from ditfuse_jax.checkpoints.folder import read_config
from ditfuse_jax.cli.fuse import parse as parse_fuse
from ditfuse_jax.cli.fuse_jobs import EXAMPLE_TASK, jobs_of
from ditfuse_jax.cli.train import parse as parse_train
from ditfuse_jax.config import DEMO
from ditfuse_jax.data.__main__ import parse as parse_data
from ditfuse_jax.evaluation.flags import arguments as parse_evaluation
from ditfuse_jax.task import request

readme = scripts.load("benchmarks/readme.py")
SHOWN = readme.shown()
PARSERS = {  # what a command begins with -> what reads its flags
    "python infer.py": lambda words: parse_fuse(words, "infer.py"),
    "python train.py": lambda words: parse_train(words, "train.py"),
    "python -m convert": lambda words: convert_parser("convert").parse_args(words),
    "python -m ditfuse_jax.data": lambda words: parse_data(words, "data"),
    "python -m ditfuse_jax.evaluation": lambda words: parse_evaluation(words, "evaluation"),
}


def flags(begin: str) -> list[str]:
    parts = [part.strip() for one in SHOWN for part in one.command.split("&&")]
    return [part.removeprefix(begin) for part in parts if part.startswith(begin) and "..." not in part]


def test_every_command_is_run_or_says_why_not():
    assert len(SHOWN) > 30
    for one in SHOWN:
        python = one.command.startswith(readme.PYTHON)
        assert one.command in readme.RUN or readme.reason(one) or python, f"{one} is run by nothing"


def test_nothing_stands_in_the_lists_that_no_page_shows():
    commands = [one.command for one in SHOWN]
    assert set(readme.RUN) <= set(commands)
    assert set(readme.SMALLER) <= set(readme.RUN)
    unused = {part for part in readme.NOT_RUN if not any(part in command for command in commands)}
    assert not unused


@pytest.mark.parametrize("begin", PARSERS)
def test_the_flags_of_commands_exist(begin):
    assert flags(begin)
    for words in flags(begin):
        PARSERS[begin](shlex.split(words))


def test_the_table_is_of_the_default_number_of_noises():
    text = (readme.PROJECT / "README.md").read_text("utf-8")
    noises = read_config(DEMO).sampling.noises
    assert json.loads((DEMO / "config.json").read_text())["sampling"]["noises"] == noises == 1
    assert read_config(DEMO).sampling.steps == 1
    assert "one Euler\nstep, which is the default" in text
    card = (DEMO / "MODEL_CARD.md").read_text("utf-8")
    rows = [line for line in text.splitlines() if line.startswith(("| M3,", "| simulated"))]
    assert len(rows) == 4
    assert all(row in card for row in rows)  # one measurement, in both pages


def test_the_page_shows_nothing_as_working_that_the_shipped_weights_ignore():
    for one in SHOWN:
        if one.page == "README.md" and one.command.startswith("python infer.py") and "DIR" not in one.command:
            assert "--object" not in shlex.split(one.command), one.command
            worded = {"--segment", "--prompt"} & set(shlex.split(one.command))
            assert not worded or one.command in readme.RUN  # which checks that the words do something


def test_the_first_command_fuses_the_example_as_the_picture_shows_it(monkeypatch):
    (job,), failed = jobs_of(parse_fuse([], "infer.py"))
    assert not failed
    assert job.prompt == request(task="ivif")
    assert [file.parent.name for file in job.images] == ["ivif"] * 2
    assert [file.name for file in job.images] == ["image1.png", "image2.png"]
    monkeypatch.syspath_prepend(str(readme.PROJECT / "benchmarks"))
    picture = scripts.load("benchmarks/demo_examples.py")  # makes examples/fused.jpg with task=NAME
    assert next(iter(picture.TASKS)) == EXAMPLE_TASK == "ivif"
    assert job.images[0] == picture.FOLDER / "ivif" / "image1.png"
