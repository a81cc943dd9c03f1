# SPDX-License-Identifier: Apache-2.0
"""Unfinished work never looks finished, and the command line says how it ended."""

import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap

import pytest

from conftest import golden
from conversion import PROJECT, converted_folder, drop, refused, run, same_folders, source_folder  # noqa: F401
from ditfuse_jax.checkpoints import folder as weights

SLOW = """
    import signal, sys, time
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    from convert import __main__, engine
    rows = engine.rows
    def slow(parts):
        for row in rows(parts):
            print("piece", flush=True)
            time.sleep(0.2)
            yield row
    engine.rows = slow
    sys.exit(__main__.command(sys.argv[1:], "convert"))
"""


@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_conversion_leaves_nothing_that_looks_finished(converted, tmp_path, stop):
    target = tmp_path / "kept"
    shutil.copytree(converted, target)
    command = [sys.executable, "-c", textwrap.dedent(SLOW), "omnigen", str(golden("ckpt_tiny")), str(target)]
    env = os.environ | {"PYTHONPATH": str(PROJECT)}
    with subprocess.Popen(
        [*command, "--overwrite"], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as job:
        for _ in range(5):
            assert job.stdout.readline() == b"piece\n"
        job.send_signal(stop)
        assert b"Traceback" not in job.communicate()[1]
    same_folders(target, converted)  # the old one is untouched
    left = [path for path in tmp_path.iterdir() if path != target]
    if stop != signal.SIGKILL:
        assert left == []
    for path in left:
        with pytest.raises(ValueError, match="has no config.json"):
            weights.read_config(path)


def test_an_existing_target_needs_overwrite(converted, tmp_path, capsys):
    target = tmp_path / "ours"
    assert run("omnigen", golden("ckpt_tiny"), target, "--dtype", "bfloat16") == 0
    assert "exists; choose another name or add --overwrite" in refused(
        capsys, "omnigen", golden("ckpt_tiny"), target
    )
    assert run("omnigen", golden("ckpt_tiny"), target, "--overwrite") == 0
    same_folders(target, converted)
    assert os.listdir(tmp_path) == ["ours"]


def test_a_failing_overwrite_keeps_the_old_one(source, converted, tmp_path, capsys):
    target = tmp_path / "ours"
    shutil.copytree(converted, target)
    drop(source, "tokenizer.json")
    assert "tokenizer.json" in refused(capsys, "omnigen", source, target, "--overwrite")
    same_folders(target, converted)


def test_the_library_does_not_import_convert():
    files = [path for path in (PROJECT / "ditfuse_jax").rglob("*.py")]
    assert len(files) > 10
    pattern = re.compile(r"^\s*(?:from|import) convert\b", re.MULTILINE)
    # from-train is reached through the command line only; the library itself must not know the converter.
    assert [path.name for path in files if pattern.search(path.read_text())] == []


def test_exit_code_of_the_command_line(tmp_path):
    command = [sys.executable, "-m", "convert", "omnigen", str(tmp_path / "nowhere"), str(tmp_path / "ours")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT)
    assert done.returncode == 2
    assert done.stderr.startswith("convert omnigen: ")
    assert len(done.stderr.splitlines()) == 1
