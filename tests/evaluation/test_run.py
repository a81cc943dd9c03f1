# SPDX-License-Identifier: Apache-2.0
import argparse
import json

import numpy as np
import pytest
from pictures import coloured, write

from conftest import golden
from ditfuse_jax.checkpoints import hub
from ditfuse_jax.data import registry
from ditfuse_jax.evaluation import overlap, run_commands
from ditfuse_jax.evaluation.__main__ import main
from ditfuse_jax.evaluation.runtime import processor
from ditfuse_jax.image import read

pytest.importorskip("matplotlib", reason="the extra eval is not installed")


@pytest.fixture(scope="module")
def checkpoint(folder):
    return folder


def pairs(folder, stems=("a", "b")):
    for seed, stem in enumerate(stems):
        write(folder / "vis" / f"{stem}.png", coloured(32, 48, seed=seed))
        write(folder / "ir" / f"{stem}.png", coloured(32, 48, seed=9 + seed))
    (folder / "train.txt").write_text("a\n")
    (folder / "val.txt").write_text("b\n")
    return folder


def test_a_folder_is_fused_and_compared(checkpoint, tmp_path, capsys):
    """Pairs to table in one command, and nothing twice in a second one."""
    folder, out = pairs(tmp_path / "set"), tmp_path / "out"
    words = ["run", "--dataset", folder, "--task", "ivif", "--checkpoint", checkpoint, "--steps", "1"]
    words += ["--metrics", "psnr,en", "--baselines", "mean", "--jobs", "1", "--sheets", "1", "--out", out]
    words = [str(word) for word in words]
    assert main(words) == 0
    told = capsys.readouterr().out
    assert f"1 of 2 pairs are in {folder / 'train.txt'}: a" in told
    assert "| ditfuse" in told  # random weights may be flagged as shifted
    assert "| mean | 2 |" in told
    assert read(out / "fused/a.png").shape == (32, 48, 3)
    assert (out / "sheet.png").exists()
    made = (out / "fused/a.png").stat().st_mtime_ns
    assert main(words) == 0
    assert (out / "fused/a.png").stat().st_mtime_ns == made


def test_a_list_of_names_chooses(tmp_path):
    folder = pairs(tmp_path / "set")
    args = argparse.Namespace(dataset=str(folder), names="val.txt")
    found, _ = run_commands.scenes(args)
    assert [one.stem for one in found] == ["b"]


def test_pairs_that_were_trained_on_are_named(tmp_path):
    """By the lists that the checkpoint names, else by the folder's own; by set and name."""
    folder = pairs(tmp_path / "data/ivif/msrs")
    assert "0 of 1 pairs are in" in overlap.sentence(["b"], "msrs", folder, [], tmp_path)
    assert "the checkpoint does not say" in overlap.sentence(["b"], "MSRS", None, [], tmp_path)
    listed = [{"path": "ivif/*", "format": "pairs", "names": "train.txt"}]
    listed += [{"path": "photos", "format": "photos", "names": None}]
    text = overlap.sentence(["a", "b"], "MSRS", None, listed, tmp_path / "data")
    assert text == "training    1 of 2 pairs are in the checkpoint's lists: a"
    assert "0 of 2" in overlap.sentence(["a", "b"], "TNO", None, listed, tmp_path / "data")
    everything = [{"path": "ivif/msrs", "format": "pairs", "names": None}]
    assert "2 of 2" in overlap.sentence(["a", "b"], "msrs", folder, everything, tmp_path / "data")


def test_a_dataset_by_name_is_found_in_the_lists(tmp_path):
    for split in ("train", "test"):
        for side in ("vi", "ir", "Segmentation_labels"):
            write(tmp_path / "MSRS" / split / side / f"{split}1.png", coloured(32, 48))
    listed = [{"path": "MSRS/train", "format": "dataset", "names": "train.txt"}]
    text = overlap.sentence(["train1", "test1"], "MSRS", None, listed, tmp_path)
    assert text.endswith("1 of 2 pairs are in the checkpoint's lists: train1")
    assert overlap.names([{"path": "TNO/test", "format": "dataset", "names": None}], tmp_path, "TNO") == set()


