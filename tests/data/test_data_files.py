# SPDX-License-Identifier: Apache-2.0
import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import golden
from ditfuse_jax import image as images
from ditfuse_jax.data import prompts, registry, samples, sources
from ditfuse_jax.data.config import MixtureConfig, SourceConfig
from ditfuse_jax.data.mixture import resolve
from ditfuse_jax.prompt import load_tokenizer
from synthetic import SMALL, TEXT, demo, jsonl, noise, only, synthetic_root, write  # noqa: F401


def test_jsonl_errors_name_the_line(root):
    with pytest.raises(ValueError, match=r"train.jsonl:1: needs .*; input_images, output_image is missing"):
        resolve(MixtureConfig(sources=(jsonl(root, [{"instruction": "x"}]),)), root)
    row = {"instruction": "x", "input_images": ["a"] * 3, "output_image": "b"}
    with pytest.raises(ValueError, match=r"train.jsonl:1: 3 input images"):
        resolve(MixtureConfig(sources=(jsonl(root, [row]),)), root)


def test_jsonl_paths_may_start_in_a_folder_of_their_own(root):
    row = {"instruction": "<|image_1|>", "input_images": ["p00.jpg"], "output_image": "p01.jpg"}
    source = dataclasses.replace(jsonl(root, [row]), images="photos")
    (item,) = resolve(MixtureConfig(sources=(source,)), root).listings[0].items
    assert (item.images, item.target) == ((root / "photos/p00.jpg",), root / "photos/p01.jpg")
    assert len(sources.load(item).images) == 1


def test_a_long_jsonl_instruction_is_found_before_training(root):
    rows = [
        {"instruction": text, "input_images": ["photos/p00.jpg"], "output_image": "photos/p01.jpg"}
        for text in ("<|image_1|>", "<|image_1|>" + "word " * 200, *["<|image_1|>"] * 98)
    ]
    mixture = resolve(MixtureConfig(sources=(jsonl(root, rows),), max_text_tokens=100), root)
    tokenizer = load_tokenizer(golden("ckpt_tiny"))
    with pytest.raises(
        ValueError, match="train.jsonl:2: prompt .*word.* text tokens, max_text_tokens is 100"
    ):
        prompts.check_given(mixture, tokenizer)


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


@pytest.mark.parametrize("kind", ["RGBA", "LA", "palette", "16 bits", "float", "white is zero"])
def test_training_reads_a_file_as_inference_does(tmp_path, kind):
    image, file = noise(0, 40, 60, 4), tmp_path / "a.tif"
    deep = np.random.default_rng(0).integers(0, 65536, (40, 60), np.uint16)
    if kind in ("RGBA", "LA"):
        Image.fromarray(image).convert(kind).save(tmp_path / "a.png")
    elif kind == "palette":
        Image.fromarray(image[..., :3]).quantize(32).save(tmp_path / "a.png", transparency=bytes(range(32)))
    elif kind == "16 bits":
        Image.fromarray(deep).save(tmp_path / "a.png")
    else:
        values = deep / np.float32(65535) if kind == "float" else deep
        Image.fromarray(values).save(file, tiffinfo={262: 0} if kind == "white is zero" else {})
    file = file if file.exists() else tmp_path / "a.png"
    trained_on = sources.load(sources.Item((file,))).images[0]
    np.testing.assert_array_equal(trained_on, images.read(file))
    if kind == "RGBA":  # over black, and no hidden colours
        over_black = image[..., :3] * (image[..., 3:] / 255)
        assert np.abs(trained_on - over_black).max() <= 1
    elif kind != "LA" and kind != "palette":
        wanted = np.rint(deep / 257.0)
        np.testing.assert_array_equal(trained_on[..., 0], 255 - wanted if "zero" in kind else wanted)


def test_temperatures_are_no_picture(tmp_path):
    Image.fromarray(np.linspace(280, 320, 400, dtype=np.float32).reshape(20, 20)).save(tmp_path / "a.tif")
    with pytest.raises(images.BadFile, match=r"a.tif: values 280 .. 320 lie outside 0 .. 1; save it as"):
        sources.load(sources.Item((tmp_path / "a.tif",)))


def test_masks_of_one_bit_and_of_a_palette_are_indices(tmp_path):
    labels = np.zeros((20, 30), np.uint8)
    labels[5:] = 1
    write(tmp_path / "image.png", noise(0, 20, 30, 3))
    item = sources.Item((tmp_path / "image.png",), labels=tmp_path / "labels.png")
    palette = Image.fromarray(labels, "P")
    palette.putpalette([0, 0, 0, 128, 0, 0])
    for mask in (Image.fromarray(labels == 1), palette):
        mask.save(tmp_path / "labels.png")
        np.testing.assert_array_equal(sources.load(item, ("other", "person")).labels, labels)


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


def test_an_empty_variable_names_no_data(monkeypatch):
    monkeypatch.setenv("DITFUSE_DATA", "")
    assert sources.named_root().parts[-2:] == ("shared", "data")
    monkeypatch.setenv("DITFUSE_DATA", "/elsewhere")
    assert sources.named_root() == Path("/elsewhere")
    assert sources.named_root(Path("/named")) == Path("/named")
