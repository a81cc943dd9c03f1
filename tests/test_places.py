# SPDX-License-Identifier: Apache-2.0
"""Folders and the converter, as found from a clone; tests/test_wheel.py does so from an installed package."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ditfuse_jax import places
from ditfuse_jax.data.__main__ import read_config
from ditfuse_jax.training.config import load
from runs import PROJECT


def test_a_clone_is_its_own_home():
    assert places.home() == PROJECT
    assert (places.folder("examples") / "ivif" / "image1.png").is_file()


@pytest.mark.parametrize("name", ["smoke", "smoke.py", "configs/smoke", "configs/smoke.py"])
def test_a_run_goes_by_its_name_from_anywhere(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    assert places.run_file(Path(name)) == PROJECT / "configs" / "smoke.py"
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    assert places.run_file(Path(name)) == Path(name)  # a file comes first


@pytest.mark.parametrize("name", ["smok", "elsewhere/smoke.py", "smoke.json"])
def test_other_names_stay(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    assert places.run_file(Path(name)) == Path(name)


def test_the_converter_is_found_in_a_clone_that_is_not_installed(tmp_path):
    """With -S no site-packages: neither an installed wheel nor an editable one."""
    code = "from ditfuse_jax import places; print(places.converter('__main__').__file__)"
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    command = [sys.executable, "-S", "-c", code]
    found = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert Path(found.stdout.strip()) == PROJECT / "convert" / "__main__.py"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("\nconfig = 1 / 0", "run.py:2: ZeroDivisionError: division by zero"),
        ("\n\ndef", "run.py:3: SyntaxError: "),
        ("import absent_package", "run.py:1: ModuleNotFoundError: "),
        ("from ditfuse_jax.training.config import TrainConfig\nTrainConfig(step=3)", "run.py:2: TypeError: "),
    ],
)
@pytest.mark.parametrize("load", [load, read_config])
def test_an_error_in_a_run_file_is_named_by_its_line(tmp_path, load, content, told):
    file = tmp_path / "run.py"
    file.write_text(content)
    with pytest.raises(ValueError, match=told):
        load(file)
