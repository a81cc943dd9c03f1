# SPDX-License-Identifier: Apache-2.0
"""A run notes what data it began with, and names what has changed since."""

import pytest

import runs
from ditfuse_jax.data import sources
from ditfuse_jax.training.origin import check_origin, data_changes, of_listing


@pytest.fixture
def folder(tmp_path):
    return runs.write_photos(tmp_path / "data") / "photos"


def listing(folder):
    return of_listing(sources.find("photos", "photos", folder.parent))


def remove(files):
    files[0].unlink()


def rename(files):
    files[0].rename(files[0].with_name("zz" + files[0].suffix))


def lengthen(files):
    files[0].write_bytes(files[0].read_bytes() + b"0")


def replace(files):
    data = bytearray(files[0].read_bytes())
    data[-1] ^= 1
    files[0].write_bytes(data)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (remove, r"source a: \d+ items then, \d+ now"),
        (rename, "source a: files or instructions have other names"),
        (lengthen, "source a: files have other sizes"),
        (replace, "source a: files have other contents"),
    ],
)
def test_changed_data_are_named(folder, change, told):
    before = {"frozen": {}, "tokenizer": 0, "data": {"a": listing(folder)}}
    files = sorted(folder.glob("*.*"))
    change([file for file in files if file.suffix != ".txt"])
    after = before | {"data": {"a": listing(folder)}}
    with pytest.raises(ValueError, match=told) as error:
        check_origin(before, after, runs.config(), accept_changed_data=False)
    assert "--accept-changed-data" in str(error.value)
    check_origin(before, after, runs.config(), accept_changed_data=True)


def test_data_in_another_place_are_the_same(folder, tmp_path):
    before = listing(folder)
    moved = tmp_path / "elsewhere"
    folder.parent.rename(moved)
    assert data_changes({"a": before}, {"a": listing(moved / "photos")}) == []


def test_a_run_that_noted_no_data_goes_on(folder):
    found = {"frozen": {}, "tokenizer": 0, "data": {"a": listing(folder)}}
    check_origin({"frozen": {}, "tokenizer": 0}, found, runs.config(), accept_changed_data=False)
