# SPDX-License-Identifier: Apache-2.0
"""`python -m convert` loses nothing of the user's: what --overwrite replaces, and what it refuses."""

import json
import os
import shutil
from pathlib import Path

import pytest
from safetensors.numpy import load_file, save_file

import runs
from conftest import golden
from convert.__main__ import main as convert
from ditfuse_jax.training import step
from ditfuse_jax.training.initial import trained_weights
from ditfuse_jax.training.resume import Checkpoints
from ditfuse_jax.training.sharding import make_mesh, parse_mesh

DEMO = Path(__file__).parents[2] / "ditfuse_jax" / "demo"


def write_run(workdir):
    """A run's workdir with one checkpoint."""
    config, mesh = runs.config(), make_mesh(parse_mesh(""))
    params = trained_weights(config, mesh)
    checkpoints = Checkpoints(workdir, keep=1)
    checkpoints.save(step.new_state(params, config, mesh), config, step=1, loss=None, notes={})
    checkpoints.wait()
    checkpoints.close()


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """{command: SRC} of every command of `python -m convert` that writes."""
    place = tmp_path_factory.mktemp("sources")
    write_run(place / "run")
    made = {
        "omnigen": golden("ckpt_tiny"),
        "vae": golden("ckpt_tiny/vae"),
        "lora": golden("dit_tiny/lora_attn"),
        "from-train": place / "run",
        "export": place / "ours",
        "export-lora": place / "adapter",
    }
    assert convert(["omnigen", str(made["omnigen"]), str(made["export"])]) == 0
    assert convert(["lora", str(made["lora"]), str(made["export-lora"])]) == 0
    return made


COMMANDS = ("omnigen", "vae", "lora", "from-train", "export", "export-lora")


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(capsys, *arguments):
    """The message of a command that ends with code 2."""
    assert convert([str(argument) for argument in arguments]) == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("command", COMMANDS)
def test_what_a_command_wrote_is_replaced(sources, tmp_path, command):
    target = tmp_path / "made"
    assert convert([command, str(sources[command]), str(target)]) == 0
    names = contents(target).keys()
    before = target.stat().st_ino
    assert convert([command, str(sources[command]), str(target), "--overwrite"]) == 0
    assert contents(target).keys() == names
    assert target.stat().st_ino != before
    assert os.listdir(tmp_path) == ["made"]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_name_of_ours_does_not_make_a_folder_ours(sources, tmp_path, capsys, command):
    for mark in ("config.json", "adapter.json", "adapter_config.json", "vae.safetensors"):
        target = tmp_path / mark
        target.mkdir()
        (target / mark).write_text('{"version": 1}')
        (target / "thesis.tex").write_text("years")
        told = refused(capsys, command, sources[command], target, "--overwrite")
        assert f"{target} is not a folder that this library wrote" in told
        assert (target / "thesis.tex").read_text() == "years"


@pytest.mark.parametrize("command", COMMANDS)
def test_a_foreign_file_in_a_folder_of_ours_keeps_it(sources, tmp_path, capsys, command):
    target = tmp_path / "made"
    assert convert([command, str(sources[command]), str(target)]) == 0
    for name in ("notes.txt", "more/photo.png", "vae/notes.txt"):
        (target / name).parent.mkdir(exist_ok=True)
        (target / name).write_text("mine")
        before = contents(target)
        told = refused(capsys, command, sources[command], target, "--overwrite")
        assert name in told
        assert "which this library did not write" in told
        assert contents(target) == before
        (target / name).unlink()


@pytest.mark.parametrize("command", COMMANDS)
def test_the_source_is_never_the_target(sources, tmp_path, capsys, command):
    source = tmp_path / "source"
    shutil.copytree(sources[command], source)
    (tmp_path / "link").symlink_to(source)
    before = contents(source)
    for given, target, how in (
        (source, source, "is"),
        (tmp_path / "link", source, "is"),
        (source, tmp_path / "link", "is"),
        (source, source / ".." / "source", "is"),
        (source, source / "made", "lies inside"),
        (source, tmp_path / "link" / "made", "lies inside"),
        (source, tmp_path, "holds"),
    ):
        told = refused(capsys, command, given, target, "--overwrite")
        assert f"{how} {given}, which is read; choose a name apart from it" in told
        assert contents(source) == before


@pytest.mark.parametrize("flag", ["--lora", "--vae"])
def test_other_inputs_are_sources_too(sources, tmp_path, capsys, flag):
    kept = tmp_path / "kept"
    shutil.copytree(golden({"--lora": "dit_tiny/lora_attn", "--vae": "ckpt_tiny/vae"}[flag]), kept)
    before = contents(kept)
    told = refused(capsys, "omnigen", sources["omnigen"], kept, flag, kept, "--overwrite")
    assert f"{kept} is {kept}, which is read" in told
    assert contents(kept) == before


def test_a_published_folder_is_not_taken_for_our_export(sources, tmp_path, capsys):
    target = tmp_path / "download"
    assert convert(["export", str(sources["export"]), str(target)]) == 0
    tensors = load_file(target / "model.safetensors")
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})  # as others write it
    told = refused(capsys, "export", sources["export"], target, "--overwrite")
    assert f"{target} is not a folder that this library wrote" in told


def test_links_and_files_are_not_replaced(sources, tmp_path, capsys):
    real = tmp_path / "real"
    assert convert(["lora", str(sources["lora"]), str(real)]) == 0
    (tmp_path / "link").symlink_to(real)
    (tmp_path / "file").write_text("mine")
    for name in ("link", "file"):
        told = refused(capsys, "lora", sources["lora"], tmp_path / name, "--overwrite")
        assert f"{tmp_path / name} is not a folder that this library wrote" in told
    weights = real / "adapter.safetensors"
    weights.rename(tmp_path / "elsewhere")
    weights.symlink_to(tmp_path / "elsewhere")
    told = refused(capsys, "lora", sources["lora"], real, "--overwrite")
    assert "adapter.safetensors (a link)" in told


def test_folders_from_before_are_known(sources, tmp_path, capsys):
    target = tmp_path / "demo"
    shutil.copytree(DEMO, target)
    told = refused(capsys, "omnigen", sources["omnigen"], target, "--overwrite")
    assert "holds MODEL_CARD.md, which this library did not write" in told  # written by hand
    (target / "MODEL_CARD.md").unlink()
    assert convert(["omnigen", str(sources["omnigen"]), str(target), "--overwrite"]) == 0
    assert json.loads((target / "config.json").read_text())["model"]["width"] == 64
    assert os.listdir(tmp_path) == ["demo"]


def test_a_file_that_comes_while_converting_is_kept(sources, tmp_path, capsys, monkeypatch):
    target = tmp_path / "made"
    assert convert(["lora", str(sources["lora"]), str(target)]) == 0

    def save_tensors(path, *_):
        path.write_bytes(b"weights")
        (target / "notes.txt").write_text("mine")

    monkeypatch.setattr("ditfuse_jax.checkpoints.adapter.save_tensors", save_tensors)
    assert "holds notes.txt" in refused(capsys, "lora", sources["lora"], target, "--overwrite")
    assert (target / "notes.txt").read_text() == "mine"
    assert os.listdir(tmp_path) == ["made"]
