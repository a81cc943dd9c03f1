# SPDX-License-Identifier: Apache-2.0
"""Pictures of a folder on one batch axis: which ones, and that only speed and rounding depend on it."""

import dataclasses
import json

import numpy as np
import pytest

from ditfuse_jax import image
from ditfuse_jax.cli import fuse as infer
from ditfuse_jax.inference import jobs, lines, making, passes, terminal, together
from ditfuse_jax.inference.fuse import DiTFuse
from ditfuse_jax.inference.jobs import Job
from ditfuse_jax.inference.plan import describe
from ditfuse_jax.inference.preparation import Preparation
from ditfuse_jax.task import request

pytestmark = pytest.mark.usefixtures("small_blocks")

OPTIONS = {"steps": 2, "guidance": 2.0, "image_guidance": 1.6, "fidelity": 1.0}
FAST = ["--no-compile-cache", "--steps", "2", "--guidance", "1", "--image-guidance", "1", "--fidelity", "1"]
PROMPT = request(task="mff")
LEVEL = 1  # a batch and its members: latents within 1e-4, so pictures of 8 bits within a level (test_fuse.py)


@pytest.fixture(scope="module")
def model(folder):
    """On a machine where three at once pay."""
    loaded = DiTFuse.load(folder)
    tuning = dataclasses.replace(loaded.transformer.tuning, pictures=3)
    return dataclasses.replace(loaded, transformer=loaded.transformer._replace(tuning=tuning))


def draw(place, stem, size=(48, 64), bits=8, sides=("image1", "image2")):
    for number, side in enumerate(sides):
        rng = np.random.default_rng([number, *stem.encode()])
        pixels = rng.integers(0, 256, (*size, 3)).astype(np.uint8)
        made = image.deepened(pixels) if bits == 16 else pixels
        image.write(place / side / f"{stem}.png", made, metadata={}, overwrite=True)


def made_by(model, place, out, watch=lines.SILENT, **how):
    found, _ = jobs.folder_jobs([place], PROMPT, out)
    return making.run(model, found, model.settings(**OPTIONS), seed=3, watch=watch, go_on=True, **how)


@pytest.fixture
def rows(monkeypatch):
    """Of each call of the sampler, the pictures on its batch axis."""
    seen, original = [], passes.sample

    def sample(run, layout, cache, noises):
        seen.append(len(noises[0]))
        return original(run, layout, cache, noises)

    monkeypatch.setattr(passes, "sample", sample)
    return seen


def equal(one, other):
    """Whether two results are one picture, told with one text."""
    first, second = (image.read_picture(file) for file in (one, other))
    assert first.bits == second.bits
    apart = np.abs(first.pixels.astype(int) - second.pixels)
    assert apart.max() <= LEVEL * (1 if first.bits == 8 else 257), one
    texts = [image.read_metadata(file) for file in (one, other)]
    shares = [float(text.pop("explained")) for text in texts]
    assert texts[0] == texts[1]
    assert abs(shares[0] - shares[1]) <= 0.005


