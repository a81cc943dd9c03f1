# SPDX-License-Identifier: Apache-2.0
import numpy as np
from pictures import coloured

from ditfuse_jax.evaluation import report, sheets


def test_residual_is_grey_where_both_agree():
    image = coloured(20, 20)
    assert (sheets.residual(image, image) == 128).all()
    darker = (image // 2).astype(np.uint8)
    np.testing.assert_array_equal(
        sheets.residual(darker, image), np.clip(128 + darker.astype(int) - image, 0, 255)
    )


def test_sheet_has_three_rows_a_scene_and_a_column_a_picture():
    image = coloured(40, 60)
    scenes = [sheets.SheetScene(name, image, image, {"ours": image}) for name in "ab"]
    width, row = 300 + sheets.GAP, sheets.CAPTION + sheets.HEIGHT + sheets.GAP
    drawn = sheets.draw(scenes)
    assert drawn.size == (3 * width, 6 * row)
    middle = np.asarray(drawn)[row + sheets.CAPTION + 20, 2 * width + 20]
    np.testing.assert_array_equal(middle, [128, 128, 128])


def test_chosen_scenes_are_spread():
    assert report.spread(list("abcdefg"), 3) == ["a", "d", "g"]
    assert report.spread(list("ab"), 9) == ["a", "b"]
