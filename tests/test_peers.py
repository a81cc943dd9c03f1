# SPDX-License-Identifier: Apache-2.0
"""The benchmarks that make docs/results.md, with stand-ins for other people's programs."""

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from ditfuse_jax.evaluation import cases, figure_commands
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


SUMMARY = {
    "metrics": {"vif": {"title": "VIF"}, "sd": {"title": "SD"}, "cf": {"title": "colourfulness"}},
    "methods": {"ditfuse": {}, "mean": {}, "maximum": {}},
    "ranks": {
        "vif": {"ditfuse": 3, "mean": 2, "maximum": 1},
        "sd": {"ditfuse": 1, "mean": 1, "maximum": 3},
        "cf": {},  # neither direction is better
    },
    "mean_rank": {"ditfuse": 3.0, "mean": 2.0, "maximum": 1.0},
}


@pytest.fixture
def asked(monkeypatch):
    """The words of every command of the evaluation, which writes stand-ins of what it would."""
    import results

    found = []

    def evaluation(words):
        found.append(words)
        out = Path(words[words.index("--out") + 1])
        out.mkdir(parents=True, exist_ok=True)
        (out / "summary.md").write_text("| method |\n")
        (out / "summary.json").write_text(json.dumps(SUMMARY))
        (out / "prompts.md").write_text("Checkpoint other\n\n### Light\n")
        (out / "runtime.md").write_text("| checkpoint |\n")
        for number in words[1 : words.index("--data")] if words[0] == "figures" else ():
            Image.new("RGB", (2440, 8)).save(out / f"fig{number}.png")
        return 0

    monkeypatch.setattr(results, "evaluation", evaluation)
    monkeypatch.setattr(results.free_pictures, "make", lambda root, out: None)
    monkeypatch.setattr(results.DiTFuse, "load", lambda _: SimpleNamespace(checkpoint_id="demo-1"))
    return found


def command(*more):
    import results

    return results.main([str(word) for word in more])


@pytest.mark.usefixtures("programs")
def test_a_table_is_of_one_set_with_its_command_above(dataset, tmp_path, asked):
    """The evaluation is asked twice, decoded and with the sources' pixels, and the peers beside."""
    out, page = tmp_path / "results", tmp_path / "docs"
    words = ["--out", out, "--data", tmp_path / "data", "--limit", 1]
    assert command(*words, "--parts", "tables", "--only", "mff/lytro", "--page", page) == 0
    decoded, whole = asked
    assert decoded[decoded.index("--fidelity") + 1] == "0"
    assert whole[whole.index("--fidelity") + 1] == "1"
    assert f"focusweave={out / 'mff/lytro/peers/focusweave'}" in whole
    assert f"ditfuse, decoded={out / 'mff/lytro/decoded/fused'}" in whole
    text = (page / "results.md").read_text()
    shown = "    python benchmarks/results.py --out runs/results --parts tables --only mff/lytro --limit 1"
    assert f"## mff/lytro\n\n{shown}\n\n- checkpoint: demo-1\n" in text
    assert "- not here: enfuse: enfuse is not installed" in text
    assert str(tmp_path) not in text


def test_who_is_ahead_is_taken_from_the_ranks():
    import results_page

    told = results_page.place(SUMMARY, "ditfuse")
    assert told == "- ditfuse: mean rank 3 of 3; best in SD; beaten in VIF by maximum, mean"
    many = {"vif": {"ditfuse": 6} | {f"m{number}": number for number in range(1, 6)}}
    told = results_page.place(SUMMARY | {"ranks": many}, "ditfuse")
    assert told.endswith("best in nothing; beaten in VIF by m1, m2, m3 and 2 more")
    assert results_page.place(SUMMARY, "maximum").startswith(
        "- maximum: mean rank 1 of 3; best in VIF; beaten"
    )


def test_one_command_makes_the_page(tmp_path, asked, monkeypatch):
    """Prompts, sheets as small JPEG files, and what was seen on them: of this checkpoint alone."""
    import results_page

    out, page, seen = tmp_path / "results", tmp_path / "docs", tmp_path / "seen.toml"
    monkeypatch.setattr(results_page, "SEEN", seen)
    seen.write_text('checkpoint = "other"\n[figures]\n7 = "A loss."\n')
    with pytest.raises(ValueError, match="holds no part of the results; leave --parts away"):
        command("--out", out, "--data", tmp_path, "--parts", "none", "--page", page)
    command("--out", out, "--data", tmp_path, "--parts", "prompts,figures,runtime", "--page", page)
    assert [words[0] for words in asked] == ["prompts", "figures", "runtime"]
    text = (page / "results.md").read_text()
    assert "## Light" in text
    assert "![Multi-exposure](results/fig9.jpg)" in text
    assert "**Nobody has looked at these sheets yet**" in text
    assert "A loss." not in text
    assert "# Seconds and memory" in text
    with Image.open(page / "results/fig9.jpg") as sheet:
        assert sheet.width == results_page.WIDTH
    assert "A loss." in results_page.sheets("other")


def test_pictures_of_the_page_are_drawn_or_free(tmp_path, monkeypatch):
    """A data root with groups; a photograph that is not there is named."""
    import free_pictures

    for stem in free_pictures.PHOTOS:
        write(tmp_path / "data/photos" / f"{stem}.png", noise(1, 64, 64, 3))
    names = tmp_path / "data/photos/val.txt"
    names.write_text("".join(f"{stem}\n" for stem in free_pictures.PHOTOS))
    street = free_pictures.street_module()
    monkeypatch.setattr(street, "SCALE", 1)
    monkeypatch.setattr(street, "street", lambda rng: street.Scene())  # nothing but the light
    monkeypatch.setattr(free_pictures, "street_module", lambda: street)
    for _ in range(2):  # over what is there
        free_pictures.make(tmp_path / "data", tmp_path / "free")
    groups = figure_commands.grouped(tmp_path / "free/groups.toml", tmp_path / "free", 0)
    names_of = [scene.name for scene in groups]
    assert names_of == [f"{light}: drawn {light}" for light in ("over-exposure", "fog", "low-light")]
    glare, haze, dark = (scene.first.mean() for scene in groups)
    assert haze > glare > dark  # of a black street: light scattered on the way, headlamps, next to nothing
    assert len(cases.held_out("streets", tmp_path / "free", limit=0, side=64)) == 4
    assert len(cases.held_out("mef", tmp_path / "free", limit=0, side=64)) == len(free_pictures.PHOTOS)
    names.write_text("feedme__0000654\n")
    with pytest.raises(ValueError, match="has no feedme__0001177, kodak__01"):
        free_pictures.photographs(tmp_path / "data", tmp_path / "free")


def test_sets_are_the_validation_sets(tmp_path, capsys):
    import results

    assert {task for task in results.SETS.values()} == {"ivif", "mff", "mef"}
    with pytest.raises(SystemExit):
        results.main(["--out", str(tmp_path), "--only", "ivif/nowhere"])
    assert "--only ivif/nowhere: not one of all, ivif/llvip" in capsys.readouterr().err
