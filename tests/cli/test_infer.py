# SPDX-License-Identifier: Apache-2.0
import functools
import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import PATIENCE
from ditfuse_jax import image
from ditfuse_jax.data import segmentation
from ditfuse_jax.inference import forecast, fuse
from ditfuse_jax.inference import jobs as job
from ditfuse_jax.inference.timings import Timings
from ditfuse_jax.prompt import SOURCES

pytestmark = pytest.mark.usefixtures("small_blocks")

SCRIPT = Path(__file__).parents[2] / "infer.py"
FAST = ["--no-compile-cache", "--steps", "2", "--guidance", "1", "--image-guidance", "1"]


@pytest.fixture(scope="module")
def infer():
    from ditfuse_jax.cli import fuse

    return fuse


def picture(file, height=32, width=48, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file)
    return file


@pytest.fixture
def pair(tmp_path):
    return [
        "--image1",
        str(picture(tmp_path / "a.png")),
        "--image2",
        str(picture(tmp_path / "b.png", seed=1)),
    ]


def test_one_picture_with_its_plan_and_its_text(infer, folder, pair, tmp_path, capsys):
    out = tmp_path / "made" / "out.png"
    words = ["--task", "light+", "--object", "cone", "--seed", "5", "--verbose"]
    assert infer.main([*pair, *FAST, *words, "--checkpoint", str(folder), "--out", str(out)]) == 0
    told = capsys.readouterr().out
    for pattern in (
        r"size +48 x 32",
        r"tokens +cond \d+ \+ 7 per step",
        r"parameters +1.6 M",
        r"memory +about",
        r"sampling +steps 2, ",
    ):
        assert re.search(pattern, told)
    assert told.index("sampling") < told.index(f"written     {out}")
    with Image.open(out) as written:
        assert written.size == (48, 32)
        text = written.text
    assert text["prompt"].startswith("[CONTROL]. <LIGHT+>. This is the first image")
    assert text["prompt"].endswith("Brighten the cone slightly.")
    assert text["noises"] == "1"
    assert (text["seed"], text["steps"], text["guidance"], text["image_guidance"]) == ("5", "2", "1.0", "1.0")
    assert text["checkpoint"].startswith("tiny-")


def test_a_folder_goes_on_past_bad_pairs_and_resumes(infer, folder, tmp_path, capsys):
    pairs, out = tmp_path / "pairs", tmp_path / "out"
    for stem in ("a", "c", "d"):
        picture(pairs / "image1" / f"{stem}.png", seed=1)
        picture(pairs / "image2" / f"{stem}.jpg", 32, 64 if stem == "c" else 48, seed=2)
    picture(pairs / "image1" / "lonely.png")
    (pairs / "image1" / "b.png").write_bytes(b"no image")
    picture(pairs / "image2" / "b.png")
    (pairs / "image1" / "a.txt").write_text("a note beside its picture")
    for suffix in ("png", "jpg"):
        picture(pairs / "image1" / f"twice.{suffix}")
    picture(pairs / "image2" / "twice.png")
    flags = [*FAST, "--image-dir", str(pairs), "--out", str(out), "--checkpoint", str(folder)]
    assert infer.main(flags) == 1
    assert sorted(path.name for path in out.iterdir()) == ["a.png", "d.png"]
    told = capsys.readouterr().err
    assert "4 of 6 pairs failed" in told
    reasons = ("b.png: not an image", "different sizes", "lonely.png: no image of the same name")
    for words in (*reasons, "twice.png and "):
        assert words in told
    (out / "d.png").unlink()
    before = (out / "a.png").stat().st_mtime_ns
    assert infer.main([*flags, "--resume"]) == 1
    assert (out / "a.png").stat().st_mtime_ns == before
    assert (out / "d.png").exists()
    assert "finished    1 pictures are there already" in capsys.readouterr().out


