# SPDX-License-Identifier: Apache-2.0
"""train.py as real processes: mistakes, kills at any moment, SIGTERM, a full disk."""

import json
import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest

import runs
from conftest import PATIENCE, golden
from ditfuse_jax.cli import train as command
from ditfuse_jax.training import config as train_config
from ditfuse_jax.training import memory, start
from ditfuse_jax.training.log import keep_until, set_aside
from ditfuse_jax.training.resume import locked

TIMES = ("samples_per_second", "model_flops_per_second", "memory_bytes")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Data, a run file and a folder for compiled programs, shared by the module."""
    folder = tmp_path_factory.mktemp("train")
    runs.write_photos(folder / "data")
    run = runs.write_run(folder, golden("ckpt_tiny"))
    return {
        "folder": folder,
        "flags": ("--config", run, "--data", folder / "data"),
    }


def train(place, workdir, *more):
    return runs.train(*place["flags"], "--workdir", workdir, *more)


def losses(workdir: Path) -> list[dict]:
    """log.jsonl without what depends on the clock."""
    lines = [json.loads(line) for line in (workdir / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in TIMES} for line in lines]


def complete_steps(workdir: Path) -> list[int]:
    folder = workdir / "checkpoints"
    return sorted(int(p.name) for p in folder.iterdir() if p.name.isdigit()) if folder.is_dir() else []


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def uninterrupted(place):
    code, output = train(place, place["folder"] / "whole")
    assert code == 0, output
    assert "32x32 pixels" in output  # the size that it trains at
    assert "step 24/24" in output
    assert "samples/s" in output
    assert "MFU" in output
    return losses(place["folder"] / "whole")


def test_killed_at_random_points_it_repeats_the_uninterrupted_run(place, uninterrupted, tmp_path):
    assert [line["step"] for line in uninterrupted] == list(range(1, 25))
    rng, kills = random.Random(0), 0
    for _ in range(20):
        process = runs.launch(*place["flags"], "--workdir", tmp_path / "killed")
        started = len(complete_steps(tmp_path / "killed"))
        deadline = time.monotonic() + PATIENCE
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
            saving = list((tmp_path / "killed" / "checkpoints").glob("*tmp*"))
            moved = len(complete_steps(tmp_path / "killed")) > started
            if kills < 2 and (saving or moved) and rng.random() < 0.3:  # often in the middle of a save
                process.kill()
                kills += 1
                break
        output, _ = process.communicate(timeout=PATIENCE)
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, output
    assert kills == 2
    assert process.returncode == 0, output
    assert losses(tmp_path / "killed") == uninterrupted


def stopped(place, workdir: Path, number: int = signal.SIGTERM) -> int:
    """A copy of the run that this signal ended after its third step, made once; its step."""
    whole = place["folder"] / f"stopped{number}"
    if not whole.exists():
        process = runs.launch(*place["flags"], "--workdir", whole, "--set", "save_every=1000")
        for line in process.stdout:
            if line.startswith("step 3/"):
                process.send_signal(number)
                break
        rest, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, rest
        assert "the same command continues" in rest
    shutil.copytree(whole, workdir, dirs_exist_ok=True)
    (step,) = complete_steps(workdir)
    return step


@pytest.mark.parametrize(("number", "mesh"), [(signal.SIGTERM, "2"), (signal.SIGINT, "")])
def test_a_signal_saves_and_the_same_command_continues(place, uninterrupted, tmp_path, number, mesh):
    """On two devices too, which begin where the one stopped."""
    step = stopped(place, tmp_path, number)
    assert 3 <= step < 24
    devices = ("--mesh", mesh) if mesh else ()
    code, output = train(place, tmp_path, "--set", "save_every=1000", *devices)
    assert code == 0, output
    assert f"starts at step {step} of 24" in output
    pairs = zip(losses(tmp_path), uninterrupted, strict=True)
    assert all(a["loss"] == pytest.approx(b["loss"], rel=1e-5) for a, b in pairs)


@pytest.fixture
def refused(place, tmp_path, monkeypatch, capsys):
    """What the command says before it ends. In this process, where os._exit is an exception and the devices
    stand already: a process of its own takes seconds to start.
    """

    def leave(code):
        raise SystemExit(code)

    def refused(*flags, workdir=tmp_path, code=2, listed=False) -> str:
        kept = complete_steps(workdir)
        with pytest.raises(SystemExit) as end:
            command.main([*map(str, (*place["flags"], "--workdir", workdir, *flags))], prog="train.py")
        assert end.value.code == code
        assert complete_steps(workdir) == kept
        assert kept or code == 1 or not (workdir / "checkpoints").exists()
        said = "".join(capsys.readouterr())
        assert said.startswith("train.py: ")
        assert listed or len(said.splitlines()) == 1
        assert "Traceback" not in said
        return said

    monkeypatch.setattr(os, "_exit", leave)
    monkeypatch.setattr(command, "start_devices", lambda args, needed: None)
    return refused


def test_other_data_is_named_and_a_flag_goes_on_with_it(place, refused, tmp_path):
    stopped(place, tmp_path / "run")
    data = shutil.copytree(place["folder"] / "data", tmp_path / "data")
    names = (data / "photos" / "train.txt").read_text().splitlines(keepends=True)
    (data / "photos" / "train.txt").write_text("".join(names[:-1]))
    flags = ("--data", data, "--set", "save_every=1000")
    said = refused(*flags, workdir=tmp_path / "run", listed=True)
    assert "--accept-changed-data" in said
    assert "8 items then, 7 now" in said
    code, output = train(place, tmp_path / "run", *flags, "--accept-changed-data")
    assert code == 0, output
    assert "step 24/24" in output


def test_a_damaged_checkpoint_costs_the_steps_since_the_one_before(place, uninterrupted, tmp_path):
    shutil.copytree(place["folder"] / "whole", tmp_path, dirs_exist_ok=True)
    before, last = complete_steps(tmp_path)[-2:]
    largest = max(files(tmp_path / "checkpoints" / str(last)).items(), key=lambda item: len(item[1]))
    largest[0].write_bytes(largest[1][:-100])
    code, output = train(place, tmp_path)
    assert code == 0, output
    assert f"checkpoint {last} of" in output
    assert f"starts at step {before} of 24" in output
    assert losses(tmp_path) == uninterrupted


def test_a_full_disk_is_an_error_and_the_last_checkpoint_stays(place, tmp_path):
    flags = (*place["flags"], "--workdir", tmp_path, "--set", "keep=1")
    step = stopped(place, tmp_path)
    kept = files(tmp_path / "checkpoints" / str(step))
    limited = ["bash", "-c", 'ulimit -f 60; trap "" XFSZ; exec "$@"', "_"]  # no file above 60 blocks of 1 KiB
    process = runs.subprocess.run(
        [*limited, *runs.command(*flags, "--set", "save_every=1")],
        env=runs.quick_environment(devices=1),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert process.returncode == 1, process.stderr
    assert "a checkpoint could not be written" in process.stderr
    assert f"step {step} is the last complete one" in process.stderr
    assert complete_steps(tmp_path) == [step]
    assert files(tmp_path / "checkpoints" / str(step)) == kept


def test_a_log_that_cannot_be_written_is_one_sentence(refused, tmp_path):
    (tmp_path / "log.jsonl").mkdir()
    said = refused(code=1)
    assert "log.jsonl" in said
    assert "the same command continues" in said


def test_a_loss_that_is_not_a_number_stops_and_names_the_samples(place, tmp_path):
    code, output = train(place, tmp_path, "--set", "optim.learning_rate=1e30", "--set", "optim.clip_norm=0")
    assert code == 1, output
    assert "Its samples have the indices" in output
    assert "Traceback" not in output
    for step in complete_steps(tmp_path):  # what was kept is finite
        assert all(line["loss"] < 1e30 for line in losses(tmp_path) if line["step"] <= step)
    (events,) = (tmp_path / "tensorboard").iterdir()
    assert events.stat().st_size > 0


def test_without_a_config_it_runs_the_smoke_test_on_the_examples(tmp_path):
    process = runs.subprocess.run(
        runs.command("--mesh", "2", "--workdir", tmp_path, "--set", "steps=2", "--set", "log_every=1"),
        env=runs.quick_environment(devices=2) | {"DITFUSE_DATA": str(tmp_path / "nowhere")},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert process.returncode == 0, process.stderr
    for words in ("2 virtual CPU devices", "running configs/smoke.py", "pictures of examples/", "step 2/2"):
        assert words in process.stdout
    assert complete_steps(tmp_path) == [2]


def test_another_run_in_the_workdir_is_refused_with_the_settings_that_differ(place, refused, uninterrupted):
    flags = ("--set", "seed=1", "--set", "optim.beta2=0.9")
    said = refused(*flags, workdir=place["folder"] / "whole", listed=True)
    assert "seed: 0 -> 1" in said
    assert "optim.beta2: 0.999 -> 0.9" in said


MISTAKES = (
    (("--set", "optim.learning_rte=1"), "did you mean optim.learning_rate"),
    (("--set", "steps=many"), "'many' is not of type int"),
    (("--set", "steps"), "write KEY=VALUE"),
    (("--set", "optim.accumulation=3"), "not a multiple of optim.accumulation 3"),
    (("--mesh", "rows=2"), "--mesh 'rows=2'"),
    (("--config", "configs/smok.py"), "did you mean smoke"),
    # found with devices: the eight of the tests
    (("--set", "batch_size=12", "--mesh", "8"), "does not divide over 8 devices"),
    (("--data", "/nowhere"), "no data folder /nowhere"),
    (("--config", "configs/m3_only.py"), "--set init=FOLDER"),
    (("--workdir", "/proc/run"), "choose a folder that can be written to"),
)


@pytest.mark.parametrize(("flags", "message"), MISTAKES)
def test_mistakes_end_in_one_sentence(refused, flags, message):
    flags = [str(runs.PROJECT / flag) if str(flag).startswith("configs/") else flag for flag in flags]
    assert message in refused(*flags)


def test_a_workdir_in_which_another_run_trains_is_refused(refused, tmp_path):
    with locked(tmp_path):
        assert "another run is training in it" in refused()


def test_a_run_that_does_not_fit_is_refused_before_weights_are_read(refused, monkeypatch):
    monkeypatch.setattr(memory, "device_bytes", lambda mesh: 1000)
    monkeypatch.setattr(start, "frozen_weights", lambda *_: pytest.fail("weights were read first"))
    assert "GB" in (said := refused())
    assert "--mesh fsdp=8" in said


def test_a_mistake_of_several_processes_ends_in_one_sentence_too(place, tmp_path):
    code, output = train(place, tmp_path, "--coordinator", "localhost:1")
    assert code == 2, output
    assert "--num-processes and --process-id" in output
    assert "Traceback" not in output
    assert not (tmp_path / "checkpoints").exists()


def test_every_config_loads_and_ablations_differ_in_one_thing():
    configs = {path.stem: train_config.load(path) for path in (runs.PROJECT / "configs").glob("*.py")}
    assert {"smoke", "demo", "demo_vae", "ditfuse_lora", "full"} <= configs.keys()
    base = train_config.flat(train_config.to_dict(configs["ditfuse_lora"]))
    for name in ("no_tags", "m3_only", "fusion_only", "fusion_and_m3", "m3_blur", "m3_mask", "m3_noise"):
        ours = train_config.flat(train_config.to_dict(configs[name]))
        changed = {key for key in base.keys() | ours.keys() if base.get(key) != ours.get(key)} - {
            "name",
            "steps",
        }
        families = {key.split(".")[1] for key in changed}
        assert len(families) == 1, (name, families)
        assert changed
        assert ours["needs_init"]


@pytest.mark.parametrize("name", ["ditfuse_lora", "m3_only", "fusion_only", "fusion_and_m3", "m3_blur"])
def test_ablations_of_the_data_train_as_many_epochs(name):
    config = train_config.load(runs.PROJECT / "configs" / f"{name}.py")
    samples = sum(source.count for source in config.mixture.sources)
    assert config.steps == 2 * samples // config.batch_size


def test_overrides():
    config = runs.config()
    changed = train_config.override(
        config, ["optim.learning_rate=1e-4", "mixture.sources.0.weight=2", "name=x"]
    )
    assert (changed.optim.learning_rate, changed.mixture.sources[0].weight, changed.name) == (1e-4, 2.0, "x")
    assert train_config.override(config, []) == config


def test_the_log_forgets_what_runs_again(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"st')
    keep_until(path, 2)
    assert path.read_text() == '{"step": 1}\n{"step": 2}\n'


def test_a_damaged_line_of_the_log_is_set_aside(tmp_path, capsys):
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1}\n{"step"\n{"step": 2}\n{"st')
    keep_until(path, 2)
    assert path.read_text() == '{"step": 1}\n{"step": 2}\n'
    assert (tmp_path / "log.damaged.jsonl").read_text() == '{"step"\n'
    assert f"{path}: line 2 cannot be read; now in log.damaged.jsonl" in capsys.readouterr().err


def test_a_log_without_a_checkpoint_keeps_its_lines_under_another_name(tmp_path):
    path = tmp_path / "log.jsonl"
    for number in (1, 2):
        path.write_text(f"line {number}\n")
        set_aside(path)
        assert not path.exists()
        assert (tmp_path / f"log.{number}.jsonl").read_text() == f"line {number}\n"
    set_aside(path)  # nothing to do
