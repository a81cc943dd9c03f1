# SPDX-License-Identifier: Apache-2.0
import dataclasses
import gc
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import golden
from PIL import Image

from ditfuse_jax import prompt
from ditfuse_jax.data import control, loader, pairs, pixels, registry, samples, sources
from ditfuse_jax.data.mixture import TASKS, Bucket, Mixture, MixtureConfig, SourceConfig, resolve

SMALL = (Bucket(height=32, width=32, weight=2.0), Bucket(height=32, width=48))
TEXT = 1024  # tokens; the small tokenizer of the tests cuts words to letters


def write(file, image) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(file)


def noise(seed: int, *shape: int) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, *shape[2:]), np.uint8)
    return cv2.resize(coarse, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR)


@pytest.fixture
def root(tmp_path):
    """A data root in the layout of ../shared/data: 12 photos, 4 infrared pairs, 4 labelled images."""
    for i in range(12):
        write(tmp_path / f"photos/p{i:02}.jpg", noise(i, 60 + i, 80, 3))
    for i in range(4):
        write(tmp_path / f"ivif/set/vis/v{i}.png", noise(20 + i, 48, 64, 3))
        write(tmp_path / f"ivif/set/ir/v{i}.png", noise(30 + i, 48, 64))
        write(tmp_path / f"seg/images/s{i}.png", noise(40 + i, 48, 64, 3))
        labels = np.zeros((48, 64), np.uint8)
        labels[:24], labels[24:, :32] = 1, 2
        write(tmp_path / f"seg/labels/s{i}.png", labels)
    (tmp_path / "seg/classes.txt").write_text("0 other\n1 sky\n2 car\n3 person\n255 ignore\n")
    for folder, stem, count in (("photos", "p{:02}", 12), ("ivif/set", "v{}", 4), ("seg", "s{}", 4)):
        stems = [stem.format(i) for i in range(count)]
        (tmp_path / folder / "train.txt").write_text("\n".join(stems[:-1]))
        (tmp_path / folder / "val.txt").write_text("\n".join(stems[-1:]))
    return tmp_path


@pytest.fixture
def tokenizer():
    return prompt.load_tokenizer(golden("ckpt_tiny"))


def demo(root, **changes) -> Mixture:
    return resolve(
        MixtureConfig.demo(**({"buckets": SMALL, "max_text_tokens": TEXT, "seed": 7} | changes)), root
    )


def only(mixture_config: MixtureConfig, name: str, **changes) -> MixtureConfig:
    chosen = tuple(source for source in mixture_config.sources if source.name == name)
    return dataclasses.replace(mixture_config, sources=chosen, **changes)


def take(mixture, tokenizer, count: int, **settings) -> list[loader.Batch]:
    with loader.make_loader(mixture, tokenizer, **({"batch_size": 4} | settings)) as stream:
        return [next(stream) for _ in range(count)]


def flat(batch: loader.Batch) -> list[np.ndarray]:
    return [*batch.prompt, *batch[1:]]


def assert_same(one: list[loader.Batch], two: list[loader.Batch]) -> None:
    assert len(one) == len(two)
    for first, second in zip(one, two, strict=True):
        for x, y in zip(flat(first), flat(second), strict=True):
            np.testing.assert_array_equal(x, y)


def test_batch_has_the_shapes_of_its_bucket(root, tokenizer):
    mixture = demo(root)
    for number, batch in enumerate(take(mixture, tokenizer, 4)):
        bucket = mixture.bucket(number)
        length = batch.prompt.token_ids.shape[1]
        assert batch.sources.shape == (4, 2, bucket.height, bucket.width, 3)
        assert batch.target.shape == (4, bucket.height, bucket.width, 3)
        assert batch.sources.dtype == batch.target.dtype == np.uint8
        assert length == samples.prefix_length(bucket, mixture.config)
        assert length % mixture.config.length_multiple == 0
        assert batch.index.tolist() == list(range(4 * number, 4 * number + 4))
        spans = batch.prompt.slots[..., 1] - batch.prompt.slots[..., 0]
        assert set(spans.ravel().tolist()) <= {0, samples.patch_count(bucket)}
        dropped = (spans == 0).all(1)
        assert (batch.sources[dropped] == 0).all()
    assert {batch.target.shape[2] for batch in take(mixture, tokenizer, 8)} == {32, 48}


