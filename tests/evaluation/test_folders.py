# SPDX-License-Identifier: Apache-2.0
import pytest
from pictures import coloured, folders, write

from ditfuse_jax.evaluation import folders as module


def test_results_find_their_sources(tmp_path):
    at = folders(tmp_path)
    listing = module.pair((at["one"], at["two"]), {"ours": at["mean_of_both"]}, at["truth"])
    assert [(one.method, one.stem) for one in listing.files] == [("ours", stem) for stem in "abc"]
    assert listing.files[1].first == at["one"] / "b.png"
    assert listing.files[1].truth == at["truth"] / "b.png"
    assert listing.problems == ()


def test_everything_odd_is_listed_and_the_rest_is_kept(tmp_path):
    at = folders(tmp_path)
    (at["two"] / "a.png").unlink()
    (at["mean_of_both"] / "b.png").rename(at["mean_of_both"] / "x.png")
    write(at["mean_of_both"] / "c.bmp", coloured(48, 64))
    (at["one"] / "notes.txt").write_text("no image")
    listing = module.pair((at["one"], at["two"]), {"ours": at["mean_of_both"]}, None)
    assert [one.stem for one in listing.files] == ["c"]
    assert sorted(line.removeprefix(f"{tmp_path}/") for line in listing.problems) == [
        "mean_of_both/a.png: no sources of this name",
        "mean_of_both/c.png: c.bmp has the same stem and is used; remove one",
        "mean_of_both/x.png: no sources of this name",
        "mean_of_both: no result for b",
        "two: no image for a",
    ]


def test_baselines_are_for_every_scene(tmp_path):
    at = folders(tmp_path)
    listing = module.pair((at["one"], at["two"]), {}, None, ["mean", "Mertens"])
    assert [(one.method, one.stem) for one in listing.files] == [
        (name, stem) for name in ("mean", "Mertens") for stem in "abc"
    ]
    assert all(one.fused is None for one in listing.files)
    assert listing.files[0].result == "mean of a"


def test_nothing_in_common_is_an_error(tmp_path):
    at = folders(tmp_path)
    write(tmp_path / "other" / "z.png", coloured(48, 64))
    with pytest.raises(ValueError, match="no file stem is in all of"):
        module.pair((at["one"], at["two"]), {"other": tmp_path / "other"}, None)
    with pytest.raises(ValueError, match="nowhere is no folder"):
        module.by_stem(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty holds no images"):
        module.by_stem(tmp_path / "empty")


def test_methods_are_named_by_their_folder_or_by_hand(tmp_path):
    found = module.methods([str(tmp_path / "runs/ours"), "b=elsewhere/ours"])
    assert list(found) == ["ours", "b"]
    with pytest.raises(ValueError, match="two folders are called 'ours'"):
        module.methods(["x/ours", "y/ours"])
