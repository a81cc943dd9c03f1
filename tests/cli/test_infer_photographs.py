# SPDX-License-Identifier: Apache-2.0
"""The command on what cameras give: pictures that do not fit yet, thermal counts, frames, any folders."""

import json

import cv2
import numpy as np
import pytest
from PIL import Image

import thermal_file
from ditfuse_jax import image
from ditfuse_jax.cli.fuse import main
from ditfuse_jax.inference.fuse import DiTFuse
from drawn import draw, infrared, moved, movement

pytestmark = pytest.mark.usefixtures("small_blocks")

SIZE = (96, 128)
HELD = movement(4.0, -2.0, 0.5, SIZE)


@pytest.fixture(scope="module")
def run(folder):
    """Runs the command with a tiny checkpoint and few steps."""
    fast = ["--no-compile-cache", "--steps", "1", "--guidance", "1", "--image-guidance", "1"]

    def run(*flags) -> int:
        return main([*map(str, flags), *fast, "--fidelity", "1", "--checkpoint", str(folder)])

    return run


def save(file, pixels):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file)
    return file


def scene():
    return cv2.resize(draw(), SIZE[::-1], interpolation=cv2.INTER_AREA)


def counts(warmer=0):
    return (7250 + warmer + infrared(scene())[..., 0] * 2.2).astype(np.uint16)


def test_a_pair_held_by_hand_is_aligned_and_its_rig_used_for_a_folder(run, tmp_path, capsys):
    first, second = save(tmp_path / "a.png", scene()), save(tmp_path / "b.png", moved(scene(), HELD))
    rig, out = tmp_path / "rig.json", tmp_path / "out.png"
    flags = ("--task", "mff", "--align", "homography", "--save-align", rig, "--crop")
    assert run(first, second, *flags, "--out", out) == 0
    assert "note        image 2 was 4." in capsys.readouterr().out
    text = image.read_metadata(out)
    assert (text["align"], text["crop"]) == ("homography", "True")
    assert text["aligned"].startswith("image 2: homography, 4.")
    with Image.open(out) as made:
        assert made.size < SIZE[::-1]
    for stem in "12":
        save(tmp_path / f"left/{stem}.png", scene())
        save(tmp_path / f"right/{stem}.png", moved(scene(), HELD))
    save(tmp_path / "right/2.png", scene()[:80])
    folders = ("--image-dirs", tmp_path / "left", tmp_path / "right", "--task", "mff")
    assert run(*folders, "--align", rig, "--out", tmp_path / "made") == 1
    told = capsys.readouterr()
    assert "image 2 is brought over image 1 by " in told.out
    assert "frames      1, " in told.out
    assert "different sizes: " in told.err
    assert [file.name for file in (tmp_path / "made").iterdir()] == ["1.png"]


def test_rows_of_a_folder_that_cannot_be_fused_are_named_and_the_others_go_on(run, tmp_path, capsys):
    grey, other = infrared(scene()), cv2.resize(draw(9), SIZE[::-1])
    rows = {
        "1unsure": (scene(), other, moved(scene(), HELD)),
        "2mixed": (scene(), moved(scene(), HELD), grey),
        "3sizes": (scene(), scene()[:80], scene()),
        "4good": (scene(), moved(scene(), HELD), scene()),
    }
    for stem, pictures in rows.items():
        for number, picture in enumerate(pictures, 1):
            save(tmp_path / f"image{number}/{stem}.png", picture)
    save(tmp_path / "image1/5twice.png", scene())
    for number in "23":
        (tmp_path / f"image{number}/5twice.png").symlink_to(tmp_path / "image1/5twice.png")
    out = tmp_path / "out"
    flags = ("--image-dir", tmp_path, "--task", "mff", "--align", "homography", "--out", out)
    assert run(*flags, "--json") == 1
    told = capsys.readouterr()
    lines = {line["out"]: line for line in map(json.loads, told.out.splitlines())}
    reasons = {
        "1unsure": "image 2 cannot be aligned with image 1: score 0.",
        "2mixed": "image 3 is grey and image 1 coloured",
        "3sizes": "different sizes: image 1 128 x 96 and image 2 128 x 80",
        "5twice": "are one file; give each picture of the scene once",
    }
    for stem, reason in reasons.items():
        assert reason in lines[str(out / f"{stem}.png")]["error"]
        assert reason in told.err
    assert "4 of 5 pairs failed:" in told.err
    assert [file.name for file in out.iterdir()] == ["4good.png"]


