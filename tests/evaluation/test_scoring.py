# SPDX-License-Identifier: Apache-2.0
import math

import cv2
import numpy as np
import pytest
from pictures import coloured, folders, write

from ditfuse_jax.evaluation import scoring
from ditfuse_jax.evaluation.folders import pair
from ditfuse_jax.evaluation.metrics import colour, edges
from ditfuse_jax.image import read

SETTINGS = scoring.Settings("mff", "standard", ("psnr", "qabf", "en"), resize=False)


def listing(at, method="mean_of_both", **fused):
    return pair((at["one"], at["two"]), fused or {method: at[method]}, None).files


def run(files, tmp_path, settings=SETTINGS, jobs=1, scorers=None):
    done = []
    found = scoring.rows(
        files,
        settings,
        store=tmp_path / "out" / "rows.jsonl",
        jobs=jobs,
        scorers=scorers or {},
        on_done=lambda: done.append(1),
    )
    assert len(done) == len(files)
    return found


def test_a_row_holds_the_metrics_of_its_files(tmp_path):
    at = folders(tmp_path)
    row = scoring.score(listing(at)[0], SETTINGS)
    grey = [colour.grey(read(at[name] / "a.png")) for name in ("one", "two", "mean_of_both")]
    assert row.values["qabf"] == edges.qabf(*grey)
    assert (row.method, row.stem, row.size) == ("mean_of_both", "a", (64, 48))
    assert (row.moved, row.resized, row.problems) == (False, False, ())


def test_several_processes_give_the_same_rows(tmp_path):
    files = listing(folders(tmp_path))
    rows, lost = run(files, tmp_path / "x", jobs=2)
    assert (rows, lost) == run(files, tmp_path / "y", jobs=1)
    assert [row.stem for row in rows] == ["a", "b", "c"]


def test_a_second_run_computes_only_what_changed(tmp_path, monkeypatch):
    at = folders(tmp_path)
    files = listing(at)
    before, _ = run(files, tmp_path)
    with (tmp_path / "out/rows.jsonl").open("a") as store:
        store.write('{"key": "torn by a ki')
    write(at["mean_of_both"] / "b.png", read(at["truth"] / "b.png"))
    computed = []
    plain = scoring.score
    monkeypatch.setattr(scoring, "score", lambda f, s: computed.append(f.stem) or plain(f, s))
    after, _ = run(files, tmp_path)
    assert computed == ["b"]
    assert after[0] == before[0]
    assert after[1].values != before[1].values
    computed.clear()
    run(files, tmp_path, SETTINGS._replace(protocol="tang"))
    assert computed == ["a", "b", "c"]  # other settings, other numbers


def test_another_size_is_flagged_and_not_compared_unless_asked(tmp_path):
    at = folders(tmp_path)
    write(at["mean_of_both"] / "a.png", cv2.resize(read(at["mean_of_both"] / "a.png"), (48, 32)))
    row = scoring.score(listing(at)[0], SETTINGS)
    assert row.resized
    assert math.isfinite(row.values["en"])
    assert math.isnan(row.values["psnr"])
    assert "48 x 32 and its sources 64 x 48" in row.problems[0]
    row = scoring.score(listing(at)[0], SETTINGS._replace(resize=True))
    assert row.resized
    assert math.isfinite(row.values["psnr"])
    assert "scaled" in row.problems[0]


def test_a_shifted_result_is_flagged(tmp_path):
    at = folders(tmp_path, size=(96, 96))
    for stem in "abc":
        file = at["mean_of_both"] / f"{stem}.png"
        write(file, np.roll(read(file), 3, axis=1))
    rows, _ = run(listing(at), tmp_path)
    assert all(row.moved for row in rows)
    assert rows[0].shift[0] == pytest.approx(3, abs=0.3)
    assert "a.png: shifted by +" in rows[0].problems[0]


def test_what_cannot_be_scored_is_named_and_the_rest_kept(tmp_path):
    at = folders(tmp_path)
    write(at["two"] / "a.png", coloured(48, 60))
    (at["mean_of_both"] / "b.png").write_bytes(b"no picture")
    write(at["mean_of_both"] / "c.png", np.full((48, 64, 3), 9, np.uint8))
    settings = SETTINGS._replace(metrics=("psnr", "scd", "cc", "ms_ssim"))
    rows, lost = run(listing(at), tmp_path, settings)
    assert [row.stem for row in rows] == ["c"]
    assert len(lost) == 2
    assert "different sizes" in lost[0]
    assert "b.png: not an image" in lost[1]
    problems = "\n".join(rows[0].problems)
    assert "c.png: all pixels are equal" in problems
    assert "MS-SSIM needs sides of at least 176 pixels" in problems
    assert "no value for cc" in problems


def test_scorers_get_the_result_and_join_the_row(tmp_path):
    at = folders(tmp_path)
    scorers = {"brightness": lambda image: image.mean()}
    rows, _ = run(listing(at), tmp_path, scorers=scorers)
    assert rows[0].values["brightness"] == pytest.approx(read(at["mean_of_both"] / "a.png").mean())
    again, _ = run(listing(at), tmp_path, scorers={"brightness": lambda image: pytest.fail("not cached")})
    assert again == rows