def test_a_prompt_file_makes_a_picture_per_line(infer, folder, pair, tmp_path):
    (tmp_path / "prompts.txt").write_text("\ufeff# two\nfuse both\n\nmake it brighter\n")
    flags = [*pair, *FAST, "--checkpoint", str(folder), "--out", str(tmp_path / "out")]
    assert infer.main([*flags, "--prompt-file", str(tmp_path / "prompts.txt")]) == 0
    texts = []
    for name in ("1.png", "2.png"):
        with Image.open(tmp_path / "out" / name) as written:
            texts.append(written.text["prompt"])
    assert [text.rsplit(": ", 1)[1] for text in texts] == ["fuse both", "make it brighter"]
    assert all(text.startswith(SOURCES) for text in texts)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--image1", "a.png"], "give both --image1 and --image2"),
        (["--resume"], "--resume goes with --image-dir"),
        (["--image-dir", "nowhere"], "nowhere is no folder"),
        (["--image-dir", "x", "--image1", "a.png", "--image2", "b.png"], "leave --image1 and --image2 away"),
        (["--prompt-file", "p.txt", "--prompt", "x"], "--prompt-file stands for --prompt"),
        (["--prompt-file", "p.txt"], "p.txt: cannot be read"),
        (["--out", "x.exe"], "cannot write .exe"),
        (["--image1", "nowhere.png", "--image2", "b.png"], "nowhere.png: no such file"),
        (["--segment", ","], "--segment ',' names nothing"),
        (["--segment", "car", "--prompt", "fuse"], "name what to mark in the prompt"),
        (["--object", "cone"], "--object goes with a light or contrast task"),
        (["--checkpoint", "nowhere"], "no checkpoint folder nowhere"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(infer, folder, capsys, flags, message):
    checkpoint = [] if "--checkpoint" in flags else ["--checkpoint", str(folder)]
    assert infer.main([*flags, *checkpoint, *FAST]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert "Traceback" not in told


@pytest.mark.parametrize(
    ("size", "flags", "message"),
    [
        ((32, 48), ["--max-side", "2000"], "max_side 2000 is over 1024 pixels, the longest side that this"),
        ((15, 40), [], "a.png: 40 x 15 pixels, a side is under 16"),
        ((400, 40), [], "a.png: 40 x 400 pixels, the longer side is over 8 times the shorter; crop it"),
        ((40, 320), ["--max-side", "64"], "a side under 16; use a max_side of 128 or more"),
        ((32, 48), ["--max-side", "100000000000"], "max_side 100000000000 is not a whole number from 16 to"),
        ((32, 48), ["--steps", "100000000000"], "steps 100000000000 is not a whole number from 1 to 10,000"),
        ((32, 48), ["--noises", "100000000000"], "noises 100000000000 is not a whole number from 1 to 1,000"),
        ((32, 48), ["--guidance", "nan"], "guidance nan is not a number from -100 to 100"),
        (
            (32, 48),
            ["--prompt", "Fuse <|image_1> and <|image_2|>"],
            "'<|image_1>' is no placeholder of an image",
        ),
    ],
)
def test_sizes_out_of_bounds_are_refused_before_loading(
    infer, folder, tmp_path, monkeypatch, capsys, size, flags, message
):
    monkeypatch.setattr(fuse, "read_network", lambda *_, **__: pytest.fail("weights were read"))
    files = [str(picture(tmp_path / name, *size)) for name in ("a.png", "b.png")]
    pair = ["--image1", files[0], "--image2", files[1], "--checkpoint", str(folder)]
    assert infer.main([*pair, *FAST, *flags]) == 2
    assert message in capsys.readouterr().err


def test_the_default_checkpoint_is_the_one_that_ships(infer, folder, pair, tmp_path, monkeypatch, capsys):
    for module in (fuse, forecast):
        monkeypatch.setattr(module, "DEMO", folder)
    assert infer.main([*pair, *FAST, "--out", str(tmp_path / "out.png")]) == 0
    assert "checkpoint  tiny-" in capsys.readouterr().out
    for module in (fuse, forecast):
        monkeypatch.setattr(module, "DEMO", tmp_path)
    assert infer.main([*pair, *FAST, "--out", str(tmp_path / "out.png")]) == 2
    assert f"{tmp_path} has no config.json, so it is no checkpoint folder" in capsys.readouterr().err


@pytest.fixture
def refused(infer, folder, capsys, monkeypatch):
    """The message of a run that ends with code 2 before the model is loaded."""

    def run(*flags):
        with monkeypatch.context() as patch:
            patch.setattr(fuse.DiTFuse, "load", lambda *_, **__: pytest.fail("the model was loaded"))
            assert infer.main([*map(str, flags), "--checkpoint", str(folder), *FAST]) == 2
        told = capsys.readouterr().err
        assert told.count("\n") == 1
        return told

    return run


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]])
@pytest.mark.parametrize("which", ["a.png", "b.png"])
def test_out_is_never_an_input(refused, pair, tmp_path, which, overwrite):
    os.link(tmp_path / which, tmp_path / "hard.png")
    (tmp_path / "folder").symlink_to(tmp_path)
    before = contents(tmp_path)
    for out in (tmp_path / which, tmp_path / "folder" / which, tmp_path / "hard.png"):
        told = refused(*pair, "--out", out, *overwrite)
        assert f"{out} is the input {tmp_path / which}, which would be lost" in told
    assert contents(tmp_path) == before


