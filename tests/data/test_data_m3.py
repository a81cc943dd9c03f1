# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from ditfuse_jax.data import m3
from ditfuse_jax.data.config import M3Config


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def photo(height: int = 256, width: int = 256) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.stack([x % 256, y % 256, (x + y) % 256], -1).astype(np.uint8)


@pytest.mark.parametrize(("height", "width"), [(256, 256), (256, 320), (512, 384), (200, 136)])
def test_joint_blocks_are_exactly_a_quarter_and_the_others_complementary(height, width):
    for seed in range(50):
        plan = m3.plan(rng(seed), height, width, M3Config())
        count = len(plan.boxes)
        assert plan.damaged.all(0).sum() == max(1, count // 4)
        assert plan.damaged.any(0).all()


def test_joint_share_is_a_setting_and_zero_means_none():
    assert m3.plan(rng(), 256, 256, M3Config(joint_share=0.0)).damaged.all(0).sum() == 0
    plan = m3.plan(rng(), 256, 256, M3Config(joint_share=0.5, blocks=(32,)))
    assert plan.damaged.all(0).sum() == 32


def test_sides_operations_and_block_sizes_are_uniform():
    plans = [m3.plan(rng(seed), 256, 256, M3Config()) for seed in range(600)]
    operations = np.concatenate([plan.operations for plan in plans])
    shares = np.bincount(operations) / operations.size  # about 17,000 blocks: 3 sigma is 0.011
    np.testing.assert_allclose(shares, 1 / 3, atol=0.015)
    alone = np.concatenate([plan.damaged[0, ~plan.damaged.all(0)] for plan in plans])
    assert abs(alone.mean() - 0.5) < 0.015
    sizes = np.bincount([len(plan.boxes) for plan in plans])[[4, 16, 64]] / len(plans)
    np.testing.assert_allclose(sizes, 1 / 3, atol=0.07)  # 600 draws: 3 sigma is 0.058


def test_blocks_tile_the_image_and_shrink_with_it():
    boxes = m3.grid(100, 130, 32)
    cover = np.zeros((100, 130), int)
    for top, left, bottom, right in boxes:
        cover[top:bottom, left:right] += 1
    assert (cover == 1).all()
    sides = {tuple(m3.plan(rng(seed), 128, 128, M3Config()).boxes[0, 2:]) for seed in range(40)}
    assert sides == {(16, 16), (32, 32), (64, 64)}


def test_each_copy_differs_exactly_where_the_plan_says():
    image, cfg = photo(), M3Config(operations=("mask",), blocks=(64,))
    plan = m3.plan(rng(3), 256, 256, cfg)
    first, second = m3.degrade(rng(3), image, cfg)
    for (top, left, bottom, right), hit in zip(plan.boxes, plan.damaged.T, strict=True):
        place = np.s_[top:bottom, left:right]
        for copy, damaged in zip((first, second), hit, strict=True):
            assert (copy[place] != image[place]).any() == damaged
    joint = plan.boxes[np.flatnonzero(plan.damaged.all(0))[0]]
    place = np.s_[joint[0] : joint[2], joint[1] : joint[3]]
    assert (first[place] != second[place]).mean() > 0.9  # the same operation, its own noise


def test_strengths_are_those_of_the_official_script():
    grey = np.full((128, 128, 3), 128, np.uint8)
    sigmas = [m3.gaussian_noise(rng(seed), grey).std() for seed in range(200)]
    assert 9.5 < min(sigmas) < 13
    assert 32 < max(sigmas) < 35.5
    mask = m3.uniform_noise(rng(), (256, 256, 3))
    assert abs(mask.mean() - 127.5) < 1
    assert mask.min() == 0
    assert mask.max() == 255
    peppered = m3.salt_and_pepper(rng(), grey)
    changed = (peppered != 128).all(-1).mean()
    assert 0.008 < changed < 0.031
    assert set(np.unique(peppered)) == {0, 128, 255}


def test_salt_and_pepper_is_off_as_in_the_paper_and_a_switch():
    grey = np.full((64, 64, 3), 128, np.uint8)

    def values(cfg):
        made = [m3.damage(rng(seed), grey, "noise", cfg) for seed in range(40)]
        return [set(np.unique(image)) <= {0, 128, 255} for image in made]

    assert not any(values(M3Config()))
    assert 10 < sum(values(M3Config(salt_and_pepper=True))) < 30


def test_blur_does_not_look_over_the_edge_of_its_block():
    image = np.zeros((64, 64, 3), np.uint8)
    image[:, 32:] = 255
    for seed in range(30):
        assert (m3.blur(rng(seed), image[:, :32]) == 0).all()


def test_irregular_masks_lose_pixels_in_one_and_in_both():
    image = photo()
    done = m3.irregular(rng(1), image)
    only_first, only_second = done.missing[0] & ~done.missing[1], done.missing[1] & ~done.missing[0]
    both = done.missing.all(0)
    assert min(only_first.mean(), only_second.mean(), both.mean()) > 0.01
    assert (done.first[~done.missing[0]] == image[~done.missing[0]]).all()
    assert (done.second[both] != image[both]).any(-1).mean() > 0.9


def test_the_same_generator_makes_the_same_pair():
    one, two = (m3.degrade(rng(5), photo(), M3Config()) for _ in range(2))
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"operations": ("rain",)}, "rain"),
        ({"blocks": ()}, "blocks"),
        ({"joint_share": 2.0}, "joint_share 2.0"),
    ],
)
def test_wrong_settings_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        M3Config(**change)
