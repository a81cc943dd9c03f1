# SPDX-License-Identifier: Apache-2.0
"""The adapter with a stand-in scorer; the real ones need pyiqa, torch and weights from the network."""

import sys

import numpy as np
import pytest
from pictures import folders

from ditfuse_jax.evaluation import commands, iqa
from ditfuse_jax.evaluation.__main__ import main


def stand_in(name):
    if name == "liqe":
        raise OSError("weights of liqe cannot be fetched\nand more lines")
    return (lambda image: float(image.mean()) / 255), "stand-in 1.0, seed 0"


def test_what_can_be_made_is_and_the_rest_is_one_sentence():
    found = iqa.available(("maniqa", "liqe", "musiq"), stand_in)
    assert list(found.scorers) == ["maniqa", "musiq"]
    assert found.scorers["musiq"](np.full((4, 4, 3), 51, np.uint8)) == pytest.approx(0.2)
    assert found.source == "stand-in 1.0, seed 0"
    assert found.missing.startswith(
        "left out: liqe (weights of liqe cannot be fetched); pip install 'ditfuse-jax[iqa]'"
    )
    assert "\n" not in found.missing
    assert iqa.available((), stand_in) == ({}, "", "")


def test_without_pyiqa_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyiqa", None)
    found = iqa.available(("maniqa", "clipiqa+"), iqa.load_pyiqa)
    assert found.scorers == {}
    assert "left out: maniqa, clipiqa+" in found.missing
    assert "PolyForm-Noncommercial" in found.missing


def test_scores_join_the_table_and_missing_ones_leave_the_rest(tmp_path, capsys, monkeypatch):
    pytest.importorskip("matplotlib", reason="the extra eval is not installed")
    monkeypatch.setattr(commands.iqa, "load_pyiqa", stand_in)
    at = folders(tmp_path, stems=("a",))
    words = ["score", "--sources", at["one"], at["two"], "--fused", at["mean_of_both"], "--task", "mff"]
    words += ["--metrics", "sf,liqe,musiq", "--jobs", "1", "--out", tmp_path / "out"]
    assert main([str(word) for word in words]) == 0
    told = capsys.readouterr()
    assert "| method | images | SF ↑ | MUSIQ ↑ |" in told.out
    assert "- no-reference: stand-in 1.0, seed 0" in told.out
    assert "left out: liqe" in told.err
