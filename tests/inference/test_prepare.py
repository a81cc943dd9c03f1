# SPDX-License-Identifier: Apache-2.0
import re

import cv2
import numpy as np
import pytest
from PIL import Image

import thermal_file
from ditfuse_jax.inference import prepare
from ditfuse_jax.inference.preparation import Preparation
from ditfuse_jax.registration import fixed, geometry
from drawn import draw, exposed, infrared, moved, movement

AUTO = Preparation(align="auto", deghost="auto")
FOCUS, EXPOSURE, INFRARED = prepare.FOCUS, prepare.EXPOSURE, prepare.INFRARED
HELD = movement(6.0, -3.0, 0.5)


def pixels(ready):
    return [picture.pixels for picture in ready]


@pytest.mark.parametrize(
    ("kind", "pair"),
    [
        (FOCUS, (draw(), cv2.GaussianBlur(draw(), (0, 0), 1.5))),
        (EXPOSURE, (exposed(draw(), 1), exposed(draw(), -1))),
        (INFRARED, (draw(), infrared(draw()))),
        (None, (draw(), draw(1))),
    ],
)
def test_auto_leaves_registered_pairs_as_they_are(kind, pair):
    ready = prepare.prepare(pair, kind=kind, how=AUTO)
    for made, given in zip(pixels(ready), pair, strict=True):
        np.testing.assert_array_equal(made, given)
    assert "aligned" not in dict(ready.told.facts)


def test_auto_brings_brackets_over_the_first_and_says_by_how_much():
    pair = exposed(draw(), 1), exposed(moved(draw(), HELD), -1)
    ready = prepare.prepare(pair, kind=EXPOSURE, how=AUTO)
    first, second = pixels(ready)
    np.testing.assert_array_equal(first, pair[0])
    inner = np.s_[30:-30, 30:-30]
    wanted = exposed(draw(), -1)
    assert np.abs(second.astype(int) - wanted)[inner].mean() < 2
    assert np.abs(second.astype(int) - wanted).mean() < 4  # also where it shows nothing: image 1, matched
    (note,) = ready.told.notes
    assert "image 2 was 6." in note
    assert re.search(r"0\.(49|50|51) degrees off image 1 \(score 0\.9", note)
    assert dict(ready.told.facts)["aligned"].startswith("image 2: homography, 6.")


def test_auto_measures_an_infrared_pair_and_moves_nothing():
    pair = draw(), infrared(moved(draw(), HELD))
    ready = prepare.prepare(pair, kind=INFRARED, how=AUTO)
    np.testing.assert_array_equal(pixels(ready)[1], pair[1])
    assert "image 2 seems 6." in ready.told.notes[0]
    assert "--align homography brings it over" in ready.told.notes[0]
    ready = prepare.prepare(pair, kind=INFRARED, how=Preparation(align="homography"))
    away = np.abs(pixels(ready)[1].astype(int) - infrared(draw()))[30:-30, 30:-30].mean()
    assert away < 0.3 * np.abs(pair[1].astype(int) - infrared(draw())).mean()


def test_an_alignment_that_is_not_sure_is_refused_or_told():
    pair = draw(), infrared(draw(5))
    with pytest.raises(
        ValueError, match=r"image 2 cannot be aligned with image 1: score 0\.\d\d, under 0\.09"
    ):
        prepare.prepare(pair, kind=INFRARED, how=Preparation(align="translation"))
    ready = prepare.prepare(pair, kind=INFRARED, how=AUTO)
    assert "image 2 may not fit image 1: not known, score 0." in ready.told.notes[0]


def test_a_rig_is_used_again_and_must_fit(tmp_path):
    pair = draw(), infrared(moved(draw(), HELD))
    ready = prepare.prepare(pair, kind=INFRARED, how=Preparation(align="homography"))
    file = tmp_path / "rig.json"
    fixed.save(file, ready.told.alignments)
    again = prepare.prepare(pair, kind=INFRARED, how=Preparation(align=str(file)))
    np.testing.assert_array_equal(pixels(again)[1], pixels(ready)[1])
    with pytest.raises(ValueError, match="is for 320 x 240 pixels, the pictures have 300 x 240"):
        prepare.prepare([p[:, :300] for p in pair], kind=INFRARED, how=Preparation(align=str(file)))
    with pytest.raises(ValueError, match="is for 2 pictures, not 3"):
        list(prepare.prepare([draw()] * 3, kind=FOCUS, how=Preparation(align=str(file))))