def test_the_library_aligns_where_it_is_asked_to(folder):
    model = DiTFuse.load(folder)
    pair, few = (scene(), moved(scene(), HELD)), {"steps": 1, "guidance": 1.0, "image_guidance": 1.0}
    plain = model.fuse(pair, task="mff", fidelity=1.0, **few)
    assert plain.told.alignments == ()
    made = model.fuse(pair, task="mff", fidelity=1.0, align="auto", deghost="auto", **few)
    (found,) = made.told.alignments
    assert found.sure
    assert 4 < found.moved < 5
    assert made.told.notes[0].startswith("image 2 was 4.")
    assert not np.array_equal(made.image, plain.image)
    with pytest.raises(ValueError, match="fidelity 0 fits no weights; add --fidelity 1 for --palette"):
        model.fuse(pair, task="ivif", fidelity=0.0, palette="inferno")


def test_frames_share_a_range_and_equal_frames_are_equal(run, tmp_path, capsys):
    for stem, warmer in (("1", 0), ("2", 40), ("3", 0)):
        save(tmp_path / f"frames/vis/{stem}.png", scene())
        save(tmp_path / f"frames/ir/{stem}.png", counts(warmer))
    out = tmp_path / "out"
    assert run("--image-dir", tmp_path / "frames", "--task", "ivif", "--out", out) == 0
    assert "frames      3, " in capsys.readouterr().out
    texts = [image.read_metadata(out / f"{stem}.png") for stem in "123"]
    assert len({text["stretched"] for text in texts}) == 1
    assert len({text["seed"] for text in texts}) == 1
    one, warm, again = (image.read(out / f"{stem}.png") for stem in "123")
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, warm)
    assert run("--image-dir", tmp_path / "frames", "--task", "ivif", "--out", out, "--resume") == 0
    assert "finished    3 pictures are there already" in capsys.readouterr().out


def test_steady_frames_are_the_mean_with_the_frame_before_alone_or_resumed(run, tmp_path, capsys):
    """Both sources are one picture here, so that the result is it, whatever the model decides."""
    noise = np.random.default_rng(0)
    frames = [np.clip(scene() + noise.integers(-3, 4, scene().shape), 0, 255).astype(np.uint8) for _ in "123"]
    for stem, frame in zip("123", frames, strict=True):
        for side in ("vis", "ir"):
            save(tmp_path / f"frames/{side}/{stem}.png", frame)
    out = tmp_path / "out"
    still = ("--task", "mff", "--align", "off", "--deghost", "off")
    flags = ("--image-dir", tmp_path / "frames", *still, "--out", out)
    assert run(*flags) == 0
    made = [image.read(out / f"{stem}.png").astype(int) for stem in "123"]
    assert np.abs(made[0] - frames[0]).max() <= 1
    for number in (1, 2):
        mean = (frames[number].astype(int) + frames[number - 1]) / 2
        assert np.abs(made[number] - mean).mean() < 0.6
    assert np.abs(made[2] - made[1]).mean() < 0.7 * np.abs(frames[2].astype(int) - frames[1]).mean()
    assert image.read_metadata(out / "2.png")["steadied"] == "by the frame before"
    assert "steadied" not in image.read_metadata(out / "1.png")
    (out / "2.png").unlink()
    assert run(*flags, "--resume") == 0
    np.testing.assert_array_equal(image.read(out / "2.png"), made[1])
    capsys.readouterr()
    assert run(tmp_path / "frames/vis/1.png", tmp_path / "frames/ir/2.png", "--steady") == 2
    assert "--steady goes with --image-dir" in capsys.readouterr().err


def test_a_thermal_pair_gets_colours_and_a_line_of_json(run, tmp_path, capsys):
    first, second = save(tmp_path / "a.png", scene()), save(tmp_path / "b.tif", counts())
    out = tmp_path / "out.png"
    flags = (first, second, "--task", "ivif", "--thermal-range", "7000", "8000", "--out", out)
    assert run(*flags, "--palette", "inferno", "--json") == 0
    line = json.loads(capsys.readouterr().out)
    assert "7000 .. 8000 are stretched" in line["notes"][0]
    text = image.read_metadata(out)
    assert (text["thermal_range"], text["palette"]) == ("7000 8000", "inferno")
    coloured = image.read(out).astype(int)
    assert run(*flags) == 0
    assert np.abs(coloured - image.read(out)).mean() > 3


def test_one_radiometric_jpeg_is_a_pair_and_so_is_a_folder_of_them(run, tmp_path, capsys):
    records = {
        1: thermal_file.counts_record(counts()[::2, ::2], "png"),
        32: thermal_file.camera_record(),
        14: thermal_file.photo_record(scene()),
        42: thermal_file.inset_record(1.25, 2, 0),
    }
    for name in ("1.jpg", "2.jpg"):
        thermal_file.write(tmp_path / "flir" / name, records)
    out, plane = tmp_path / "out.png", tmp_path / "plane.tif"
    file = tmp_path / "flir/1.jpg"
    assert run(file, "--palette", "inferno", "--temperatures", plane, "--out", out) == 0
    assert "note        image 2 holds degrees " in capsys.readouterr().out
    assert image.read(out).shape == (76, 102, 3)
    text = image.read_metadata(out)
    assert text["palette"] == "inferno"
    assert "MULTI-MODALITIES" in text["prompt"]
    degrees = image.read_stored(plane)
    assert degrees.dtype == np.float32
    np.testing.assert_array_equal(degrees, image.read_stored(file))
    assert (degrees.shape, image.read_metadata(plane)["seed"]) == ((48, 64), "0")
    save(tmp_path / "flir/3.png", scene())
    flags = ("--image-dir", tmp_path / "flir", "--task", "ivif", "--out", tmp_path / "made")
    assert run(*flags, "--temperatures", tmp_path / "planes") == 1
    assert "3.png is no radiometric JPEG as others here are" in capsys.readouterr().err
    assert sorted(each.name for each in (tmp_path / "made").iterdir()) == ["1.jpg", "2.jpg"]
    assert sorted(each.name for each in (tmp_path / "planes").iterdir()) == ["1.tif", "2.tif"]
    assert len({image.read_metadata(each)["stretched"] for each in (tmp_path / "made").iterdir()}) == 1


