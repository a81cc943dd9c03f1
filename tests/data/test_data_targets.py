# SPDX-License-Identifier: Apache-2.0
import cv2
import numpy as np
import pytest

from ditfuse_jax.data import control, infrared, pairs, segmentation
from ditfuse_jax.image import luma


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def photo(seed: int = 0, side: int = 128) -> np.ndarray:
    """Smooth colours with texture, no clipping."""
    coarse = rng(seed).integers(40, 200, (6, 6, 3), np.uint8)
    fine = rng(seed + 1).normal(0, 12, (side, side, 3))
    return (
        (cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC) + fine).clip(0, 255).astype(np.uint8)
    )


def sharpness(image: np.ndarray) -> np.ndarray:
    return cv2.GaussianBlur(np.abs(cv2.Laplacian(luma(image), cv2.CV_32F)), (0, 0), 4)


def test_rgb_target_is_the_mean_of_both():
    visible, infrared = photo(1), photo(2)
    mean = pairs.mean_target(visible, infrared, kind="rgb")
    assert np.abs(mean - (visible / 2 + infrared / 2)).max() <= 0.5


def test_luma_target_has_the_mean_luminance_and_the_colour_of_the_visible_image():
    visible, infrared = photo(1), photo(2)
    target = pairs.mean_target(visible, infrared, kind="luma")
    inside = ((target > 0) & (target < 255)).all(-1)  # colour is kept exactly unless a channel clips
    assert inside.mean() > 0.9
    expected = (luma(visible) + luma(infrared)) / 2
    assert np.abs(luma(target) - expected)[inside].max() <= 0.51  # rounding to 8 bits
    chroma = [
        cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2YCrCb)[..., 1:]
        for image in (visible, target)
    ]
    assert np.abs(chroma[0] - chroma[1])[inside].max() < 1.5 / 255


def night() -> tuple[np.ndarray, np.ndarray]:
    """A dim textured street, and the same place in infrared: flat, with one warm body."""
    visible = photo(3) // 4
    thermal = np.full_like(visible, 40)
    thermal[50:90, 50:70] = 240
    return visible, thermal


def test_detail_target_keeps_the_contrast_of_either_side():
    visible, thermal = night()
    target, mean = (infrared.target(visible, thermal, kind=kind) for kind in ("detail", "luma"))
    body, street = (slice(55, 85), slice(53, 67)), (slice(0, 40), slice(80, 128))
    warmth = [float(luma(image)[body].mean() - luma(image)[street].mean()) for image in (target, mean)]
    assert warmth[0] > 1.4 * warmth[1]  # of 200 grey levels the mean keeps a half
    texture = [sharpness(image)[street].mean() for image in (visible, target, mean)]
    assert texture[1] > 0.9 * texture[0] > 1.5 * texture[2]
    inside = ((target > 0) & (target < 255)).all(-1)
    shift = (target.astype(int) - visible)[inside]
    assert np.ptp(shift, axis=-1).max() <= 1  # the colour of the visible image, up to rounding


def test_detail_target_of_one_picture_twice_is_the_picture():
    image = photo()
    same = infrared.detail_target(image, image)
    assert np.abs(luma(same) - luma(image)).mean() < 12  # large shapes gain contrast, no more
    assert np.corrcoef(luma(same).ravel(), luma(image).ravel())[0, 1] > 0.97


def test_defocus_is_sharp_somewhere_in_each_and_everywhere_in_one():
    image = photo()
    for seed in range(5):
        pair = pairs.defocus(rng(seed), image)
        np.testing.assert_array_equal(pair.target, image)
        errors = [np.abs(side.astype(int) - image).max(-1) for side in (pair.first, pair.second)]
        assert np.minimum(*errors).max() == 0
        assert all(0.05 < (error == 0).mean() < 0.95 for error in errors)


