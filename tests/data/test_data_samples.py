# SPDX-License-Identifier: Apache-2.0
import dataclasses
from pathlib import Path

import numpy as np
import pytest

from ditfuse_jax import places, prompt
from ditfuse_jax.data import control, infrared, instructions, pairs, prompts, samples, sources
from ditfuse_jax.data.config import IVIF_TARGETS, TASKS, Bucket, MixtureConfig, SourceConfig
from ditfuse_jax.data.loader import Tokenizer
from ditfuse_jax.data.mixture import resolve
from ditfuse_jax.image import BadFile
from ditfuse_jax.inference.fuse import DEMO
from ditfuse_jax.training.config import load
from synthetic import SMALL, TEXT, demo, families, jsonl, noise, only, synthetic_root, write  # noqa: F401


def test_a_stream_of_broken_files_is_an_error(root):
    for file in (root / "photos").glob("*.jpg"):
        file.write_bytes(b"\xff\xd8 not a photo")
    mixture = resolve(only(demo(root).config, "m3"), root)
    with pytest.raises(BadFile, match="8 files in a row cannot be read"):
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
    counted = tuple(dataclasses.replace(s, count=10 + i) for i, s in enumerate(families().sources))
    mixture = demo(root, sources=counted, order="shuffled")
    epochs, left_out = [], []
    for epoch in range(2):
        draws = [
            mixture.draw(epoch * mixture.samples_per_epoch + i) for i in range(mixture.samples_per_epoch)
        ]
        np.testing.assert_array_equal(np.bincount([d.source for d in draws]), np.arange(10, 19))
        items = np.bincount([d.item for d in draws if d.source == 0], minlength=11)
        assert sorted(items) == [0] + [1] * 10  # ten samples of eleven photos: each at most once
        left_out.append(int(items.argmin()))
        epochs.append([d.source for d in draws])
    assert epochs[0] != epochs[1]
    assert left_out == [10, 9]  # an epoch goes on with the files that the one before it did not reach


def test_the_paper_s_run_has_the_paper_s_counts(root):
    mixture = resolve(load(places.run_file(Path("ditfuse_lora"))).mixture, root)
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


@pytest.mark.parametrize("name", ["focus", "exposure"])
def test_sources_come_in_either_order(root, name):
    plain, swapped = (made(root, name, 30, swap_share=share) for share in (0.0, 1.0))
    for one, two in zip(plain, swapped, strict=True):
        np.testing.assert_array_equal(one.sources[::-1], two.sources)
        np.testing.assert_array_equal(one.target, two.target)
    mixed = made(root, name, 30, swap_share=0.5)
    same = [np.array_equal(one.sources, two.sources) for one, two in zip(plain, mixed, strict=True)]
    assert 5 < sum(same) < 25


def test_known_pairs_may_be_asked_for_as_any_fusion(root):
    texts = [sample.text for sample in made(root, "ivif", 60, generic_share=0.5)]
    generic = set(instructions.instructions("fusion", None, "train"))
    plain = [text for text in texts if "<MULTI-MODALITIES>" not in text]
    assert 15 < len(plain) < 45
    assert all(text.startswith("[FUSION]. This") for text in plain)
    assert all(text.partition(prompt.REQUIREMENTS)[2] in generic for text in plain)


def test_nonsense_asks_for_the_plain_fusion_without_tags(root):
    known = set(instructions.instructions("fusion", "multi-modalities", "train"))
    asked = made(root, "ivif", 40, nonsense_share=1.0)
    words = [sample.text.partition(prompt.REQUIREMENTS)[2] for sample in asked]
    assert all(sample.text.startswith("This is the first") for sample in asked)
    assert all(sample.text.count("<|") == 2 for sample in asked)
    assert not known & set(words)
    assert {True, False} == {word.isascii() for word in words}
    for sample in asked:
        np.testing.assert_array_equal(sample.target, pairs.mean_target(*sample.sources, kind="luma"))


def test_large_classes_are_named_more_often(root):
    labels = np.zeros((40, 40), np.uint8)
    labels[:2] = 1  # a twentieth
    classes, count = ("car", "sky"), 400
    found = {}
    for power in (0.0, 0.5):
        cfg = families(area_power=power, several_share=0.0, absent_share=0.0)
        rng = np.random.default_rng(0)
        drawn = [samples._classes_to_name(rng, labels, classes, cfg)[0] for _ in range(count)]
        found[power] = drawn.count("car") / count
    assert abs(found[0.0] - 0.5) < 0.08
    assert abs(found[0.5] - 19**0.5 / (1 + 19**0.5)) < 0.06


def test_target_of_m3_is_the_photo_and_the_sources_are_damaged(root):
    for sample in made(root, "m3"):
        same = (sample.sources == sample.target).all(-1)
        assert same.any(0).mean() > 0.5
        assert not same.all((1, 2)).any()


@pytest.mark.parametrize("kind", IVIF_TARGETS)
def test_target_of_infrared_pairs(root, kind):
    for sample in made(root, "ivif", 5, ivif_target=kind):
        np.testing.assert_array_equal(sample.target, infrared.target(*sample.sources, kind=kind))


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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"order": "random"}, "order 'random'"),
        ({"condition_dropout": 1.5}, "condition_dropout 1.5"),
        ({"exposure_stops": (2.0, 1.0)}, r"exposure_stops \(2.0, 1.0\)"),
        ({"scene_stops": (0.0, 40.0)}, r"scene_stops \(0.0, 40.0\)"),
        ({"ivif_target": "hsv"}, "ivif_target 'hsv'"),
        ({"seed": -1}, "seed -1"),
    ],
)
def test_wrong_settings_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        families(**change)
    with pytest.raises(ValueError, match="bucket 100x96 is not in multiples of 16"):
        Bucket(height=100, width=96)


def test_prompts_that_do_not_fit_are_found_before_training():
    tokenizer = Tokenizer(prompt.load_tokenizer(DEMO))
    cfg = families(max_text_tokens=70)
    prompts.check_prompts(cfg, tokenizer)  # the longest of the library has 70
    with pytest.raises(ValueError, match="has 70 text tokens, max_text_tokens is 69; raise it"):
        prompts.check_prompts(dataclasses.replace(cfg, max_text_tokens=69), tokenizer)
    short = dataclasses.replace(cfg, max_text_tokens=1, sources=(SourceConfig(name="t", path="p"),))
    with pytest.raises(ValueError, match="max_text_tokens is 1;"):
        prompts.check_prompts(short, tokenizer)


def test_validation_takes_the_test_split_of_a_dataset_and_needs_something():
    dataset = SourceConfig(name="d", path="MSRS/train", format="dataset", fuse="ivif")
    photos = SourceConfig(name="p", path="photos", names=None)
    assert [s.path for s in MixtureConfig(sources=(dataset, photos)).validation().sources] == ["MSRS/test"]
    with pytest.raises(ValueError, match="no source has held-out files"):
        MixtureConfig(sources=(photos,)).validation()


def test_real_data_makes_every_task(data_root):
    mixture = resolve(families(condition_dropout=0.0, text_dropout=0.0), data_root)
    tasks = {TASKS[samples.make(mixture, position, SMALL[0]).sample.task] for position in range(80)}
    assert tasks == set(TASKS) - {"given"}