def test_temperatures_are_written_as_they_are_stored_and_over_no_file_of_the_user(run, tmp_path, capsys):
    first, second = save(tmp_path / "a.png", scene()), save(tmp_path / "b.tif", counts())
    plane = tmp_path / "plane.tif"
    flags = (first, second, "--task", "ivif", "--out", tmp_path / "out.png", "--temperatures")
    assert run(*flags, plane) == 0
    stored = image.read_stored(plane)
    assert stored.dtype == np.uint16
    np.testing.assert_array_equal(stored, counts())
    capsys.readouterr()
    save(plane, counts())
    for name, message in {
        "plane.tif": "was not written by ditfuse-jax",
        "b.tif": "is the input",
        "plane.png": "temperatures are written as .tif",
        "out.png": "would be written twice",
    }.items():
        assert run(*flags, tmp_path / name) == 2
        assert message in capsys.readouterr().err
    flat = save(tmp_path / "flat.png", scene())
    assert run(first, flat, "--task", "ivif", "--out", tmp_path / "o.png", "--temperatures", "p.tif") == 2
    assert "flat.png holds no temperatures: it is no grey picture of more than 8" in capsys.readouterr().err


def test_pictures_of_other_sizes_are_brought_to_the_first(run, tmp_path):
    first = save(tmp_path / "a.png", scene())
    second = save(tmp_path / "b.png", cv2.resize(infrared(scene()), (64, 48)))
    assert run(first, second, "--task", "ivif", "--resize-second", "--out", tmp_path / "out.png") == 0
    assert image.read(tmp_path / "out.png").shape == (*SIZE, 3)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ("flir.jpg", "--task", "mff"),
            "is a visible and an infrared picture in one; fuse it with --task ivif",
        ),
        (("bare.jpg",), "bare.jpg holds no photograph; give one as image 1 and this file as image 2"),
        (("a.png", "a.png"), "a.png is given twice"),
        (("a.png",), "a.png alone is not enough to fuse; give two images or more"),
        (("a.png", "link.png"), "link.png and a.png are one file; give each picture of the scene once"),
        (
            ("a.png", "other.png", "--task", "mff", "--align", "homography"),
            "cannot be aligned with image 1: score",
        ),
        (("a.png", "b.png", "--align", "none.json"), "none.json cannot be read"),
        (("a.png", "b.png", "--align", "rig"), "align 'rig' is not one of"),
        (("a.png", "b.png", "--save-align", "rig.txt"), "rig.txt: an alignment is written as .json"),
        (("a.png", "b.png", "--align", "off", "--save-align", "rig.json"), "--save-align measures one scene"),
        (("a.png", "b.png", "--palette", "inferno", "--task", "mff"), "it goes with --task ivif"),
        (("a.png", "b.png", "--thermal-range", "5", "2"), "thermal_range 5 2: give two numbers"),
        (("--image-dirs", "."), "one folder is no pair"),
        (("--image-dirs", ".", ".", "--image-dir", "."), "give one of the two"),
        (("a.png", "b.png", "grey.png", "--task", "mff"), "image 3 is grey and image 1 coloured"),
    ],
)
def test_bad_input_is_one_sentence(run, tmp_path, monkeypatch, capsys, flags, message):
    monkeypatch.chdir(tmp_path)
    for name, picture in {
        "a.png": scene(),
        "b.png": moved(scene(), HELD),
        "other.png": cv2.resize(draw(9), SIZE[::-1]),
        "grey.png": infrared(scene()),
    }.items():
        save(tmp_path / name, picture)
    (tmp_path / "link.png").symlink_to("a.png")
    thermal = {1: thermal_file.counts_record(counts(), "raw"), 32: thermal_file.camera_record()}
    thermal_file.write(tmp_path / "bare.jpg", thermal)
    thermal_file.write(tmp_path / "flir.jpg", thermal | {14: thermal_file.photo_record(scene())})
    assert run(*flags, "--out", "out.png") == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out.png").exists()