def test_defocus_blurs_the_near_part_of_source_one_and_the_far_part_of_source_two():
    image = photo()
    near = pairs.depth(rng(4), image)
    pair = pairs.defocus(rng(4), image)
    first, second = sharpness(pair.first), sharpness(pair.second)
    assert (first > second)[near < 0.2].mean() > 0.9
    assert (second > first)[near > 0.8].mean() > 0.9


def test_defocus_radius_varies():
    image = photo()
    blurs = [sharpness(pairs.defocus(rng(seed), image).first).min() for seed in range(12)]
    assert max(blurs) > 1.5 * min(blurs)


def test_disc_is_flat_round_and_sums_to_one():
    kernel = pairs.disc(4.0)
    assert kernel.shape == (9, 9)
    assert abs(kernel.sum() - 1) < 1e-6
    np.testing.assert_array_equal(kernel, kernel.T)
    assert kernel[4, 4] == kernel[4, 7] > kernel[0, 0] == 0


def test_exposures_bracket_the_photo_and_lose_what_cameras_lose():
    image = photo()
    image[:20, :20] = 250
    for seed in range(5):
        pair = pairs.expose(rng(seed), image)
        np.testing.assert_array_equal(pair.target, image)
        over, true, under = (luma(each).mean() for each in (pair.first, image, pair.second))
        assert over > true + 15 > true - 15 > under
        assert (pair.first[:20, :20] == 255).all()
        assert (pair.second[:20, :20] < 255).mean() > 0.99


def shown_stops(pair: pairs.Fused) -> np.ndarray:
    """Stops between the two sides wherever neither clips, at gamma 2.2."""
    bright, dark = (luma(side) / 255 for side in (pair.first, pair.second))
    fair = (bright < 0.97) & (bright > 0.05) & (dark > 0.05) & (dark < 0.97)
    return pairs.CURVE_GAMMA * np.log2(bright[fair] / dark[fair])


def test_light_beyond_the_photo_widens_the_bracket():
    ramp = np.tile(np.linspace(5, 250, 256).astype(np.uint8)[None, :, None], (128, 1, 3))
    narrow = [pairs.expose(rng(seed), ramp) for seed in range(12)]
    wide = [pairs.expose(rng(seed), ramp, scene=(3.0, 3.0)) for seed in range(12)]
    for one, two in zip(narrow, wide, strict=True):
        np.testing.assert_array_equal(two.target, ramp)
        # The darkest tenth looks as before in the bright side, the lightest in the dark one.
        assert abs(luma(one.first)[:, :20].mean() - luma(two.first)[:, :20].mean()) < 6
        assert abs(luma(one.second)[:, -20:].mean() - luma(two.second)[:, -20:].mean()) < 6
        assert luma(two.first).mean() > luma(one.first).mean() + 2
        assert luma(two.second).mean() < luma(one.second).mean() - 2
    seen = [np.median(np.concatenate([shown_stops(pair) for pair in group])) for group in (narrow, wide)]
    assert seen[1] > seen[0] + 1


def test_shadow_noise_is_in_the_dark_source_only():
    grey = np.full((64, 64, 3), 30, np.uint8)
    pair = pairs.expose(rng(), grey)
    assert pair.first.std() == 0
    assert pair.second.std() > 0.3


def test_camera_curve_inverts():
    for strength in (0.0, 0.5):
        back = pairs.camera_curve(pairs._linear(strength), strength) * 255
        np.testing.assert_allclose(back, np.arange(256), atol=0.05)


def test_controls_order_luminance_and_contrast():
    image = photo()
    light = [luma(control.adjust(image, name)).mean() for name in ("light--", "light-", "light+", "light++")]
    light.insert(2, luma(image).mean())
    assert (np.diff(light) > 8).all()
    low, high = (luma(control.adjust(image, name)) for name in ("contrast-", "contrast+"))
    assert low.std() < 0.7 * luma(image).std() < luma(image).std() < 0.8 * high.std()
    assert abs(low.mean() - luma(image).mean()) < 1