def test_the_result_is_cut_to_what_all_show():
    pair = draw(), moved(draw(), movement(20.0, 10.0, 0.0))
    whole = prepare.prepare(pair, kind=FOCUS, how=Preparation(align="homography"))
    cut = prepare.prepare(pair, kind=FOCUS, how=Preparation(align="homography", crop=True))
    assert whole.size == (240, 320)
    assert cut.size == pixels(cut)[0].shape[:2] == pixels(cut)[1].shape[:2]
    assert np.abs(np.subtract(cut.size, (230, 300))).max() <= 1
    np.testing.assert_array_equal(
        prepare.prepare(pair, kind=FOCUS, how=Preparation(crop=True))[0].pixels, pair[0]
    )


def test_a_stack_is_aligned_through_its_neighbours_and_of_sixteen_bits_too():
    hands = [np.eye(3), movement(7.0, -4.0, 0.8), movement(-5.0, 6.0, -0.6)]
    shots = [
        exposed(moved(draw(), hand), stop).astype(np.uint16) * 257
        for hand, stop in zip(hands, (-2, 0, 2), strict=True)
    ]
    ready = prepare.prepare(shots, kind=EXPOSURE, how=AUTO)
    for index, stop in ((1, 0), (2, 2)):
        made = ready[index].pixels
        assert made.dtype == np.uint16
        assert np.abs(made / 257 - exposed(draw(), stop))[30:-30, 30:-30].mean() < 3


def test_what_moved_is_taken_from_one_picture():
    def ball(column):
        return cv2.circle(draw(), (column, 120), 18, (250, 40, 40), -1)

    shots = [exposed(ball(column), stop) for column, stop in ((90, -1), (150, 0), (270, 1))]
    ready = prepare.prepare(shots, kind=EXPOSURE, how=AUTO)
    assert [note.partition(":")[0] for note in ready.told.notes] == ["image 2", "image 3"]
    assert "taken from image 1" in dict(ready.told.facts)["deghosted"]
    np.testing.assert_array_equal(ready[0].pixels, shots[0])
    for picture, stop in zip(ready, (-1, 0, 1), strict=True):
        for column in (90, 150, 270):  # the ball is where the first picture has it, and nowhere else
            wanted = exposed(ball(column) if column == 90 else draw(), stop)
            around = np.s_[110:130, column - 10 : column + 10]
            assert np.abs(picture.pixels[around].astype(int) - wanted[around]).mean() < 8


def test_pictures_of_other_sizes(tmp_path):
    small = cv2.resize(draw(), (160, 120), interpolation=cv2.INTER_AREA)
    files = [tmp_path / "a.png", tmp_path / "b.png"]
    for file, picture in zip(files, (draw(), small), strict=True):
        Image.fromarray(picture).save(file)
    with pytest.raises(ValueError, match=r"a\.png 320 x 240 and .*b\.png 160 x 120; .* add --resize-second"):
        prepare.prepare(files, kind=FOCUS, how=AUTO)
    with pytest.raises(ValueError, match="image 1 320 x 240 and image 3 160 x 120"):
        prepare.prepare([draw(), draw(), small], kind=FOCUS, how=AUTO)
    ready = prepare.prepare(files, kind=INFRARED, how=Preparation(resize_second=True, align="auto"))
    assert pixels(ready)[1].shape == (240, 320, 3)
    assert not dict(ready.told.facts)
    with pytest.raises(ValueError, match="image 2 is 160 x 100, image 1 320 x 240: other proportions"):
        prepare.prepare([draw(), small[:100]], kind=INFRARED, how=Preparation(resize_second=True))


def test_thermal_counts_are_stretched_and_the_range_is_told(tmp_path):
    counts = (7250 + infrared(draw())[..., 0] * 2.2).astype(np.uint16)
    ready = prepare.prepare((draw(), counts), kind=INFRARED, how=Preparation())
    assert np.ptp(ready[1].pixels) > 0.9 * 65535
    low, high = map(float, dict(ready.told.facts)["stretched"].split())
    assert 7250 <= low < high <= 7811
    assert "image 2 holds counts " in ready.told.notes[0]
    fixed_range = Preparation(thermal_range=(7000.0, 8000.0))
    ready = prepare.prepare((draw(), counts), kind=INFRARED, how=fixed_range)
    assert dict(ready.told.facts)["stretched"] == "7000 8000"
    ready = prepare.prepare((draw(), counts), kind=FOCUS, how=Preparation())
    assert "image 2 uses 0." in ready.told.notes[0]  # not stretched, as it is no infrared picture