def test_a_checkpoint_says_what_it_was_trained_on(tmp_path):
    for name, path in (("config", "ivif/*"), ("adapter", "mff/*")):
        (tmp_path / f"{name}.json").write_text(json.dumps({"provenance": {"trained_on": [{"path": path}]}}))
    assert overlap.trained_on(tmp_path, None) == [{"path": "ivif/*"}]
    assert overlap.trained_on(tmp_path, tmp_path) == [{"path": "ivif/*"}, {"path": "mff/*"}]


def test_a_named_dataset_uses_the_split_of_the_paper(tmp_path):
    for side in ("imageA", "imageB", "Fusion"):
        write(
            tmp_path / "RealMFF" / side / f"001_{side[-1] if side != 'Fusion' else 'F'}.png", coloured(32, 48)
        )
    args = argparse.Namespace(dataset="RealMFF", data=str(tmp_path), split=None)
    (one,), folder = run_commands.scenes(args)
    assert folder is None
    assert one.truth == tmp_path / "RealMFF/Fusion/001_F.png"
    for side in ("vi", "ir"):
        write(tmp_path / "MSRS/test" / side / "7.png", coloured(32, 48))
        write(tmp_path / "MSRS/test/Segmentation_labels" / "7.png", np.zeros((32, 48), np.uint8))
    (one,), _ = run_commands.scenes(argparse.Namespace(dataset="MSRS", data=str(tmp_path), split=None))
    assert one.first == tmp_path / "MSRS/test/vi/7.png"


@pytest.mark.parametrize("name", registry.DATASETS)
def test_all_nine_sets_are_asked_for_their_test_split(name, tmp_path):
    split = "train" if name == "RealMFF" else "test"
    with pytest.raises(ValueError, match=rf"^{name} \({split}\) is not here"):
        run_commands.scenes(argparse.Namespace(dataset=name, data=str(tmp_path), split=None))


def test_stems_that_repeat_get_their_folder(tmp_path):
    pair = tmp_path / "12" / "3.jpg", tmp_path / "12" / "1.jpg", None
    other = tmp_path / "13" / "3.jpg", tmp_path / "13" / "1.jpg", None
    assert [one.stem for one in run_commands._named([pair, other])] == ["12_3", "13_3"]


def test_unknown_datasets_are_told(tmp_path, capsys):
    words = ["run", "--dataset", "nowhere", "--task", "mff", "--out", str(tmp_path)]
    assert main(words) == 2
    assert "nowhere is no folder and none of MSRS, M3FD" in capsys.readouterr().err


def test_a_checkpoint_of_the_hub_is_fetched_by_its_name(tmp_path, monkeypatch, capsys):
    """hub.fetch itself is tested against a loopback hub in tests/inference/test_pretrained.py."""
    asked = []
    monkeypatch.setattr(hub, "fetch", lambda *name: asked.append(name) or golden("ckpt_tiny"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    words = ["runtime", "--checkpoint", "hf:acme/tiny", "--size", "48x32", "--steps", "1", "--samples", "1"]
    assert main(words) == 0
    assert asked == [("hf:acme/tiny", None)]
    assert "acme--tiny-" in capsys.readouterr().out


def test_runtime_states_what_it_depends_on(checkpoint, tmp_path, capsys):
    words = ["runtime", "--checkpoint", checkpoint, "--size", "48x32", "--steps", "1", "--samples", "2"]
    assert main([str(word) for word in [*words, "--out", tmp_path]]) == 0
    told = capsys.readouterr().out
    for fact in (
        "device: ",
        f"processor: {processor()}, ",
        "size: 48 x 32, fused at 48 x 32",
        "steps: 1",
        "branches: ",
        "precision: float32",
    ):
        assert f"- {fact}" in told
    assert "median of 2" in told
    assert (tmp_path / "runtime.md").read_text() in told
    assert "- code: ditfuse-jax " in told
    assert main(["runtime", "--size", "48"]) == 2
    assert "--size 48: write width x height" in capsys.readouterr().err