@pytest.mark.parametrize("mean", [None, 0.0, 60.0, 255.0])
def test_contrast_of_a_full_ramp_rises_and_stays_inside(mean):
    ramp = np.arange(256, dtype=np.uint8)[None, :, None].repeat(3, -1)
    for name in control.CONTRAST:
        curve = control.adjust(ramp, name, mean=mean)[0, :, 0].astype(int)
        assert (np.diff(curve) >= 0).all()
    curve = control.adjust(ramp, "contrast+", mean=mean)[0, :, 0].astype(int)
    assert (curve[0], curve[-1]) == (0, 255)
    assert ((curve == 0) | (curve == 255)).mean() < 0.05  # 34 % when the distance was scaled and clipped
    if mean is None:
        assert 1.4 < (curve[132] - curve[122]) / 10 < 1.6


def test_light_constants_are_gamma_curves():
    levels = np.arange(256, dtype=np.uint8)[None, :, None].repeat(3, -1)
    np.testing.assert_array_equal(
        control.adjust(levels, "light++")[0, :, 0], np.rint(255 * np.sqrt(np.arange(256) / 255))
    )


def test_object_control_changes_the_object_alone():
    image, mask = photo(), np.zeros((128, 128), bool)
    mask[40:90, 40:90] = True
    changed = control.adjust_object(image, "light++", mask)
    np.testing.assert_array_equal(changed[:30], image[:30])
    np.testing.assert_array_equal(changed[50:80, 50:80], control.adjust(image, "light++")[50:80, 50:80])


def test_unknown_control_is_named():
    with pytest.raises(ValueError, match="light\\+\\+\\+"):
        control.adjust(photo(), "light+++")


CLASSES = ("other", "sky", "car", "person")


def test_overlay_is_blue_at_half_opacity_with_a_soft_edge():
    image, mask = np.full((128, 128, 3), 100, np.uint8), np.zeros((128, 128), bool)
    mask[:, 64:] = True
    shown = segmentation.overlay(image, mask)
    assert shown[64, 120].tolist() == [50, 50, 178]
    assert shown[64, 10].tolist() == [100, 100, 100]
    edge = shown[64, 58:70, 0].astype(int)
    assert (np.diff(edge) <= 0).all()
    assert len(set(edge.tolist())) >= 3


def test_absent_class_leaves_the_image():
    image, labels = photo(), np.ones((128, 128), np.uint8)
    mask = segmentation.class_mask(labels, CLASSES, ("car",))
    np.testing.assert_array_equal(segmentation.overlay(image, mask), image)
    assert segmentation.present(labels, CLASSES) == ("sky",)
    assert segmentation.absent(labels, CLASSES) == ("car", "person")


def test_nothing_is_called_absent_where_much_was_not_labelled():
    labels = np.ones((100, 100), np.uint8)
    labels[:10] = segmentation.IGNORE
    assert segmentation.absent(labels, CLASSES) == ()


def test_several_classes_are_one_mask():
    labels = np.array([[0, 1], [2, 3]], np.uint8)
    np.testing.assert_array_equal(
        segmentation.class_mask(labels, CLASSES, ("sky", "person")), [[False, True], [False, True]]
    )
    with pytest.raises(ValueError, match="'horse' is not one of"):
        segmentation.class_mask(labels, CLASSES, ("horse",))


def test_class_files_are_checked(tmp_path):
    file = tmp_path / "classes.txt"
    file.write_text("0 other\n1 sky\n255 ignore\n")
    assert segmentation.read_classes(file) == ("other", "sky")
    for text, message in (
        ("0 other\n2 sky\n", "in order"),
        ("sky\n", "INDEX NAME"),
        ("0 other\n1 blorp\n", "blorp"),
    ):
        file.write_text(text)
        with pytest.raises(ValueError, match=message):
            segmentation.read_classes(file)
