# SPDX-License-Identifier: Apache-2.0
"""The benchmarks that make docs/results.md, with stand-ins for other people's programs."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from synthetic import noise, write

FOLDER = Path(__file__).parents[1] / "benchmarks"
COPIES = """#!/bin/sh
# stands in for focusweave FOLDER --output FILE ...: its first picture
cp "$1/1.png" "$3"
"""
FAILS = """#!/bin/sh
echo "there is no such stack" >&2
exit 3
"""


@pytest.fixture(autouse=True)
def _benchmarks_are_importable(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(FOLDER), *sys.path])


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """focusweave copies, openfocus fails, enfuse is not installed."""
    for name, text in (("focusweave", COPIES), ("openfocus", FAILS)):
        file = tmp_path / "bin" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
        file.chmod(0o755)
    there = [folder for folder in os.defpath.split(os.pathsep) if not (Path(folder) / "enfuse").exists()]
    monkeypatch.setenv("PATH", os.pathsep.join([str(tmp_path / "bin"), *there]))
    (tmp_path / "bin" / "cp").symlink_to("/bin/cp")
    (tmp_path / "bin" / "sh").symlink_to("/bin/sh")


@pytest.fixture
def dataset(tmp_path):
    folder = tmp_path / "data/mff/lytro"
    for seed, side in enumerate("ab"):
        for stem in ("p", "q"):
            write(folder / side / f"{stem}.png", noise(seed, 32, 48, 3))
    (folder / "val.txt").write_text("p\n")
    return folder


@pytest.mark.usefixtures("programs")
def test_programs_fuse_a_folder_and_what_fails_is_told(dataset, tmp_path, capsys):
    import peers

    words = ["--dataset", dataset, "--names", "val.txt", "--task", "mff", "--out", tmp_path / "out"]
    assert peers.main([str(word) for word in words]) == 1
    told = capsys.readouterr().err
    assert "enfuse: enfuse is not installed; apt install enfuse" in told
    assert "openfocus C of p: there is no such stack" in told
    made = tmp_path / "out/focusweave/p.png"
    with Image.open(dataset / "a/p.png") as first, Image.open(made) as result:
        np.testing.assert_array_equal(np.asarray(result), np.asarray(first))
    assert [file.name for file in made.parent.iterdir()] == ["p.png"]
    assert not list((tmp_path / "out/openfocus C").iterdir())
    stamp = made.stat().st_mtime_ns
    peers.main([str(word) for word in words])
    assert made.stat().st_mtime_ns == stamp


def test_focus_alone_is_asked_of_those_that_fuse_nothing_else():
    import peers

    assert peers.peers_of("mef") == ["enfuse"]
    words = peers.enfuse("mef", Path("in"), Path("out.png"))
    assert words == ["enfuse", "-o", Path("out.png"), Path("in/1.png"), Path("in/2.png")]
    assert "--hard-mask" in peers.enfuse("mff", Path("in"), Path("out.png"))
    assert "--no-align" in peers.focusweave("mff", Path("in"), Path("out.png"))


@pytest.mark.usefixtures("programs")
def test_a_table_is_of_one_set_with_its_command_above(dataset, tmp_path, monkeypatch):
    """The evaluation is asked twice, decoded and with the sources' pixels, and the peers beside."""
    import results

    asked = []

    def evaluation(words):
        asked.append(words)
        out = Path(words[words.index("--out") + 1])
        out.mkdir(parents=True)
        (out / "summary.md").write_text("| method |\n")
        return 0

    monkeypatch.setattr(results, "evaluation", evaluation)
    words = [
        "--out",
        tmp_path / "results",
        "--data",
        tmp_path / "data",
        "--only",
        "mff/lytro",
        "--limit",
        "1",
    ]
    assert results.main([str(word) for word in words]) == 0
    decoded, whole = asked
    assert decoded[decoded.index("--fidelity") + 1] == "0"
    assert whole[whole.index("--fidelity") + 1] == "1"
    peer = f"focusweave={tmp_path / 'results/mff/lytro/peers/focusweave'}"
    assert peer in whole
    assert f"ditfuse, decoded={tmp_path / 'results/mff/lytro/decoded/fused'}" in whole
    text = (tmp_path / "results/results.md").read_text()
    command = "    python benchmarks/results.py --out results --only mff/lytro --limit 1"
    assert text.startswith(f"## mff/lytro\n\n{command}\n\n| method |\n")
    assert "- not here: enfuse: enfuse is not installed" in text


def test_sets_are_the_validation_sets(tmp_path, capsys):
    import results

    assert {task for task in results.SETS.values()} == {"ivif", "mff", "mef"}
    with pytest.raises(SystemExit):
        results.main(["--out", str(tmp_path), "--only", "ivif/nowhere"])
    assert "--only ivif/nowhere: not one of all, ivif/llvip" in capsys.readouterr().err
