# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest
from PIL import Image

from conftest import golden
from ditfuse_jax.data.__main__ import main
from synthetic import synthetic_root  # noqa: F401

TESTS = Path(__file__).parents[1]
CONFIG = f"""
import dataclasses, sys
sys.path.insert(0, {str(TESTS)!r})
from ditfuse_jax.data.config import Bucket
from synthetic import families
config = families(buckets=(Bucket(height=64, width=64),), max_text_tokens=1024)
"""


@pytest.fixture
def run(root, tmp_path):
    (tmp_path / "small.py").write_text(CONFIG)

    def call(command: str, *options: str, config: str = str(tmp_path / "small.py")) -> int:
        return main([command, config, "--data", str(root), *options])

    return call


def test_check_counts_sources_and_tasks(run, capsys):
    assert run("check", "--tokenizer", str(golden("ckpt_tiny"))) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["m3", "m3", "11", "24.0%", "80x60", "to", "80x70"]
    assert any(line.startswith("longest prompt: ") for line in lines)
    assert lines[-1] == "no bad files"


def test_check_reports_every_bad_file_with_its_reason(run, root, capsys):
    (root / "photos/p03.jpg").write_bytes(b"")
    (root / "ivif/set/ir/v0.png").write_bytes(b"text")
    Image.new("L", (10, 10)).save(root / "seg/labels/s1.png")
    assert run("check") == 1
    out = capsys.readouterr().out
    for part in (
        "p03.jpg: not an image that can be read",
        "v0.png: not an image that can be read",
        "s1.png is 10x10, its image 64x48",
        "3 bad files",
    ):
        assert part in out


def test_show_writes_a_sheet_of_every_source(run, tmp_path):
    assert run("show", "--out", str(tmp_path / "sheet.png"), "--rows", "1", "--side", "48") == 0
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.height == 9 * (48 + 6)
        assert len(sheet.getcolors(maxcolors=2**24)) > 1000
    assert not list(tmp_path.glob(".*"))


def test_show_replaces_a_sheet_but_no_photograph(run, tmp_path):
    show = ("show", "--out", str(tmp_path / "sheet.png"), "--rows", "1", "--side", "48")
    assert run(*show) == run(*show) == 0
    Image.new("L", (20, 20)).save(tmp_path / "sheet.png")
    photo = (tmp_path / "sheet.png").read_bytes()
    with pytest.raises(ValueError, match="sheet.png is there already and was not written by ditfuse-jax"):
        run(*show)
    assert (tmp_path / "sheet.png").read_bytes() == photo
    assert run(*show, "--overwrite") == 0


def test_show_leaves_out_sources_of_weight_zero_and_makes_its_folder(run, tmp_path):
    (tmp_path / "zero.py").write_text(
        CONFIG + "first, *rest = config.sources\n"
        "rest = [dataclasses.replace(source, weight=0.0) for source in rest]\n"
        "config = dataclasses.replace(config, sources=(first, *rest))\n"
    )
    config = {"config": str(tmp_path / "zero.py")}
    assert run("show", "--out", str(tmp_path / "sheet.png"), "--rows", "1", "--side", "48", **config) == 0
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.height == 48 + 6
    out = ("--out", str(tmp_path / "new" / "sheet.png"), "--rows", "1", "--side", "48")
    assert run("show", *out, **config) == 0
    assert (tmp_path / "new" / "sheet.png").is_file()


def test_bench_prints_stages_and_rate(run, capsys):
    assert run("bench", "--source", "m3", "--samples", "8", "--tokenizer", str(golden("ckpt_tiny"))) == 0
    out = capsys.readouterr().out
    stages = [line.split()[0] for line in out.splitlines()[:6]]
    assert stages == [
        "read",
        "cut",
        "build",
        "tokens",
        "collate",
        "all",
    ]
    assert "samples/s on one core" in out


def test_wrong_requests_are_named(run, tmp_path):
    with pytest.raises(ValueError, match="'smok' is no file .did you mean smoke"):
        run("check", config="smok")
    with pytest.raises(ValueError, match="source 'm4' is not in the config .did you mean m3"):
        run("show", "--source", "m4")
    (tmp_path / "empty.py").write_text("x = 1")
    with pytest.raises(ValueError, match="empty.py assigns no `config`"):
        run("check", config=str(tmp_path / "empty.py"))