def test_stream_is_the_same_for_any_number_of_workers(root, tokenizer):
    mixture = demo(root)
    alone = take(mixture, tokenizer, 6)
    for workers in (1, 4):
        assert_same(alone, take(mixture, tokenizer, 6, workers=workers))


def test_hosts_together_hold_the_batch_of_one_host(root, tokenizer):
    mixture = demo(root)
    whole = take(mixture, tokenizer, 3)
    halves = [take(mixture, tokenizer, 3, host=host, num_hosts=2) for host in (0, 1)]
    for batch, first, second in zip(whole, *halves, strict=True):
        for x, a, b in zip(flat(batch), flat(first), flat(second), strict=True):
            np.testing.assert_array_equal(x, np.concatenate([a, b]))


@pytest.mark.parametrize("order", ["weighted", "shuffled"])
def test_stream_goes_on_at_the_very_next_batch_with_other_workers(root, tokenizer, order):
    mixture = demo(root, order=order)
    whole = take(mixture, tokenizer, 20)  # over the end of an epoch of about 70 samples
    assert mixture.samples_per_epoch < 80
    with loader.make_loader(mixture, tokenizer, batch_size=4, workers=1) as stream:
        for _ in range(7):
            next(stream)
        saved = stream.position
    assert saved == 7
    assert_same(whole[7:10], take(mixture, tokenizer, 3, start_batch=saved))
    assert_same(whole[7:], take(mixture, tokenizer, 13, start_batch=saved, workers=2))


def test_loader_returns_arrays_of_its_own(root, tokenizer):
    batches = take(demo(root), tokenizer, 2, workers=1)
    gc.collect()  # shared memory of the workers is gone by now
    for array in flat(batches[0]):
        assert type(array) is np.ndarray
        assert array.flags.owndata


def test_workers_end_with_the_loader(root, tokenizer):
    stream = loader.make_loader(demo(root), tokenizer, batch_size=4, workers=2)
    next(stream)
    running = [child for child in multiprocessing.active_children() if "grain" in child.name]
    assert len(running) == 2
    start = time.monotonic()
    stream.close()
    assert time.monotonic() - start < 10
    assert not any(child.is_alive() for child in running)


PROGRAM = """
import multiprocessing, os, signal, sys
from pathlib import Path
from ditfuse_jax import prompt
from ditfuse_jax.data import loader
from ditfuse_jax.data.mixture import MixtureConfig, resolve
if __name__ == "__main__":
    mixture = resolve(MixtureConfig.smoke(max_text_tokens=1024), Path(sys.argv[1]))
    stream = loader.make_loader(mixture, prompt.load_tokenizer(sys.argv[2]), batch_size=4, workers=2)
    next(stream)
    print(*(child.pid for child in multiprocessing.active_children()), flush=True)
    if sys.argv[3] == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
"""


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # a zombie of a container without init is gone for our purpose
    stat = Path(f"/proc/{pid}/stat")
    return not (stat.is_file() and stat.read_text().rsplit(")", 1)[1].split()[0] == "Z")


@pytest.mark.parametrize("end", ["forgets to close", "killed"])
def test_workers_of_a_program_end_with_it_quickly_and_quietly(root, tmp_path, end):
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    command = [sys.executable, str(script), str(root), str(golden("ckpt_tiny")), end]
    project = str(Path(loader.__file__).parents[2])
    with (tmp_path / "errors").open("w+") as errors:
        done = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            timeout=60,
            env=os.environ | {"PYTHONPATH": project},
        )
        workers = [int(pid) for pid in done.stdout.split()]
        assert len(workers) == 2
        limit = time.monotonic() + 10
        while any(alive(pid) for pid in workers) and time.monotonic() < limit:
            time.sleep(0.1)
        assert not any(alive(pid) for pid in workers)
        errors.seek(0)
        lines = errors.read().splitlines()
    assert done.returncode == (-signal.SIGKILL if end == "killed" else 0)
    # Python's resource tracker may say that it cleaned up after a killed program.
    known = ("PyTorch was not found", "resource_tracker", "warnings.warn(")
    assert [line for line in lines if not any(word in line for word in known)] == []