def test_case_does_not_make_another_file(refused, pair, tmp_path):
    if not (tmp_path / "A.PNG").exists():
        pytest.skip("case counts on this file system")
    assert "which would be lost" in refused(*pair, "--out", tmp_path / "A.PNG")


@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]])
def test_an_output_folder_never_holds_the_inputs(refused, tmp_path, overwrite):
    pairs = tmp_path / "pairs"
    for side in ("image1", "image2"):
        picture(pairs / side / "a.png")
    (tmp_path / "link").symlink_to(pairs / "image1")
    (tmp_path / "prompts.txt").write_text("fuse both")
    before = contents(tmp_path)
    for out in (pairs / "image1", pairs / "image2", pairs, tmp_path / "link", pairs / "image2/../image1"):
        told = refused("--image-dir", pairs, "--out", out, *overwrite)
        assert f"{out} holds the images to fuse; choose another folder" in told
    two = ["--image1", pairs / "image1/a.png", "--image2", pairs / "image2/a.png"]
    for out in (pairs / "image1", pairs / "image2"):
        told = refused(*two, "--prompt-file", tmp_path / "prompts.txt", "--out", out, *overwrite)
        assert f"{out} holds the images to fuse; choose another folder" in told
    assert contents(tmp_path) == before


def test_a_file_of_the_user_is_replaced_only_with_overwrite(infer, folder, refused, pair, tmp_path):
    out = picture(tmp_path / "out.png", seed=3)
    before = out.read_bytes()
    assert "out.png is there already and was not written by ditfuse-jax" in refused(*pair, "--out", out)
    assert out.read_bytes() == before
    link = tmp_path / "link.png"
    link.symlink_to(out)
    assert "link.png is a symbolic link" in refused(*pair, "--out", link, "--overwrite")
    flags = [*pair, *FAST, "--checkpoint", str(folder), "--out", str(out)]
    assert infer.main([*flags, "--overwrite"]) == 0
    assert infer.main([*flags, "--seed", "1"]) == 0  # a result of ours needs no flag
    assert image.read_metadata(out)["seed"] == "1"


def test_an_impossible_output_is_known_before_the_model_is_loaded(refused, pair, tmp_path):
    (tmp_path / "file").write_text("mine")
    told = refused(*pair, "--out", tmp_path / "file" / "out.png")
    assert "file cannot be written to: " in told
    told = refused(*pair, "--out", tmp_path / "new" / ("融" * 84 + ".png"))
    assert "cannot be written: File name too long; choose another name" in told
    if Path("/proc/self").exists():
        assert "/proc cannot be written to: " in refused(*pair, "--out", "/proc/out.png")


