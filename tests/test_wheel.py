# SPDX-License-Identifier: Apache-2.0
"""The built wheel, in a folder of its own outside the clone: what it holds, and that its command works."""

import importlib.metadata
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from conftest import PATIENCE
from runs import PROJECT

SOURCES = ("ditfuse_jax", "convert", "configs", "examples", "pyproject.toml", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder with the installed wheel. Built from a copy, as setuptools writes beside its sources."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        source, copy = PROJECT / name, folder / "clone" / name
        if source.is_dir():
            shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            copy.parent.mkdir(exist_ok=True)
            shutil.copy(source, copy)
    offline = ("--no-index", "--no-deps", "--quiet", "--disable-pip-version-check")
    pip("wheel", *offline, "--no-build-isolation", "--wheel-dir", folder, folder / "clone")
    pip("install", *offline, "--target", folder / "site", *folder.glob("*.whl"))
    return folder / "site"


def pip(*arguments) -> None:
    done = subprocess.run([sys.executable, "-m", "pip", *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def ditfuse(site: Path, cwd: Path, *arguments) -> subprocess.CompletedProcess:
    """The installed command, with the wheel first on the path and nothing of the clone."""
    environment = os.environ | {"PYTHONPATH": str(site), "XDG_CACHE_HOME": str(cwd / "cache")}
    command = [sys.executable, str(site / "bin" / "ditfuse"), *map(str, arguments)]
    return subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, timeout=PATIENCE)


def test_it_brings_every_room_and_one_top_level_package(site):
    def packages(folder):
        return {path.parent.relative_to(folder) for path in folder.rglob("__init__.py")}

    ours = packages(PROJECT / "ditfuse_jax") | {Path("convert")}
    assert packages(site / "ditfuse_jax") == ours, "name every package in pyproject.toml, tool.setuptools"
    assert {path.name for path in site.iterdir() if not path.name.endswith(".dist-info")} == {
        "ditfuse_jax",
        "bin",
    }


def test_it_brings_the_demo_the_runs_and_the_example(site):
    package = site / "ditfuse_jax"
    for clone, pattern in (
        ("configs", "*.py"),
        ("examples/ivif", "*.png"),
        ("ditfuse_jax/demo", "*.*"),
        ("ditfuse_jax/data/phrases", "*.toml"),
    ):
        files = list((PROJECT / clone).glob(pattern))
        assert len(files) > 1
        for file in files:
            brought = package / clone.removeprefix("ditfuse_jax/") / file.name
            assert brought.read_bytes() == file.read_bytes()


def test_fuse_makes_a_picture_of_the_example(site, tmp_path):
    flags = ("--steps", 1, "--guidance", 1, "--image-guidance", 1, "--max-side", 64, "--noises", 1)
    done = ditfuse(site, tmp_path, "fuse", *flags)
    assert done.returncode == 0, done.stderr
    assert f"the example pair {site}" in done.stdout
    with Image.open(tmp_path / "fused.png") as fused:
        assert fused.size == (512, 384)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--help",), 0, "fuse"),
        (("--version",), 0, importlib.metadata.version("ditfuse-jax")),
        (("convert", "--help"), 0, "usage: ditfuse convert"),
        (("convert", "inspect", "nowhere"), 2, "convert inspect: "),
        (("fuse", "--image1", "a.png"), 2, "ditfuse fuse: one image is not a pair"),
        (("train", "--config", "smok"), 2, "ditfuse train: no config file smok"),
        (("train", "--config", "demo", "--data", "nowhere"), 2, "ditfuse train: no data folder nowhere"),
        (("train", "--config", "full"), 2, "ditfuse train: full starts from the weights of a checkpoint"),
        (("data", "check", "smoke", "--data", "nowhere"), 2, "ditfuse data: no data folder nowhere"),
        (("evaluate", "--help"), 0, "usage: ditfuse evaluate"),
        (("serve", "--help"), 0, "usage: ditfuse serve"),
        (("nothing",), 2, "invalid choice: 'nothing'"),
    ],
)
def test_commands_answer(site, tmp_path, arguments, code, words):
    done = ditfuse(site, tmp_path, *arguments)
    assert done.returncode == code, done.stderr
    assert words in (done.stderr if code else done.stdout)
    assert "Traceback" not in done.stderr
