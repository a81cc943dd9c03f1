# SPDX-License-Identifier: Apache-2.0
"""What a decoder says of a damaged file is one short line."""

import pytest

from ditfuse_jax.image.faults import MOST_SAID, BadFile, damage_named


def test_many_lines_of_a_decoder_become_one_short_one():
    with (
        pytest.raises(BadFile, match=r"^a.tif: truncated or damaged \(row 0 is bad row 1 ") as raised,
        damage_named("a.tif"),
    ):
        raise RuntimeError("\n".join(f"row {number} is bad" for number in range(900)))
    assert len(str(raised.value)) < MOST_SAID + 100
