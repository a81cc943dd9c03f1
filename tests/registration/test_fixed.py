# SPDX-License-Identifier: Apache-2.0
import json

import numpy as np
import pytest

from ditfuse_jax.registration import fixed, geometry
from ditfuse_jax.registration.alignment import Alignment


def test_a_rig_comes_back_as_it_was(tmp_path):
    file = tmp_path / "rig.json"
    matrices = [geometry.shift(1.25, -3), geometry.turn(0.4, (48, 64))]
    fixed.save(file, [Alignment(matrix, (48, 64), "homography", 0.5, 20) for matrix in matrices])
    back = fixed.load(file)
    assert [one.size for one in back] == [(48, 64)] * 2
    for one, matrix in zip(back, matrices, strict=True):
        np.testing.assert_array_equal(one.matrix, matrix)
        assert one.sure
    fixed.check_writable(file, overwrite=False)  # one of ours may be replaced


@pytest.mark.parametrize(
    "content",
    [
        "no json",
        "[]",
        "{}",
        json.dumps({"format": fixed.FORMAT, "width": 4, "height": 4, "matrices": []}),
        json.dumps({"format": fixed.FORMAT, "width": 4, "height": 4, "matrices": [[1, 2], [3, 4]]}),
        json.dumps({"format": "other", "width": 4, "height": 4, "matrices": [np.eye(3).tolist()]}),
    ],
)
def test_other_files_are_refused_and_kept(tmp_path, content):
    file = tmp_path / "rig.json"
    file.write_text(content)
    with pytest.raises(ValueError, match=r"rig\.json"):
        fixed.load(file)
    with pytest.raises(ValueError, match="is there already and is no alignment"):
        fixed.check_writable(file, overwrite=False)
    fixed.check_writable(file, overwrite=True)
    with pytest.raises(ValueError, match="written as .json"):
        fixed.check_writable(tmp_path / "rig.txt", overwrite=True)
