# SPDX-License-Identifier: Apache-2.0
"""Depth, format and metadata of what infer.py writes."""

import sys

import numpy as np
import pytest
from PIL import Image

from ditfuse_jax import image as im
from ditfuse_jax.cli import fuse as infer
from ditfuse_jax.cli.fuse_jobs import jobs_of

pytestmark = pytest.mark.usefixtures("small_blocks")

FAST = ["--no-compile-cache", "--steps", "1", "--guidance", "1", "--image-guidance", "1", "--fidelity", "1"]


@pytest.fixture(scope="module")
def flags(folder):
    return [*FAST, "--checkpoint", str(folder), "--task", "mff"]


def deep(seed=0):
    return np.random.default_rng(seed).integers(0, 65536, (32, 48, 3)).astype(np.uint16)


def camera():
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "Canon", 8
    return exif


def test_16_bits_in_give_16_bits_out(flags, tmp_path, capsys):
    pair = [str(tmp_path / "a.tif"), str(tmp_path / "b.tif")]
    for file in pair:
        im.write(file, deep(), metadata={})
    for name, bits in (("out.png", 16), ("out.tif", 16), ("out.jpg", 8)):
        assert infer.main([*pair, *flags, "--out", str(tmp_path / name)]) == 0
        assert f"48 x 32, 16 bits in, {bits} bits out" in capsys.readouterr().out
        found = im.read_picture(tmp_path / name)
        assert found.bits == bits
        if bits == 16:
            assert np.abs(found.pixels.astype(int) - deep()).max() <= 1
    assert infer.main([*pair, *flags, "--bits", "8", "--out", str(tmp_path / "less.png")]) == 0
    assert im.read_depth(tmp_path / "less.png") == 8
    assert im.read_metadata(tmp_path / "less.png")["bits"] == "8"
    assert infer.main([*pair, *flags, "--bits", "16", "--out", str(tmp_path / "more.jpg")]) == 2
    assert "more.jpg: this format has 8 bits; choose .png or .tif" in capsys.readouterr().err


def test_a_folder_of_jpegs_gives_jpegs_unless_asked_otherwise(flags, tmp_path, capsys):
    for side in ("image1", "image2"):
        (tmp_path / side).mkdir()
        photo = Image.fromarray(im.shallow(deep()))
        photo.save(tmp_path / side / "a.JPG", exif=camera())
        photo.save(tmp_path / side / "b.png")
    folder = ["--image-dir", str(tmp_path), *flags, "--out"]
    assert infer.main([*folder, str(tmp_path / "out")]) == 0
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["a.jpg", "b.png"]
    with Image.open(tmp_path / "out" / "a.jpg") as made:
        assert made.size == (32, 48)  # upright
        assert made.getexif()[0x010F] == "Canon"
        assert made.getexif()[0x0112] == 1
    before = (tmp_path / "out" / "a.jpg").stat().st_mtime_ns
    assert infer.main([*folder, str(tmp_path / "out"), "--resume"]) == 0
    assert (tmp_path / "out" / "a.jpg").stat().st_mtime_ns == before
    assert infer.main([*folder, str(tmp_path / "out"), "--resume", "--bits", "16"]) == 0
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["a.jpg", "a.png", "b.png"]
    assert im.read_depth(tmp_path / "out" / "b.png") == 16
    assert infer.main([*folder, str(tmp_path / "tif"), "--format", "tif"]) == 0
    assert sorted(file.name for file in (tmp_path / "tif").iterdir()) == ["a.tif", "b.tif"]
    capsys.readouterr()
    pair = [str(tmp_path / side / "a.JPG") for side in ("image1", "image2")]
    assert infer.main([*pair, *flags, "--format", "png"]) == 2
    assert "--format goes with --image-dir" in capsys.readouterr().err


def test_files_that_are_not_read_are_named_and_the_others_go_on(flags, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.setitem(sys.modules, "rawpy", None)
    for side in ("over", "under"):
        im.write(tmp_path / side / "good.png", im.shallow(deep()), metadata={})
        for name in ("._good.png", "notes.txt"):
            (tmp_path / side / name).write_bytes(b"no picture")
        for name in ("phone.HEIC", "camera.NEF", "web.avif"):
            (tmp_path / side / name).write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
        frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue")]
        frames[0].save(tmp_path / side / "film.png", save_all=True, append_images=frames[1:])
    folder = ["--image-dir", str(tmp_path), *flags, "--out", str(tmp_path / "out")]
    assert infer.main(folder) == 1
    told = capsys.readouterr().err
    assert "4 of 5 pairs failed:" in told
    for words in (
        "phone.HEIC: .HEIC files need pillow_heif; pip install 'ditfuse-jax[raw]'",
        "camera.NEF: .NEF files need rawpy; pip install",
        "web.avif: ",
        "film.png: holds several frames or pages",
    ):
        assert words in told
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["good.png"]


def test_parts_of_a_folder_are_the_same_on_every_machine_and_together_all(tmp_path, capsys):
    for side in ("image1", "image2"):
        (tmp_path / side).mkdir()
        for stem in "dacbe":
            im.write(tmp_path / side / f"{stem}.png", deep(), metadata={})
    (tmp_path / "image1" / "f.png").touch()  # without a partner: told by one part
    folder = ["--image-dir", str(tmp_path), "--task", "mff"]

    def part(shard):
        jobs, failed = jobs_of(infer.parse([*folder, "--shard", shard], "infer.py"))
        return [job.out.stem for job in jobs], [failure.out.stem for failure in failed]

    assert [part(shard)[0] for shard in ("1/3", "2/3", "3/3")] == [["a", "d"], ["b", "e"], ["c"]]
    assert [part(shard)[1] for shard in ("1/3", "2/3", "3/3")] == [["f"], [], []]
    with pytest.raises(SystemExit):
        infer.parse([*folder, "--shard", "3/2"], "infer.py")
    assert "'3/2' is no part of a whole; write I/N with I from 1 to N" in capsys.readouterr().err
    assert infer.main(["--shard", "1/2"]) == 2
    assert "--shard goes with --image-dir" in capsys.readouterr().err
