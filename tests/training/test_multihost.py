# SPDX-License-Identifier: Apache-2.0
"""Two real processes with two virtual devices each, on loopback."""

import json
import socket

import pytest

import runs
from conftest import PATIENCE, golden


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("multihost")
    runs.write_photos(folder / "data")
    run = runs.write_run(folder, golden("ckpt_tiny"))
    flags = (
        "--config",
        run,
        "--data",
        folder / "data",
        "--mesh",
        "4",
    )
    return {"folder": folder, "flags": flags}


def settings(*assignments):
    return [word for one in assignments for word in ("--set", one)]


def launch_two(place, workdir, *more):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    group = ("--coordinator", f"localhost:{port}", "--num-processes", "2")
    flags = (*place["flags"], "--workdir", workdir, *more, *group)
    return [runs.launch(*flags, "--process-id", i) for i in range(2)]


def losses(workdir):
    """Of every step, and of the validation behind them."""
    lines = [json.loads(line) for line in (workdir / "log.jsonl").read_text().splitlines()]
    return [line[name] for name in ("loss", "validation_loss") for line in lines if name in line]


def test_two_processes_train_as_one(place):
    once = settings("steps=4", "save_every=4", "validate_every=4", "validation_batches=1", "picture_steps=1")
    code, output = runs.train(*place["flags"], *once, "--workdir", place["folder"] / "one")
    assert code == 0, output
    processes = launch_two(place, place["folder"] / "two", *once)
    outputs = [process.communicate(timeout=PATIENCE)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    one, two = losses(place["folder"] / "one"), losses(place["folder"] / "two")
    assert len(two) == 4 + 1
    assert two == pytest.approx(one, rel=1e-5)
    assert "step 4/4" in outputs[0]
    assert not any(line.startswith("train.py:") for output in outputs for line in output.splitlines())
    assert "step 4/4" not in outputs[1]  # one log, one set of checkpoints
    assert (place["folder"] / "two" / "checkpoints" / "4").is_dir()


@pytest.mark.parametrize("victim", [0, 1])
def test_a_dead_process_ends_the_other(place, tmp_path, victim):
    processes = launch_two(
        place, tmp_path, *settings("steps=100000", "save_every=100000", "validate_every=0")
    )
    assert any(line.startswith("step 2/") for line in processes[0].stdout)
    processes[victim].kill()
    output, _ = processes[1 - victim].communicate(timeout=PATIENCE)
    assert processes[1 - victim].returncode != 0
    last = output.splitlines()[-1]
    assert last.startswith("train.py: ")
    assert "another process" in last
    assert last.endswith("; the same command continues from the last save")
    processes[victim].communicate()