@pytest.mark.parametrize("kind", [None, "fusion", "light+", "seg"])
def test_counts_beside_a_picture_without_are_stretched_whatever_is_asked_for(tmp_path, kind):
    """Else raw counts would be fused as an almost black or even picture."""
    counts = (7250 + infrared(draw())[..., 0] * 2.2).astype(np.uint16)
    Image.fromarray(draw()).save(tmp_path / "a.png")
    Image.fromarray(counts).save(tmp_path / "b.tif")
    Image.fromarray((counts / np.float32(25)).astype(np.float32)).save(tmp_path / "kelvin.tif")
    for name in ("b.tif", "kelvin.tif"):
        ready = prepare.prepare((tmp_path / "a.png", tmp_path / name), kind=kind, how=Preparation())
        assert np.ptp(ready[1].pixels) > 0.9 * 65535
        assert "image 2 holds counts " in ready.told.notes[0]
    both = prepare.prepare((counts, counts), kind=kind, how=Preparation())  # two of one kind
    np.testing.assert_array_equal(both[1].pixels[..., 0], counts)


def test_counts_that_are_not_stretched_are_told_with_the_way_out(tmp_path):
    counts = (7250 + infrared(draw())[..., 0] * 2.2).astype(np.uint16)
    ready = prepare.prepare((counts, draw()), kind=INFRARED, how=Preparation())
    (note,) = ready.told.notes
    assert note.startswith("image 1 uses 0.")
    assert "counts of a thermal camera are stretched as image 2, with --task ivif" in note
    flat = (100 + draw() // 40).astype(np.uint8)
    (note,) = prepare.prepare((draw(), flat), kind=INFRARED, how=Preparation()).told.notes
    assert note.endswith("so little of it may be seen")
    Image.fromarray((counts / np.float32(25)).astype(np.float32)).save(tmp_path / "kelvin.tif")
    with pytest.raises(ValueError, match=r"kelvin.tif: values 29.* only as image 2, with --task ivif"):
        prepare.prepare((tmp_path / "kelvin.tif", draw()), kind=INFRARED, how=Preparation())


def test_one_radiometric_jpeg_is_a_pair_of_a_photograph_and_degrees(tmp_path):
    counts, file = 12000 + infrared(draw())[::2, ::2, 0].astype(np.uint16) * 9, tmp_path / "a.jpg"
    records = {1: thermal_file.counts_record(counts, "raw"), 32: thermal_file.camera_record()}
    thermal_file.write(file, records | {14: thermal_file.photo_record(draw())})
    for given in (file, str(file), [file]):
        ready = prepare.prepare(given, kind=INFRARED, how=Preparation())
        visible, thermal = pixels(ready)
        assert np.abs(visible.astype(int) - draw()).mean() < 2  # JPEG
        assert thermal.dtype == np.uint16
        assert thermal.shape == (240, 320, 3)
        assert "image 2 holds degrees 151.4" in ready.told.notes[0]
    known = np.corrcoef(thermal[..., 0].ravel(), infrared(draw())[..., 0].ravel())[0, 1]
    assert known > 0.98
    beside = prepare.prepare((draw()[::2, ::2], file), kind=INFRARED, how=Preparation())
    assert beside[1].pixels.shape == (120, 160, 3)
    with pytest.raises(ValueError, match="a.jpg is a visible and an infrared picture in one; fuse it with"):
        prepare.prepare(file, kind=FOCUS, how=Preparation())


def test_steady_frames_are_of_pairs():
    with pytest.raises(ValueError, match="steady is for frames of two pictures, not 3"):
        prepare.prepare([draw()] * 3, kind=FOCUS, how=Preparation(steady="on"))
    assert len(prepare.prepare([draw()] * 3, kind=FOCUS, how=Preparation(steady="auto"))) == 3
    bad = ("nowhere.png", draw())  # left to the error of its own row
    ready = prepare.prepare((draw(), draw()), kind=INFRARED, how=Preparation(steady="on"), before=bad)
    np.testing.assert_array_equal(ready[0].pixels, draw())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"align": "some"}, "align 'some' is not one of auto, off, translation, homography, FILE.json"),
        ({"deghost": "on"}, "deghost 'on' is not one of auto, off"),
        ({"palette": "rainbow"}, "palette 'rainbow' is not one of inferno"),
        ({"thermal_range": (5.0, 5.0)}, "thermal_range 5 5: give two numbers, the lower one first"),
    ],
)
def test_settings_are_checked(wrong, message):
    with pytest.raises(ValueError, match=message):
        Preparation(**wrong)


def test_a_palette_needs_an_infrared_picture():
    with pytest.raises(
        ValueError, match="palette inferno colours an infrared picture; it goes with --task ivif"
    ):
        prepare.prepare((draw(), draw()), kind=FOCUS, how=Preparation(palette="inferno"))


def test_the_matrix_of_a_picture_that_was_not_moved_is_one():
    ready = prepare.prepare((draw(), draw()), kind=FOCUS, how=AUTO)
    assert geometry.distance(ready.told.alignments[0].matrix, np.eye(3), (240, 320)) < 0.05
