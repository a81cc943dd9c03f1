# SPDX-License-Identifier: Apache-2.0
"""Which files belong together: sources, results and truth by their stem, and a list of all that do not."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ditfuse_jax import scenes


class Files(NamedTuple):
    """One result and what it is judged by."""

    method: str
    stem: str
    first: Path
    second: Path
    fused: Path | None  # None: the method is one of baselines.py, computed on the spot
    truth: Path | None

    @property
    def result(self) -> str:
        """How a message names the result."""
        return str(self.fused or f"{self.method} of {self.stem}")


class Listing(NamedTuple):
    files: tuple[Files, ...]  # by method, then by stem
    problems: tuple[str, ...]  # of what is left out


def by_stem(folder: Path) -> tuple[dict[str, Path], list[str]]:
    """The images of a folder by stem, and a line for each stem that is there twice. Raises ValueError."""
    found = scenes.by_stem(folder)
    problems = [
        f"{other}: {used.name} has the same stem and is used; remove one"
        for used, other in found.twice.values()
    ]
    if not found.files:
        raise ValueError(f"{folder} holds no images; give the folder they are in")
    return found.files, problems


def pair(
    sides: Sequence[Path], fused: Mapping[str, Path], truth: Path | None, baselines: Sequence[str] = ()
) -> Listing:
    """Every result of every method with its sources; what has no counterpart becomes a line.

    Args:
      sides: the folders of source 1 and source 2. fused: folder of each method by its name.
      truth: a folder, or None. baselines: methods of baselines.py, computed on the spot for every scene.
    Raises ValueError where nothing is left.
    """
    known, problems = _scenes(sides, truth)
    files = []
    for method, folder in fused.items():
        results, twice = by_stem(folder)
        problems += twice
        problems += [f"{folder}: no result for {stem}" for stem in sorted(set(known) - set(results))]
        problems += [
            f"{results[stem]}: no sources of this name" for stem in sorted(set(results) - set(known))
        ]
        for stem in sorted(set(known) & set(results)):
            files.append(known[stem]._replace(method=method, fused=results[stem]))
    files += [scene._replace(method=method) for method in baselines for scene in known.values()]
    if not files:
        folders = ", ".join(map(str, (*sides, *fused.values())))
        raise ValueError(f"no file stem is in all of {folders}; name results like their sources")
    return Listing(tuple(files), tuple(problems))


def _scenes(sides: Sequence[Path], truth: Path | None) -> tuple[dict[str, Files], list[str]]:
    """By stem, still without a method; and a line for each stem that a folder lacks."""
    places, problems, found = [*sides, *([truth] if truth else [])], [], []
    for folder in places:
        images, twice = by_stem(folder)
        found.append(images)
        problems += twice
    complete = {}
    for stem in sorted(set().union(*found)):
        lacking = [folder for folder, images in zip(places, found, strict=True) if stem not in images]
        problems += [f"{folder}: no image for {stem}" for folder in lacking]
        if not lacking:
            first, second, *target = (images[stem] for images in found)
            complete[stem] = Files("", stem, first, second, None, target[0] if target else None)
    return complete, problems


def methods(folders: Sequence[str]) -> dict[str, Path]:
    """`NAME=DIR` or `DIR`, whose name is then the method's. Raises ValueError where two have one name."""
    found: dict[str, Path] = {}
    for text in folders:
        name, equals, folder = text.partition("=")
        path = Path(folder if equals else text)
        name = name if equals else path.resolve().name
        if name in found:
            raise ValueError(f"two folders are called {name!r}; write NAME=DIR to tell them apart")
        found[name] = path
    return found
