# SPDX-License-Identifier: Apache-2.0
"""What validation reads of folders without lists."""

import pytest

from ditfuse_jax.data import held_out, sources
from ditfuse_jax.data.config import TRAINING, VALIDATION, MixtureConfig, SourceConfig
from ditfuse_jax.data.mixture import resolve
from synthetic import demo, noise, synthetic_root, write  # noqa: F401

STEMS = [f"{number:03}" for number in range(40)]


def of(listing) -> set[str]:
    return {item.images[0].stem for item in listing.items}


def test_one_in_ten_is_held_out_by_its_name_alone():
    kept = held_out.part(STEMS, VALIDATION)
    assert len(kept) == 4
    assert sorted(kept + held_out.part(STEMS, TRAINING)) == STEMS
    assert set(held_out.part(STEMS[::-1], VALIDATION)) == set(kept)
    more = held_out.part([*STEMS, "another"], VALIDATION)
    assert len(set(kept) & set(more)) >= 3


@pytest.mark.parametrize(("count", "kept"), [(0, 0), (1, 0), (2, 1), (5, 1), (19, 2), (100, 10)])
def test_a_small_folder_keeps_one_for_either(count, kept):
    stems = [f"p{number}" for number in range(count)]
    assert len(held_out.part(stems, VALIDATION)) == kept
    assert len(held_out.part(stems, TRAINING)) == count - kept


def test_a_folder_without_lists_is_split_and_one_with_lists_is_read(root):
    for name in (TRAINING, VALIDATION):
        (root / "ivif/set" / name).unlink()
    mixture = demo(root)
    training, validation = (
        dict(zip([s.name for s in found.config.sources], map(of, found.listings), strict=True))
        for found in (mixture, resolve(mixture.config.validation(), root))
    )
    assert len(validation["ivif"]) == 1
    assert validation["ivif"] | training["ivif"] == {"v0", "v1", "v2", "v3"}
    assert not validation["ivif"] & training["ivif"]
    assert validation["control_ivif"] == validation["ivif"]  # another source of the same folder
    assert validation["m3"] == {"p11"}


def test_one_list_without_the_other_is_an_error(root):
    (root / "photos" / VALIDATION).unlink()
    config = MixtureConfig(sources=(SourceConfig(name="m3", path="photos"),))
    with pytest.raises(ValueError, match="val.txt is missing; it should list stems, one a line"):
        resolve(config.validation(), root)


def test_a_single_picture_cannot_be_held_out(tmp_path):
    write(tmp_path / "photos/a.png", noise(0, 32, 32, 3))
    assert of(sources.find("photos", "photos", tmp_path, TRAINING)) == {"a"}
    with pytest.raises(ValueError, match="photos holds no photos for val.txt"):
        sources.find("photos", "photos", tmp_path, VALIDATION)
