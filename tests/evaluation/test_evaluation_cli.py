# SPDX-License-Identifier: Apache-2.0
"""python -m ditfuse_jax.evaluation from folders to files."""

import csv
import json
import subprocess
import sys

import pytest
from pictures import folders

from ditfuse_jax.evaluation import scoring
from ditfuse_jax.evaluation.__main__ import main
from ditfuse_jax.image import read

pytest.importorskip("matplotlib", reason="the extra eval is not installed")


def words(at, command, *more):
    return [
        command,
        "--sources",
        str(at["one"]),
        str(at["two"]),
        "--task",
        "mff",
        "--jobs",
        "1",
        *map(str, more),
    ]


def test_score_goes_from_folders_to_the_paper_table(tmp_path, capsys):
    at = folders(tmp_path)
    out = tmp_path / "out"
    assert main(words(at, "score", "--fused", at["mean_of_both"], "--metrics", "sf,ag,en", "--out", out)) == 0
    rows = list(csv.DictReader((out / "per_image.csv").read_text().splitlines()))
    assert [row["stem"] for row in rows] == ["a", "b", "c"]
    assert float(rows[0]["sf"]) > 0
    names = [
        "metrics.png",
        "per_image.csv",
        "problems.txt",
        "rows.jsonl",
        "summary.json",
        "summary.md",
        "summary.tex",
    ]
    assert sorted(file.name for file in out.iterdir()) == names
    assert (out / "problems.txt").read_text() == ""
    assert "| mean_of_both | 3 |" in capsys.readouterr().out


def test_compare_adds_fusion_without_a_network_and_a_sheet(tmp_path, capsys):
    at = folders(tmp_path)
    out = tmp_path / "out"
    command = words(at, "compare", "--fused", f"mine={at['mean_of_both']}", "--truth", at["truth"])
    assert main([*command, "--metrics", "psnr_truth,qabf,q_w", "--sheets", "2", "--out", str(out)]) == 0
    found = json.loads((out / "summary.json").read_text())
    assert list(found["methods"]) == [
        "mine",
        "mean",
        "maximum",
        "Laplacian pyramid",
        "Mertens",
        "guided filter",
    ]
    values = {name: method["values"]["psnr_truth"]["mean"] for name, method in found["methods"].items()}
    assert values["guided filter"] > values["mean"]
    assert abs(values["mine"] - values["mean"]) < 0.1
    assert read(out / "sheet.png").shape[0] == 2 * 3 * 220
    assert "mean rank" in capsys.readouterr().out


def test_odd_files_are_one_report_and_the_rest_is_scored(tmp_path, capsys):
    at = folders(tmp_path)
    (at["mean_of_both"] / "a.png").write_bytes(b"broken")
    (at["two"] / "b.png").unlink()
    out = tmp_path / "out"
    assert main(words(at, "score", "--fused", at["mean_of_both"], "--metrics", "en", "--out", out)) == 1
    told = capsys.readouterr().err
    assert "3 odd files" in told
    assert told.count("\n") == 4
    assert len((out / "per_image.csv").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--metrics", "nothing"), "metric 'nothing' is not known"),
        (("--jobs", "0"), "--jobs 0: give 1 or more"),
        (("--baselines", "mean,best"), "--baselines best: not one of all, none, mean"),
        (("--baselines", "none"), "nothing to compare"),
        (("--fused", "mean=x"), "a folder is called 'mean' like fusion without a network"),
    ],
)
def test_mistakes_are_told_in_one_line(tmp_path, capsys, more, message):
    at = folders(tmp_path)
    assert main([*words(at, "compare", "--out", tmp_path / "out"), *more]) == 2
    assert message in capsys.readouterr().err


def test_no_jax_is_loaded_for_scoring():
    """Processes start in the time of NumPy and OpenCV."""
    code = "import sys, ditfuse_jax.evaluation.scoring; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_parts_are_scored_once_and_merge_without_a_second_pass(tmp_path, capsys, monkeypatch):
    at, out = folders(tmp_path), tmp_path / "out"
    command = words(at, "score", "--fused", at["mean_of_both"], "--metrics", "sf,en", "--out", out)
    for index in (1, 2):
        assert main([*command, "--shard", f"{index}/2"]) == 0
    told = capsys.readouterr().out
    assert "part        1/2: 2 rows" in told
    assert "part        2/2: 1 rows" in told
    assert sorted(file.name for file in out.iterdir()) == ["rows-1-of-2.jsonl", "rows-2-of-2.jsonl"]
    monkeypatch.setattr(scoring, "score", lambda *_: pytest.fail("a row was computed again"))
    assert main(command) == 0
    rows = list(csv.DictReader((out / "per_image.csv").read_text().splitlines()))
    assert [row["stem"] for row in rows] == ["a", "b", "c"]


def test_a_part_beyond_the_whole_is_refused(tmp_path, capsys):
    command = words(folders(tmp_path), "score", "--fused", tmp_path, "--out", tmp_path / "out")
    for wrong in ("3/2", "0/2", "1", "a/b", "1/0"):
        with pytest.raises(SystemExit):
            main([*command, "--shard", wrong])
        assert f"'{wrong}' is no part of a whole; write I/N" in capsys.readouterr().err