def test_a_folder_in_batches_is_the_folder_one_by_one(model, tmp_path, rows):
    """Sizes upright and not, padded, deep, too large for the others; a damaged file, and one that is none."""
    pairs = tmp_path / "pairs"
    for stem, size in {"a": (48, 64), "c": (64, 48), "e": (37, 53), "f": (48, 64), "h": (32, 48)}.items():
        draw(pairs, stem, size, bits=16 if stem == "c" else 8)
    draw(pairs, "b")
    draw(pairs, "i", (80, 64))  # more tokens
    whole = (pairs / "image2" / "b.png").read_bytes()
    (pairs / "image2" / "b.png").write_bytes(whole[: len(whole) // 2])
    for side in ("image1", "image2"):
        (pairs / side / "g.png").write_bytes(b"no picture")
    joint, alone = (made_by(model, pairs, tmp_path / f"out{most}", batch=most) for most in (None, 1))
    assert rows == [3, 3, 3, 1] + [1] * 6  # a b c, e f g, filled up; h; i
    assert [file.stem for file in joint.written] == [file.stem for file in alone.written] == list("acefhi")
    assert [failure.message for failure in joint.failed] == [failure.message for failure in alone.failed]
    assert [failure.out.stem for failure in joint.failed] == ["b", "g"]
    for file in joint.written:
        equal(file, tmp_path / "out1" / file.name)
    assert image.read_depth(tmp_path / "outNone" / "c.png") == 16


def test_the_last_batch_is_filled_up_and_compiles_nothing(model, tmp_path, rows):
    for stem in "abc":
        draw(tmp_path / "few", stem, (96, 96))
    for stem in "abcde":
        draw(tmp_path / "more", stem, (96, 96))
    with terminal.count_compiled() as compiled:
        made_by(model, tmp_path / "few", tmp_path / "out")
        first = sum(compiled())
        assert len(made_by(model, tmp_path / "more", tmp_path / "out").written) == 5
        assert sum(compiled()) == first > 0
    assert rows == [3, 3, 3]


def test_who_is_to_blame_for_a_failed_batch_fails_alone(model, tmp_path, monkeypatch, rows):
    for stem in "abc":
        draw(tmp_path / "pairs", stem, (32, 48) if stem == "b" else (48, 64))
    original = DiTFuse.sample_batch

    def sample_batch(self, pairs, prompts, **how):
        for finishes in original(self, pairs, prompts, **how):
            if any(pair.size == (32, 48) for pair in pairs):
                raise ValueError("the weights are finite but their result is not")
            yield finishes

    monkeypatch.setattr(DiTFuse, "sample_batch", sample_batch)
    report = made_by(model, tmp_path / "pairs", tmp_path / "out")
    assert [file.stem for file in report.written] == ["a", "c"]
    assert [failure.out.stem for failure in report.failed] == ["b"]
    assert rows == [3, 3, 3, 3]  # by one program


def test_what_cannot_share_a_batch_is_made_alone(model, tmp_path):
    draw(tmp_path, "a", sides=("image1", "image2", "image3"))
    for stem in "bd":
        draw(tmp_path, stem)
    draw(tmp_path, "c", (1030, 144))  # in tiles
    (tmp_path / "image1" / "x.png").write_bytes(b"")

    def job(stem, number=1, words=PROMPT, count=2, **more):
        files = tuple(tmp_path / f"image{side}" / f"{stem}.png" for side in range(1, count + 1))
        return Job(files, words, tmp_path / "out" / f"{stem}{number}.png", **more)

    def shared(*given, most=None):
        how = {"bits": "auto", "maps": False, "most": most}
        found = together.batches(model, given, model.settings(**OPTIONS), **how)
        return [[[one.out.stem for one in scene] for scene in batch.scenes] for batch in found]

    pair = [["b1"], ["d1"]]
    assert shared(job("b"), job("d")) == [pair]
    assert shared(job("b"), job("d"), most=1) == [[["b1"]], [["d1"]]]
    assert shared(job("x"), job("b"), job("d")) == [[["x1"]], pair]  # nothing is known of it
    for other in (job("a", count=3), job("c"), job("d", words="x"), job("d", weights=tmp_path / "w.png")):
        assert shared(job("b"), other) == [[["b1"]], [[other.out.stem]]]
    assert shared(job("b"), job("b", 2), job("d")) == [[["b1", "b2"]], [["d1"]]]
    jpeg = job("d")._replace(out=tmp_path / "out" / "d1.jpg")  # 8 bits, whatever the sources have
    assert shared(job("b"), jpeg) == [[["b1"]], [["d1"]]]


def test_a_batch_is_what_the_printed_memory_lets_fit(model, tmp_path, monkeypatch):
    draw(tmp_path, "a", (256, 256))
    chosen = model.settings(**OPTIONS)
    large = dataclasses.replace(model.transformer.tuning, pictures=8)
    model = dataclasses.replace(model, transformer=model.transformer._replace(tuning=large))
    one = Job((tmp_path / "image1" / "a.png", tmp_path / "image2" / "a.png"), PROMPT, tmp_path / "out.png")

    def plan(count):
        return model.plan(256, 256, PROMPT, maps=False, overlaps=True, batch=count, **OPTIONS)

    needs = [plan(count).memory for count in (1, 2, 4, 8)]
    assert needs == sorted(set(needs))
    for memory, count in ((None, 8), (needs[3], 8), (needs[3] - 1, 4), (needs[1], 2), (needs[0], 1), (0, 1)):
        room = memory and memory / together.ROOM
        monkeypatch.setattr(together, "device_bytes", lambda device, room=room: room)
        assert together.fitting(model, one, chosen, maps=False) == count
    assert "256 x 256, 4 pictures at a time\n" in describe(plan(4))
    assert "at a time" not in describe(plan(1))
    assert plan(4).calls == plan(1).calls  # steps of a picture


def told(capsys):
    """The lines of --json without what is measured."""
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    for line in found:
        line["out"] = line["out"].rsplit("/", 1)[-1]
        for name in ("seconds", "explained", "mask"):
            line.pop(name, None)
    return found


def test_the_command_tells_resumes_and_marks_as_without_batches(folder, tmp_path, capsys, rows):
    pairs = tmp_path / "pairs"
    for stem in "abcd":
        draw(pairs, stem)
    draw(pairs, "bad", sides=("image1",))
    draw(pairs, "bad", (32, 32), sides=("image2",))
    flags = [*FAST, "--checkpoint", str(folder), "--image-dir", str(pairs), "--segment", "car", "--json"]

    def fuse_all(batch, *more):
        out = tmp_path / f"out{batch}"
        places = ["--out", str(out), "--mask", str(out / "masks"), "--batch", batch]
        return infer.main([*flags, *places, *more])

    assert fuse_all("1") == 1
    assert rows == [1] * 8  # twice each: plain, marked
    rows.clear()
    alone = told(capsys)
    assert [line["out"] for line in alone] == ["a.png", "b.png", "bad.png", "c.png", "d.png"]
    rows.clear()
    assert fuse_all("3") == 1
    assert rows == [3] * 4
    assert told(capsys) == alone
    for stem in "abcd":
        equal(tmp_path / "out1" / f"{stem}.png", tmp_path / "out3" / f"{stem}.png")
        assert (tmp_path / "out3" / "masks" / f"{stem}.png").exists()
    rows.clear()
    (tmp_path / "out3" / "c.png").unlink()
    assert fuse_all("3", "--resume", "--shard", "1/1") == 1
    assert [line["out"] for line in told(capsys)] == ["bad.png", "c.png"]
    assert rows == [3, 3]
    with pytest.raises(SystemExit):
        infer.parse(["--batch", "0"], "infer.py")
    assert "'0' is neither auto nor from 1 to 256" in capsys.readouterr().err
    assert infer.main(["--batch", "2"]) == 2
    assert "--batch goes with --image-dir" in capsys.readouterr().err


def test_seconds_of_a_batch_are_parted(model):
    pair = np.random.default_rng(0).integers(0, 256, (2, 48, 64, 3)).astype(np.uint8)
    made = model.fuse_batch([pair, pair], [PROMPT] * 2, **OPTIONS)
    assert made[0].timings.sample == made[1].timings.sample > 0
    assert min(made[1].timings) > 0


def test_frames_in_batches_are_as_steady(model, tmp_path):
    pairs = tmp_path / "pairs"
    for stem in "abcd":
        draw(pairs, stem)
        still = image.read(pairs / "image2" / "a.png")  # the second camera sees noise alone
        noise = np.random.default_rng([*stem.encode()]).integers(0, 4, still.shape).astype(np.uint8)
        image.write(pairs / "image2" / f"{stem}.png", still // 2 + noise, metadata={}, overwrite=True)
    how = {"seed": 3, "watch": lines.SILENT, "go_on": False, "how": Preparation(steady="on")}
    for most in (1, 3):
        found, _ = jobs.folder_jobs([pairs], PROMPT, tmp_path / f"out{most}")
        making.run(model, jobs.in_sequence(found), model.settings(**OPTIONS), batch=most, **how)
    plain, _ = jobs.folder_jobs([pairs], PROMPT, tmp_path / "plain")
    making.run(model, plain, model.settings(**OPTIONS), **how | {"how": Preparation()})
    for stem in "abcd":
        equal(tmp_path / "out1" / f"{stem}.png", tmp_path / "out3" / f"{stem}.png")
    apart = image.read(tmp_path / "plain" / "d.png").astype(int) - image.read(tmp_path / "out3" / "d.png")
    assert np.abs(apart).max() > LEVEL  # so the flag does something here
