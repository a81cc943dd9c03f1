# SPDX-License-Identifier: Apache-2.0
"""Which files belong to one scene: folders that people have, files by their stem, and all that do not fit.

Used by fusing, training and evaluation alike. Names that begin with a dot (also `._x` of macOS) are no
pictures; a name written in two Unicode forms is one name.
"""

import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ditfuse_jax import image, text

# (source 1, source 2): visible, far, over-exposed first. Which of a and b is far is not known.
SIDES = (("vis", "ir"), ("vi", "ir"), ("over", "under"), ("a", "b"), ("far", "near"), ("image1", "image2"))
SHOWN = ", ".join("/".join(side) for side in SIDES)


class Folder(NamedTuple):
    files: dict[str, Path]  # by stem, in order of names
    twice: dict[str, tuple[Path, Path]]  # stems of two files: the one above, and another


class Problem(NamedTuple):
    stem: str
    message: str


class Listing(NamedTuple):
    scenes: dict[str, tuple[Path, ...]]  # stem -> its file in each folder
    problems: tuple[Problem, ...]  # of stems that are left out
    first: dict[str, Path]  # the files of the first folder


def stem_of(name: str) -> str:
    """One spelling of a stem."""
    return unicodedata.normalize("NFC", name)


def by_stem(folder: Path, *, ending: str = "") -> Folder:
    """The pictures of a folder, readable or not; `ending` is taken off their stems.

    Raises ValueError if there is no such folder.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder; give a folder of images")
    files: dict[str, Path] = {}
    twice: dict[str, tuple[Path, Path]] = {}
    for file in sorted(folder.iterdir()):
        if not (image.is_picture(file) and file.is_file()):
            continue
        stem = stem_of(file.stem).removesuffix(ending)
        if stem in files:
            twice[stem] = files[stem], file
        files.setdefault(stem, file)
    return Folder(files, twice)


def one_each(folder: Path, *, ending: str = "") -> dict[str, Path]:
    """`by_stem`, where every stem must be there once. Raises ValueError naming both files."""
    found = by_stem(folder, ending=ending)
    for problem in doubled(found):
        raise ValueError(problem.message)
    return found.files


def doubled(folder: Folder) -> list[Problem]:
    """A problem for each stem that a folder has twice."""
    return [
        Problem(stem, f"{second} and {first} have one name; rename or remove one of them")
        for stem, (first, second) in folder.twice.items()
    ]


def sides(folder: Path) -> tuple[Path, ...]:
    """Two folders of SIDES below `folder`, upper or lower case; image1, image2 are followed by image3 ...

    Raises ValueError where there are none.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder; give one that holds two folders of {SHOWN}")
    below = {each.name.lower(): each for each in sorted(folder.iterdir()) if each.is_dir()}
    names = next((list(side) for side in SIDES if below.keys() >= set(side)), None)
    if names is None:
        raise ValueError(f"{folder} has no two folders of {SHOWN}; name two of any name with --image-dirs")
    while names[0] == "image1" and f"image{len(names) + 1}" in below:
        names.append(f"image{len(names) + 1}")
    return tuple(below[name] for name in names)


def alone(folder: Path) -> Listing | None:
    """The radiometric JPEGs of a folder, each a scene of its own; None where it holds none.

    Its other pictures are problems. Raises ValueError if there is no such folder.
    """
    found = by_stem(folder)
    thermal = {stem: (file,) for stem, file in found.files.items() if image.is_flir(file)}
    twice = {problem.stem: problem for problem in doubled(found)}
    others = {
        stem: Problem(stem, f"{file} is no radiometric JPEG as others here are; move it elsewhere")
        for stem, file in found.files.items()
        if stem not in thermal
    }
    kept = {stem: files for stem, files in thermal.items() if stem not in twice}
    return Listing(kept, tuple((others | twice).values()), found.files) if thermal else None


def together(folders: Sequence[Path]) -> Listing:
    """The scenes of several folders, in order of stems; a problem for each stem that is not in all, or twice.

    Raises ValueError where there are no pictures at all.
    """
    found = [by_stem(folder) for folder in folders]
    stems = sorted(set().union(*(each.files for each in found)))
    if not stems:
        raise ValueError(f"{' and '.join(map(str, folders))} hold no images; put pairs of one name there")
    problems = {problem.stem: problem for each in reversed(found) for problem in doubled(each)}
    scenes = {}
    for stem in stems:
        lacking = [folder for folder, each in zip(folders, found, strict=True) if stem not in each.files]
        if stem in problems:
            continue
        if lacking:
            have = next(each.files[stem] for each in found if stem in each.files)
            message = f"{have}: no image of the same name in {lacking[0]}; add it"
            problems[stem] = Problem(stem, message)
        else:
            scenes[stem] = tuple(each.files[stem] for each in found)
    return Listing(scenes, tuple(problems[stem] for stem in sorted(problems)), found[0].files)


def listed(file: Path, stems) -> list[str]:
    """The stems that a text file lists: one a line, also with spaces in it or with its suffix, or several.

    stems: those that there are. Raises ValueError for a missing file, and naming a stem that is missing.
    """
    if not file.is_file():
        raise ValueError(f"{file} is missing; it should list stems, one a line")
    found = []
    for line in text.lines(file):
        name = stem_of(line.strip())
        if name:
            whole = next((each for each in (name, Path(name).stem) if each in stems), None)
            found += [whole] if whole else name.split()
    if missing := [stem for stem in found if stem not in stems]:
        raise ValueError(f"{file} lists {missing[0]}, which {file.parent} does not hold")
    return found