def test_broken_file_is_replaced_by_the_next_attempt_with_one_warning(root, tokenizer):
    mixture = resolve(only(demo(root).config, "m3", buckets=SMALL[:1]), root)
    whole = take(mixture, tokenizer, 4)
    draws = [mixture.draw(position) for position in range(16)]
    victim = draws[5].item
    file = mixture.listings[0].items[victim].images[0]
    file.write_bytes(file.read_bytes()[:300])
    hit = [position for position in range(16) if draws[position].item == victim]
    for workers in (0, 1):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            again = take(mixture, tokenizer, 4, workers=workers)
        assert len(caught) >= len(hit)
        for position in hit:
            notes = [str(w.message) for w in caught if str(w.message).startswith(f"sample {position}:")]
            attempts = [
                mixture.listings[0].items[mixture.draw(position, a).item].images[0] for a in range(1, 8)
            ]
            replacement = next(path for path in attempts if path != file)
            assert sum(str(file) in note and str(replacement) in note for note in notes) >= 1
        for number, (before, after) in enumerate(zip(whole, again, strict=True)):
            kept = [row for row in range(4) if 4 * number + row not in hit]
            np.testing.assert_array_equal(before.sources[kept], after.sources[kept])


def test_a_stream_of_broken_files_is_an_error(root):
    for file in (root / "photos").glob("*.jpg"):
        file.write_bytes(b"\xff\xd8 not a photo")
    mixture = resolve(only(demo(root).config, "m3"), root)
    with pytest.raises(pixels.BadFile, match="8 files in a row cannot be read"):
        samples.make(mixture, 0, SMALL[0])


def test_sample_is_a_function_of_seed_epoch_index_and_attempt(root):
    mixture, other = demo(root), demo(root, seed=8)
    epoch = mixture.samples_per_epoch
    one, again = (samples.make(mixture, 11, SMALL[0]).sample for _ in range(2))
    for x, y in zip(one, again, strict=True):
        np.testing.assert_array_equal(x, y)
    firsts = {
        m.draw(p, a).rng.random()
        for m, p, a in ((mixture, 11, 0), (mixture, 11 + epoch, 0), (mixture, 11, 1), (other, 11, 0))
    }
    assert len(firsts) == 4


def test_shares_of_a_weighted_draw(root):
    mixture = demo(root)
    count = 4000
    drawn = np.bincount([mixture.draw(position).source for position in range(count)], minlength=9) / count
    np.testing.assert_allclose(drawn, mixture.shares, atol=3 * np.sqrt(0.25 / count))
    assert abs(mixture.shares.sum() - 1) < 1e-9


def test_a_concatenation_gives_every_source_its_count_in_each_epoch(root):
    counted = tuple(dataclasses.replace(s, count=10 + i) for i, s in enumerate(MixtureConfig.demo().sources))
    mixture = demo(root, sources=counted, order="shuffled")
    epochs = []
    for epoch in range(2):
        draws = [
            mixture.draw(epoch * mixture.samples_per_epoch + i) for i in range(mixture.samples_per_epoch)
        ]
        np.testing.assert_array_equal(np.bincount([d.source for d in draws]), np.arange(10, 19))
        items = np.bincount([d.item for d in draws if d.source == 0], minlength=11)
        assert items.tolist() == [1] * 10 + [0]  # ten samples of eleven photos: each at most once
        epochs.append([d.source for d in draws])
    assert epochs[0] != epochs[1]


def test_paper_preset_has_the_paper_s_counts(root):
    mixture = resolve(MixtureConfig.paper(), root)
    fusion = sum(
        int(c)
        for s, c in zip(mixture.config.sources, mixture.counts, strict=True)
        if s.task in ("ivif", "focus", "exposure")
    )
    assert mixture.samples_per_epoch == 316_392
    assert fusion == 13_692
    assert 2 * mixture.samples_per_epoch // 64 == 9_887
    assert mixture.config.condition_dropout == 0.01
    assert mixture.config.untagged_share == 0
    assert mixture.config.ivif_target == "rgb"


def made(root, name: str, count: int = 30, **changes):
    cfg = only(
        demo(root).config, name, condition_dropout=0.0, text_dropout=0.0, untagged_share=0.0, **changes
    )
    mixture = resolve(cfg, root)
    return [samples.make(mixture, position, SMALL[0]).sample for position in range(count)]


TAGS = {
    "m3": "[FUSION]. This is",
    "ivif": "[FUSION]. <MULTI-MODALITIES>. ",
    "focus": "[FUSION]. <MULTI-FOCUS>. ",
    "exposure": "[FUSION]. <MULTI-EXPOSURE>. ",
    "control_ivif": "[CONTROL]. <",
    "seg": "[SEG]. This is",
    "compound": "This is the first image",
}