def test_a_picture_too_large_for_its_format_is_not_computed(infer, folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(fuse.DiTFuse, "sample_prompts", lambda *_, **__: pytest.fail("it was computed"))
    monkeypatch.setitem(image.MAX_SIDES, "WEBP", 63)  # a real one would be 16 Mpx at the narrowest
    flags = ["--checkpoint", str(folder), *FAST, "--out", str(tmp_path / "out.webp")]
    for side in "12":
        flags += [f"--image{side}", str(picture(tmp_path / f"{side}.png", 32, 64))]
    assert infer.main(flags) == 2
    assert "out.webp: 64 x 32 pixels, a side is over 63" in capsys.readouterr().err


def test_one_foreign_file_among_the_results_stops_a_folder(refused, tmp_path):
    for side in ("image1", "image2"):
        for stem in "ab":
            picture(tmp_path / "pairs" / side / f"{stem}.png")
    picture(tmp_path / "out" / "b.png")
    before = contents(tmp_path)
    told = refused("--image-dir", tmp_path / "pairs", "--out", tmp_path / "out", "--resume")
    assert "b.png is there already and was not written by" in told
    assert contents(tmp_path) == before


def test_resume_makes_again_what_is_empty_or_of_other_settings(infer, folder, tmp_path, capsys):
    for side in ("image1", "image2"):
        for stem in "abc":
            picture(tmp_path / "pairs" / side / f"{stem}.png")
    out = tmp_path / "out"
    flags = ["--image-dir", str(tmp_path / "pairs"), "--out", str(out), "--checkpoint", str(folder), *FAST]
    assert infer.main(flags) == 0
    kept = (out / "c.png").stat().st_mtime_ns
    (out / "a.png").write_bytes(b"")
    image.write(out / "b.png", np.zeros((16, 16, 3), np.uint8), metadata={"seed": "7"})
    capsys.readouterr()
    assert infer.main([*flags, "--resume"]) == 0
    told = capsys.readouterr().out
    assert "finished    1 pictures are there already" in told
    assert "again       2 files that are no results of these settings" in told
    assert {image.read_metadata(out / f"{stem}.png")["seed"] for stem in "abc"} == {"0"}
    assert (out / "c.png").stat().st_mtime_ns == kept
    assert infer.main([*flags, "--resume", "--seed", "7"]) == 0
    assert "again       3 files" in capsys.readouterr().out
    assert {image.read_metadata(out / f"{stem}.png")["seed"] for stem in "abc"} == {"7"}


def test_an_interrupted_run_leaves_finished_pictures_only(tmp_path, monkeypatch):
    jobs = [job.Job((tmp_path / "a.png", tmp_path / "b.png"), "x", tmp_path / f"{i}.png") for i in (1, 2)]
    image.write(jobs[0].out, np.zeros((16, 16, 3), np.uint8), metadata={})
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        image.write(jobs[1].out, np.zeros((16, 16, 3), np.uint8), metadata={})
    assert image.read_metadata(jobs[0].out) == {}
    assert [path.name for path in tmp_path.iterdir()] == ["1.png"]


def test_the_second_start_compiles_nothing_and_the_terminal_is_quiet(folder, pair, tmp_path):
    command = [sys.executable, str(SCRIPT), *pair, "--checkpoint", str(folder), "--steps", "2"]
    command += ["--out", str(tmp_path / "out.png")]
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    runs = [
        subprocess.run(command, env=environment, capture_output=True, text=True, check=True, cwd=tmp_path)
        for _ in range(2)
    ]
    counts = [
        tuple(map(int, re.search(r"(\d+) compiled, (\d+) from the cache", run.stdout).groups()))
        for run in runs
    ]
    assert counts[0][0] > 3
    assert counts[0][1] == 0
    assert counts[1] == (0, sum(counts[0]))
    for run in runs:
        lines = [line for line in run.stdout.splitlines() if line]
        assert all(
            re.match(r"(checkpoint|size|memory|time|sampling|seconds|written|programs|note)  ", line)
            for line in lines
        )
        assert not re.sub(r"\r?.*\d+%\|.*", "", run.stderr).strip()


def test_maps_and_the_explained_share_are_written(infer, folder, pair, tmp_path, capsys):
    out, weights, invented = (tmp_path / name for name in ("out.png", "w.npy", "i.png"))
    flags = [*pair, *FAST, "--checkpoint", str(folder), "--out", str(out), "--fidelity", "1"]
    flags += ["--max-side", "32", "--tiles", "on", "--weights", str(weights), "--invented", str(invented)]
    assert infer.main(flags) == 0
    told = capsys.readouterr().out
    assert "size        48 x 32, in 2 tiles of 32 x 32, " in told
    assert re.search(r"explained   \d+\.\d% of the pixels by the sources", told)
    for file in (out, weights, invented):
        assert f"written     {file}" in told
    assert 0 <= float(image.read_metadata(out)["explained"]) <= 1
    assert image.read_metadata(out)["fidelity"] == "1.0"
    values = np.load(weights)
    assert (values.shape, values.dtype) == ((32, 48), np.float32)
    with Image.open(invented) as levels:
        assert (levels.size, levels.mode) == ((48, 32), "L")
    assert infer.main(flags) == 2
    assert (
        "w.npy is there already; choose another name, or replace it with --overwrite"
        in capsys.readouterr().err
    )
    assert infer.main([*flags, "--overwrite"]) == 0


def test_a_stack_is_fused_into_one_picture(infer, folder, tmp_path, capsys):
    files = [str(picture(tmp_path / f"{number}.png", 32, 32, seed=number)) for number in range(3)]
    out, flags = tmp_path / "out.png", [*FAST, "--checkpoint", str(folder), "--fidelity", "1"]
    weights = tmp_path / "w.npy"
    asked = [*files, *flags, "--task", "mff", "--out", str(out), "--weights", str(weights)]
    assert infer.main(asked) == 0
    told = capsys.readouterr().out
    assert "size        32 x 32, 2 times for 3 pictures" in told
    assert np.asarray(Image.open(out)).shape == (32, 32, 3)
    places = np.load(weights)
    assert 0 <= places.min() <= places.max() <= 1
    for number in range(1, 4):
        for stem in "ab":
            picture(tmp_path / f"scenes/image{number}/{stem}.png", 32, 32, seed=number)
    (tmp_path / "scenes" / "image3" / "b.png").unlink()
    made = tmp_path / "made"
    scenes = ["--image-dir", str(tmp_path / "scenes"), *flags, "--task", "mff", "--out", str(made)]
    assert infer.main(scenes) == 1
    assert "image1/b.png: no image of the same name in " in capsys.readouterr().err
    assert [file.name for file in made.iterdir()] == ["a.png"]
    for wrong, message in (
        ([*files, *flags, "--task", "ivif"], "takes one visible and one infrared image"),
        ([files[0], *flags], "alone is not enough to fuse"),
        ([files[0], *files, *flags], "0.png is given twice"),
        ([*files, "--image1", files[0], *flags], "or all images without flags"),
        ([*files, *FAST, "--checkpoint", str(folder), "--fidelity", "0"], "use --fidelity 1"),
    ):
        assert infer.main([*wrong, "--out", str(tmp_path / "new.png")]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "new.png").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--fidelity", "1.5"], "fidelity 1.5 is not a number from 0 to 1"),
        (["--fidelity", "nan"], "fidelity nan is not a number from 0 to 1"),
        (["--fidelity", "1", "--invented", "out.png"], "out.png would be written twice"),
        (["--fidelity", "1", "--weights", "m.png", "--invented", "./m.png"], "m.png would be written twice"),
        (["--fidelity", "1", "--weights", "a.png"], "a.png is the input"),
        (["--fidelity", "1", "--weights", "w.jpg"], "w.jpg: a map is written as .png or .npy"),
        (["--fidelity", "0", "--weights", "w.png"], "add --fidelity 1 for --weights and --invented"),
    ],
)
def test_impossible_maps_are_known_before_the_model_is_loaded(
    refused, pair, tmp_path, monkeypatch, flags, message
):
    monkeypatch.chdir(tmp_path)
    assert message in refused(*pair, "--out", "out.png", *flags)


