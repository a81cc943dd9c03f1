# SPDX-License-Identifier: Apache-2.0
import unicodedata
from pathlib import Path

import pytest

from ditfuse_jax import scenes

UMLAUT = "straße-für"


def touch(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"x")
    return folder


@pytest.mark.parametrize("names", [*scenes.SIDES, ("Vis", "IR")])
def test_folders_that_people_have(tmp_path, names):
    for name in (*names, "labels"):
        touch(tmp_path / name, "1.png")
    assert [side.name for side in scenes.sides(tmp_path)] == list(names)


def test_a_stack_has_more_folders(tmp_path):
    for name in ("image1", "image2", "image3", "image5"):
        touch(tmp_path / name, "1.png")
    assert [side.name for side in scenes.sides(tmp_path)] == ["image1", "image2", "image3"]


def test_other_folders_are_named(tmp_path):
    touch(tmp_path / "left", "1.png")
    with pytest.raises(
        ValueError, match="has no two folders of vis/ir, vi/ir, over/under, a/b, far/near, image1"
    ):
        scenes.sides(tmp_path)
    with pytest.raises(ValueError, match="nowhere is no folder"):
        scenes.sides(tmp_path / "nowhere")


def test_what_does_not_fit_is_one_list(tmp_path):
    first = touch(tmp_path / "A", "a.png", "._a.png", "b.png", "twice.png", "twice.jpg", "notes.txt", "c.gif")
    second = touch(tmp_path / "B", "a.jpg", ".DS_Store", "twice.png", "c.png", "lonely.png")
    listing = scenes.together([first, second])
    assert listing.scenes == {
        "a": (first / "a.png", second / "a.jpg"),
        "c": (first / "c.gif", second / "c.png"),  # its own row says that it cannot be read
    }
    told = {problem.stem: problem.message for problem in listing.problems}
    assert told.keys() == {"b", "lonely", "twice"}
    assert told["b"].endswith(f"b.png: no image of the same name in {second}; add it")
    assert "twice.png and " in told["twice"]
    with pytest.raises(ValueError, match="have one name; rename or remove one"):
        scenes.one_each(first)
    with pytest.raises(ValueError, match="hold no images"):
        scenes.together([touch(tmp_path / "empty"), touch(tmp_path / "none", "a.txt")])


def test_two_forms_of_one_name_are_one(tmp_path):
    composed, apart = (unicodedata.normalize(form, UMLAUT) for form in ("NFC", "NFD"))
    assert composed != apart
    first, second = touch(tmp_path / "a", f"{composed}.png"), touch(tmp_path / "b", f"{apart}.png")
    assert list(scenes.together([first, second]).scenes) == [composed]


def test_endings_are_taken_off(tmp_path):
    folder = touch(tmp_path, "001_A.png", "002_A.png")
    assert list(scenes.one_each(folder, ending="_A")) == ["001", "002"]


def test_a_list_has_a_byte_order_mark_names_with_spaces_and_suffixes(tmp_path):
    file = tmp_path / "train.txt"
    stems = {"first one": 1, "b": 2, "c": 3, unicodedata.normalize("NFC", UMLAUT): 4, "v1.5": 5}
    lines = ["\ufefffirst one", "b c", "", unicodedata.normalize("NFD", UMLAUT) + ".png", "v1.5"]
    file.write_bytes("\r\n".join(lines).encode())
    assert scenes.listed(file, stems) == ["first one", "b", "c", unicodedata.normalize("NFC", UMLAUT), "v1.5"]
    file.write_text("b\nnone\n")
    with pytest.raises(ValueError, match="lists none, which .* does not hold"):
        scenes.listed(file, stems)