@pytest.mark.parametrize("name", TAGS)
def test_prompts_carry_the_tags_of_their_task(root, name):
    for sample in made(root, name, 10):
        assert sample.text.startswith(TAGS[name])
        assert sample.text.count("<|image_") == 2


def test_untagged_share_and_dropouts(root):
    count = 600
    cfg = only(demo(root).config, "m3", condition_dropout=0.1, text_dropout=0.2, untagged_share=0.5)
    mixture = resolve(cfg, root)
    texts = [samples.make(mixture, position, SMALL[0]).sample for position in range(count)]
    dropped = [s for s in texts if s.text == prompt.DROPPED_PROMPT]
    assert all(s.num_sources == 0 and not s.sources.any() and s.target.any() for s in dropped)
    shares = [
        len(dropped),
        sum(s.text == prompt.IMAGE_ONLY_PROMPT for s in texts),
        sum(s.text.startswith("[") for s in texts),
    ]
    np.testing.assert_allclose(np.array(shares) / count, [0.1, 0.2, 0.35], atol=0.06)  # 3 sigma


def test_target_of_m3_is_the_photo_and_the_sources_are_damaged(root):
    for sample in made(root, "m3"):
        same = (sample.sources == sample.target).all(-1)
        assert same.any(0).mean() > 0.5
        assert not same.all((1, 2)).any()


@pytest.mark.parametrize("kind", pairs.TARGETS)
def test_target_of_infrared_pairs(root, kind):
    for sample in made(root, "ivif", 5, ivif_target=kind):
        np.testing.assert_array_equal(sample.target, pairs.mean_target(*sample.sources, kind=kind))


def test_target_of_control_follows_its_tag(root):
    seen = set()
    for sample in made(root, "control_ivif", 60):
        subtask = sample.text.split("<")[1].split(">")[0].lower()
        fused = pairs.mean_target(*sample.sources, kind="luma")
        np.testing.assert_array_equal(sample.target, control.adjust(fused, subtask))
        seen.add(subtask)
        assert TASKS[sample.task] == "control"
    assert seen == set(control.CONTROLS)


def test_target_of_segmentation_is_blue_where_the_class_is(root):
    overlays = [
        (sample.target[..., 2].astype(int) - sample.target[..., 0]).mean() for sample in made(root, "seg", 40)
    ]
    assert TASKS[made(root, "seg", 1)[0].task] == "seg"
    assert max(overlays) > 60


def test_sources_target_and_labels_stay_in_step(root):
    ramp = np.mgrid[:48, :64]
    image = np.stack([4 * ramp[0], 3 * ramp[1], 0 * ramp[0]], -1).astype(np.uint8)
    labels = (ramp[1] >= 32).astype(np.uint8)
    scene = sources.Scene((image, image), image, labels)
    flips = set()
    for seed in range(20):
        done = samples.cut(np.random.default_rng(seed), scene, SMALL[0], demo(root).config)
        np.testing.assert_array_equal(done.images[0], done.images[1])
        np.testing.assert_array_equal(done.images[0], done.target)
        assert (done.labels.astype(bool) == (done.target[..., 1] >= 96)).mean() > 0.95
        flips.add(done.target[0, 0, 1] > done.target[0, -1, 1])
    assert flips == {True, False}


def test_buckets_open_and_close_by_batch_number(root):
    stages = (Bucket(height=32, width=32, stop=5), Bucket(height=64, width=64, start=5))
    mixture = demo(root, buckets=stages)
    assert [mixture.bucket(number).height for number in range(8)] == [32] * 5 + [64] * 3
    with pytest.raises(ValueError, match="no bucket is open for batch 5"):
        demo(root, buckets=stages[:1]).bucket(5)


def test_validation_reads_the_other_list_without_chance(root):
    mixture = resolve(demo(root).config.validation(), root)
    assert {item.images[0].stem for listing in mixture.listings for item in listing.items} == {
        "p11",
        "v3",
        "s3",
    }
    assert mixture.config.condition_dropout == mixture.config.text_dropout == 0