def test_maps_go_with_one_picture(refused, tmp_path):
    told = refused("--image-dir", tmp_path, "--weights", tmp_path / "w.png")
    assert "--weights and --invented are files beside one picture" in told


def blue_on_marks(self, images, prompts, **_):
    """Stands in for the network: the first picture, with an overlay on its left half for a segmentation."""
    first, half = images[0].pixels, np.zeros((32, 48), bool)
    half[:, :24] = True
    for prompt in prompts:
        picture = segmentation.overlay(first, half) if "Segment the" in prompt else first
        made = fuse.Fused(picture, None, None, Timings(), None, None, None, images[0].origin)
        yield functools.partial(next, iter([made]))


def test_a_mask_is_the_overlay_against_the_plain_fusion(infer, folder, pair, tmp_path, monkeypatch, capsys):
    out, mask = tmp_path / "out.png", tmp_path / "mask.png"
    monkeypatch.setattr(fuse.DiTFuse, "sample_prompts", blue_on_marks)
    flags = [*pair, *FAST, "--checkpoint", str(folder), "--out", str(out)]
    assert infer.main([*flags, "--segment", "car", "--mask", str(mask), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["mask"] == str(mask)
    with Image.open(mask) as levels:
        assert levels.mode == "L"
        marked = np.asarray(levels)
    assert set(np.unique(marked)) == {0, 255}
    assert (marked[:, :22] == 255).all()
    assert not marked[:, 26:].any()
    assert "Segment the car" in image.read_metadata(mask)["prompt"]


def test_masks_of_a_folder_are_made_and_resumed(infer, folder, tmp_path, capsys):
    """With the network: the plain fusion is made too, and a lost mask is made again."""
    pairs, out, masks = (tmp_path / name for name in ("pairs", "out", "masks"))
    for side, seed in (("image1", 1), ("image2", 2)):
        for stem in "ab":
            picture(pairs / side / f"{stem}.png", seed=seed)
    flags = [*FAST, "--image-dir", str(pairs), "--out", str(out), "--checkpoint", str(folder), "--resume"]
    flags += ["--segment", "car", "--mask", str(masks)]
    assert infer.main(flags) == 0
    assert "twice: a mask needs the plain fusion too" in capsys.readouterr().out
    for stem in "ab":
        with Image.open(masks / f"{stem}.png") as levels:
            assert set(np.unique(levels)) <= {0, 255}
    (masks / "a.png").unlink()
    assert infer.main(flags) == 0
    assert "finished    1 pictures are there already" in capsys.readouterr().out
    assert (masks / "a.png").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--task", "light+"], "a mask is that of a segmentation, not of task light+; name things with"),
        (["--prompt", "mark the car"], "not of words without a task; name things with --segment"),
        ([], "a mask is that of a segmentation, not of task ivif"),
    ],
)
def test_a_mask_needs_a_segmentation(refused, tmp_path, flags, message):
    assert message in refused("--mask", tmp_path / "mask.png", *flags)


