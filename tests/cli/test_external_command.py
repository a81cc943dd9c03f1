# SPDX-License-Identifier: Apache-2.0
"""The script of docs/serve.md for programs that call a program, beside a `ditfuse` that ends as told."""

import os
import re
import subprocess

import pytest

from ditfuse_jax.cli.fuse import parse
from runs import PROJECT

BLOCKS = re.findall(r"^```sh\n(.*?)^```$", (PROJECT / "docs/serve.md").read_text("utf-8"), re.M | re.S)
SCRIPT = next(block for block in BLOCKS if block.startswith("#!/bin/sh"))
CALLS = next(block for block in BLOCKS if block.startswith("fuse-pictures "))
DITFUSE = """#!/bin/sh
printf '%s\\n' "$@" > "$ASKED"
printf '%s' "$SAYS"
exit "$CODE"
"""
DONE = '{"ok": true, "out": "a b.tif", "seconds": 1, "explained": 0.9, "weights": null, "invented": null}\n'


@pytest.fixture
def call(tmp_path):
    """Runs a line of shell; returns what ended, and the words that `ditfuse` got."""
    for name, text in (("ditfuse", DITFUSE), ("fuse-pictures", SCRIPT)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)

    def run(line: str, says: str = "", code: int = 0):
        asked = tmp_path / "asked"
        variables = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SAYS": says, "CODE": str(code)}
        environment = os.environ | variables | {"ASKED": str(asked)}
        done = subprocess.run(["sh", "-c", line], env=environment, capture_output=True, text=True)
        return done, asked.read_text().splitlines()

    return run


def test_any_number_of_pictures_and_further_flags_arrive(call):
    done, words = call("fuse-pictures mff 'a b.tif' 1.tif '2 3.tif' 4.tif --fidelity 0.5", says=DONE)
    assert (done.returncode, done.stdout, done.stderr) == (0, "a b.tif\n", "")
    asked = parse(words[1:], words[0])
    assert words[0] == "fuse"
    assert [str(file) for file in asked.images] == ["1.tif", "2 3.tif", "4.tif"]
    assert (asked.json, asked.task, str(asked.out), asked.fidelity) == (True, "mff", "a b.tif", 0.5)


@pytest.mark.parametrize(("code", "says"), [(2, "nothing was made"), (130, "cancelled"), (1, "")])
def test_the_exit_code_is_passed_on(call, code, says):
    done, _ = call("fuse-pictures ivif c.tif a.tif b.tif", code=code)
    assert (done.returncode, done.stdout) == (code, "")
    assert says in done.stderr


def test_the_calls_that_are_shown_have_flags_that_exist(call):
    for line in CALLS.splitlines():
        done, words = call(line, says=DONE)
        assert done.returncode == 0
        asked = parse(words[1:], words[0])
        assert len(asked.images) == 3 or asked.image_dir