def test_too_long_a_prompt_is_named(root, tokenizer):
    mixture = demo(root, max_text_tokens=10, condition_dropout=0.0)
    with pytest.raises(ValueError, match=r"prompt '.*text tokens, max_text_tokens is 10"):
        take(mixture, tokenizer, 1)


def jsonl(root, rows) -> SourceConfig:
    (root / "train.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    return SourceConfig(name="own", path="train.jsonl", format="jsonl", names=None, fuse="given")


def test_omnigen_jsonl_trains_unchanged(root, tokenizer):
    text = "<img><|image_1|></img> <img><|image_2|></img> merge them"
    rows = [
        {
            "task_type": "x",
            "instruction": text,
            "input_images": ["photos/p00.jpg", "photos/p00.jpg"],
            "output_image": "photos/p00.jpg",
        },
        {
            "instruction": "turn <img><|image_1|></img> red",
            "input_images": ["photos/p01.jpg"],
            "output_image": "photos/p02.jpg",
        },
        {"instruction": "a red square", "input_images": None, "output_image": "photos/p03.jpg"},
    ]
    cfg = MixtureConfig(
        sources=(jsonl(root, rows),),
        order="shuffled",
        buckets=SMALL[:1],
        max_text_tokens=TEXT,
        condition_dropout=0.0,
    )
    batch = take(resolve(cfg, root), tokenizer, 1, batch_size=3)[0]
    spans = batch.prompt.slots[..., 1] - batch.prompt.slots[..., 0]
    assert sorted(spans.tolist()) == [[0, 0], [4, 0], [4, 4]]
    both = int(np.flatnonzero(spans[:, 1])[0])
    np.testing.assert_array_equal(batch.sources[both, 0], batch.target[both])


def test_jsonl_errors_name_the_line(root):
    with pytest.raises(ValueError, match=r"train.jsonl:1: needs instruction"):
        resolve(MixtureConfig(sources=(jsonl(root, [{"instruction": "x"}]),)), root)
    row = {"instruction": "x", "input_images": ["a"] * 3, "output_image": "b"}
    with pytest.raises(ValueError, match=r"train.jsonl:1: 3 input images"):
        resolve(MixtureConfig(sources=(jsonl(root, [row]),)), root)


def test_data_that_contradicts_itself_is_named(root):
    with pytest.raises(ValueError, match="holds no photos"):
        resolve(MixtureConfig(sources=(SourceConfig(name="x", path="nowhere"),)), root)
    (root / "ivif/set/ir/v1.png").unlink()
    with pytest.raises(ValueError, match="ir has no file for v1"):
        demo(root)
    write(root / "ivif/set/ir/v1.png", noise(1, 40, 64))
    item = sources.find("pairs", "ivif/*", root).items[1]
    with pytest.raises(ValueError, match=r"ir.v1.png is 64x40, .*vis.v1.png is 64x48"):
        sources.load(item)


def test_labels_are_checked_against_image_and_classes(root):
    listing = sources.find("labelled", "seg", root)
    write(root / "seg/labels/s0.png", np.full((48, 64), 9, np.uint8))
    with pytest.raises(ValueError, match=r"s0.png holds class 9"):
        sources.load(listing.items[0], listing.classes)
    write(root / "seg/labels/s0.png", np.zeros((40, 64), np.uint8))
    with pytest.raises(ValueError, match=r"s0.png is 64x40, its image 64x48"):
        sources.load(listing.items[0], listing.classes)


def test_real_focus_pairs_without_a_target_do_not_train(root):
    source = SourceConfig(name="real", path="ivif/*", format="pairs", fuse="focus")
    with pytest.raises(ValueError, match="no target to train on"):
        resolve(MixtureConfig(sources=(source,)), root)


def test_given_target_of_a_pair_is_used(root):
    for i in range(4):
        write(root / f"given/over/v{i}.png", noise(i, 48, 48, 3))
        write(root / f"given/under/v{i}.png", noise(9 + i, 48, 48, 3))
        write(root / f"given/target/v{i}.png", np.full((48, 48, 3), 77, np.uint8))
    source = SourceConfig(name="real", path="given", format="pairs", fuse="exposure", names=None)
    mixture = resolve(MixtureConfig(sources=(source,), condition_dropout=0.0), root)
    assert (samples.make(mixture, 0, SMALL[0]).sample.target == 77).all()


def test_large_jpegs_are_decoded_small(tmp_path):
    write(tmp_path / "big.jpg", noise(0, 600, 800, 3))
    assert pixels.read(tmp_path / "big.jpg").shape == (600, 800, 3)
    assert pixels.read(tmp_path / "big.jpg", shortest=100).shape == (150, 200, 3)
    assert pixels.read(tmp_path / "big.jpg", shortest=301).shape == (600, 800, 3)


def test_files_are_read_whole_or_refused(tmp_path):
    image = noise(0, 60, 80, 3)
    for suffix in ("jpg", "png"):
        file = tmp_path / f"a.{suffix}"
        write(file, image)
        whole = file.read_bytes()
        file.write_bytes(whole + b"tail")
        assert np.abs(pixels.read(file).astype(int) - image).mean() < 6
        for data, message in (
            (whole[: len(whole) // 2], "[Tt]runcated"),
            (b"", "is empty"),
            (b"text", "cannot be decoded"),
        ):
            file.write_bytes(data)
            with pytest.raises(pixels.BadFile, match=f"a.{suffix} .*{message}"):
                pixels.read(file)


def test_grey_alpha_16_bit_and_exif_turn(tmp_path):
    write(tmp_path / "grey.png", noise(0, 20, 30))
    assert pixels.read(tmp_path / "grey.png").shape == (20, 30, 3)
    Image.fromarray(np.full((8, 8), 40000, np.uint16)).save(tmp_path / "deep.png")
    assert abs(int(pixels.read(tmp_path / "deep.png")[0, 0, 0]) - 156) <= 1
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(noise(0, 20, 30, 3)).save(tmp_path / "turned.jpg", exif=exif)
    assert pixels.read(tmp_path / "turned.jpg").shape == (30, 20, 3)
    assert pixels.size_of(tmp_path / "turned.jpg") == (30, 20)


def test_registry_reads_published_layouts(tmp_path):
    for name, files in {
        "MSRS": ("train/vi/1.png", "train/ir/1.png", "train/Segmentation_labels/1.png"),
        "RealMFF": ("imageA/001_A.png", "imageB/001_B.png", "Fusion/001_F.png"),
        "SICE": (*(f"Dataset_Part1/7/{i}.png" for i in range(1, 8)), "Dataset_Part1/Label/7.png"),
    }.items():
        for file in files:
            image = np.zeros((8, 8), np.uint8) if "labels" in file else noise(0, 8, 8, 3)
            write(tmp_path / name / file, image)
    msrs = sources.find("dataset", "MSRS/train", tmp_path)
    assert sources.load(msrs.items[0], msrs.classes).labels.shape == (8, 8)
    focus = sources.find("dataset", "RealMFF/train", tmp_path).items[0]
    assert [file.name for file in (*focus.images, focus.target)] == ["001_A.png", "001_B.png", "001_F.png"]
    stack = sources.find("dataset", "SICE/train", tmp_path).items[0]
    assert [file.name for file in (*stack.images, stack.target)] == [
        "5.png",
        "3.png",
        "7.png",
    ]  # +1 EV, -1 EV


def test_registry_says_what_is_absent(tmp_path):
    assert set(registry.DATASETS) == {
        "MSRS",
        "M3FD",
        "TNO",
        "RoadScene",
        "LLVIP",
        "MFIF",
        "RealMFF",
        "SICE",
        "FMB",
    }
    with pytest.raises(
        ValueError, match=r"LLVIP \(test\) is not here: .*visible.test is no folder; unpack its 3463"
    ):
        sources.find("dataset", "LLVIP/test", tmp_path)
    with pytest.raises(ValueError, match="did you mean MSRS"):
        registry.get("MSR")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"order": "random"}, "order 'random'"),
        ({"condition_dropout": 1.5}, "condition_dropout 1.5"),
        ({"ivif_target": "hsv"}, "ivif_target 'hsv'"),
        ({"seed": -1}, "seed -1"),
    ],
)
def test_wrong_settings_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        MixtureConfig.demo(**change)
    with pytest.raises(ValueError, match="bucket 100x96 is not in multiples of 16"):
        Bucket(height=100, width=96)


def test_real_data_makes_every_task(data_root):
    mixture = resolve(MixtureConfig.demo(condition_dropout=0.0, text_dropout=0.0), data_root)
    tasks = {TASKS[samples.make(mixture, position, SMALL[0]).sample.task] for position in range(80)}
    assert tasks == set(TASKS) - {"given"}