def test_ctrl_c_is_one_line(infer, folder, pair, tmp_path, monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(fuse.DiTFuse, "load", interrupted)
    flags = ["--checkpoint", str(folder), "--out", str(tmp_path / "out.png")]
    assert infer.main([*pair, *FAST, *flags]) == 130
    assert capsys.readouterr().err == "infer.py: interrupted; pictures that were finished are whole\n"


def test_programs_get_a_line_of_json_per_picture_and_no_other(infer, folder, tmp_path, capsys):
    pairs, out = tmp_path / "pairs", tmp_path / "out"
    for side, seed in (("image1", 1), ("image2", 2)):
        picture(pairs / side / "ü.png", seed=seed)
        picture(pairs / side / "bad.png", 32, 48 + 16 * seed)
    picture(pairs / "image1" / "lonely.png")
    flags = [*FAST, "--image-dir", str(pairs), "--out", str(out), "--checkpoint", str(folder), "--json"]
    assert infer.main(flags) == 1
    told = capsys.readouterr()
    lines = [json.loads(line) for line in told.out.splitlines()]
    assert {Path(line["out"]).name: line["ok"] for line in lines} == {
        "lonely.png": False,
        "bad.png": False,
        "ü.png": True,
    }
    assert "no image of the same name" in lines[0]["error"]
    assert "different sizes" in lines[1]["error"]
    assert lines[2]["out"] == str(out / "ü.png")
    assert lines[2]["seconds"] > 0
    assert infer.main([*flags[:-1], "--quiet"]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("2 of 3 pairs failed:\n")


def test_pictures_of_a_folder_are_decoded_beside_the_next_and_told_in_order(
    infer, folder, tmp_path, monkeypatch, capsys
):
    """The last stage is held up until the next picture is sampled; one that cannot be written fails alone."""
    pairs, out = tmp_path / "pairs", tmp_path / "out"
    for side, seed in (("image1", 1), ("image2", 2)):
        for stem in "abcd":
            picture(pairs / side / f"{stem}.png", seed=seed + ord(stem))
        picture(pairs / side / "bad.png", 32, 48 + 16 * seed)
    flags = [*FAST, "--image-dir", str(pairs), "--out", str(out), "--checkpoint", str(folder), "--json"]
    sampled = {stem: threading.Event() for stem in "abcd"}
    plan, write = fuse.DiTFuse.sample_prompts, image.write

    def sample_prompts(self, ready, prompts, **options):
        for stem, finish in zip(
            list("abcd")[len(order) :], plan(self, ready, prompts, **options), strict=False
        ):
            order.append(stem)
            sampled[stem].set()
            yield finish

    def slow(file, *arguments, **options):
        if file.stem in "ac":  # b is followed by the bad pair
            assert sampled[chr(ord(file.stem) + 1)].wait(PATIENCE), "the next picture waited for this file"
        if file.stem == "b":
            raise OSError("disk full")
        write(file, *arguments, **options)

    order = []
    monkeypatch.setattr(fuse.DiTFuse, "sample_prompts", sample_prompts)
    monkeypatch.setattr(job.image, "write", slow)
    assert infer.main(flags) == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [Path(line["out"]).stem for line in lines] == ["a", "b", "bad", "c", "d"]
    assert [line["ok"] for line in lines] == [True, False, False, True, True]
    assert lines[1]["error"] == "disk full"
    monkeypatch.undo()
    before = image.read(out / "a.png")
    (out / "d.png").unlink()
    assert infer.main([*flags, "--resume"]) == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(Path(line["out"]).stem, line["ok"]) for line in lines] == [
        ("b", True),
        ("bad", False),
        ("d", True),
    ]
    one = [str(pairs / side / "a.png") for side in ("image1", "image2")]
    assert infer.main([*one, *FAST, "--checkpoint", str(folder), "--out", str(tmp_path / "alone.png")]) == 0
    np.testing.assert_array_equal(image.read(tmp_path / "alone.png"), before)


def test_ctrl_c_in_a_folder_leaves_whole_pictures_that_resume_skips(
    infer, folder, tmp_path, monkeypatch, capsys
):
    pairs, out = tmp_path / "pairs", tmp_path / "out"
    for side, seed in (("image1", 1), ("image2", 2)):
        for stem in "ab":
            picture(pairs / side / f"{stem}.png", seed=seed)
    flags = [*FAST, "--image-dir", str(pairs), "--out", str(out), "--checkpoint", str(folder)]
    prepare = fuse.DiTFuse.prepare

    def interrupted(self, files, *arguments, **options):
        if files[0].stem == "b":
            raise KeyboardInterrupt
        return prepare(self, files, *arguments, **options)

    monkeypatch.setattr(fuse.DiTFuse, "prepare", interrupted)
    assert infer.main(flags) == 130
    assert [file.name for file in out.iterdir()] == ["a.png"]
    monkeypatch.undo()
    assert infer.main([*flags, "--resume"]) == 0
    assert "finished    1 pictures are there already" in capsys.readouterr().out


def test_dtype_auto_takes_the_faster_one_and_says_which(infer, folder, pair, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(fuse.speed, "faster_dtype", lambda num_in, num_out: "bfloat16")
    flags = [*pair, *FAST, "--checkpoint", str(folder), "--out", str(tmp_path / "out.png")]
    assert infer.main([*flags, "--dtype", "auto"]) == 0
    assert "numbers     bfloat16, the faster one here" in capsys.readouterr().out
