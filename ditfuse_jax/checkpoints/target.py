# SPDX-License-Identifier: Apache-2.0
"""The folder that a command writes: it appears whole, and nothing of the user's is lost for it."""

import contextlib
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from ditfuse_jax.checkpoints.layout import foreign_entries, kind_of


def check_target(target: Path, *, sources: Sequence[Path], overwrite: bool) -> None:
    """ValueError unless a folder may be written at `target`.

    Args:
      sources: what the command reads; `target` may neither be, hold, nor lie inside one of them.
      overwrite: a folder that this library wrote, with no other file in it, may be there and is replaced.
    """
    for source in sources:
        _check_apart(target, source)
    if not os.path.lexists(target):
        return
    if not overwrite:
        raise ValueError(f"{target} exists; choose another name or add --overwrite")
    if why := _foreign(target):
        raise ValueError(f"{target} {why}; --overwrite does not delete it, choose another name")


def _check_apart(target: Path, source: Path) -> None:
    place, given = (Path(os.path.realpath(path)) for path in (target, source))
    if _same(place, given):
        how = "is"
    elif _inside(place, given):
        how = "lies inside"
    elif _inside(given, place):
        how = "holds"
    else:
        return
    raise ValueError(f"{target} {how} {source}, which is read; choose a name apart from it")


def _same(first: Path, second: Path) -> bool:
    """Also for two spellings of one folder, where case does not count."""
    with contextlib.suppress(OSError):
        return os.path.samefile(first, second)
    return first == second


def _inside(path: Path, folder: Path) -> bool:
    return any(_same(parent, folder) for parent in path.parents)


def _foreign(target: Path) -> str | None:
    """Why an existing target may not be deleted, or None."""
    if target.is_symlink() or not target.is_dir():
        return "is not a folder that this library wrote"
    if not any(target.iterdir()):
        return None
    kind = kind_of(target)
    if kind is None:
        return "is not a folder that this library wrote"
    if extra := foreign_entries(target, kind):
        more = f" and {len(extra) - 3} more" if len(extra) > 3 else ""
        return f"holds {', '.join(extra[:3])}{more}, which this library did not write"
    return None


@contextlib.contextmanager
def new_folder(target: Path, *, sources: Sequence[Path], overwrite: bool = False) -> Iterator[Path]:
    """A folder beside `target` to write into; it takes that name if all goes well and vanishes otherwise.

    Raises ValueError as `check_target` does; an existing target is replaced only by a complete folder.
    """
    target = Path(os.path.abspath(target))
    check_target(target, sources=sources, overwrite=overwrite)
    partial = target.with_name(f".{target.name}.partial-{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial.mkdir()
        yield partial
        _sync(partial)
        check_target(target, sources=sources, overwrite=overwrite)  # hours may have passed
        _swap(partial, target)
    except OSError as error:
        raise ValueError(f"{target} cannot be written: {error.strerror or error}") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _sync(folder: Path) -> None:
    """Brings a folder's files to the disk, so that its name never stands for less than all of it."""
    if os.name == "nt":
        return  # there, a folder cannot be opened for it
    for path in (*folder.rglob("*"), folder):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _swap(partial: Path, target: Path) -> None:
    """Puts `partial` in the place of `target`; what stood there is deleted last, so no moment has neither."""
    if not target.exists():
        os.rename(partial, target)
        return
    old = target.with_name(f".{target.name}.old-{os.getpid()}")
    os.rename(target, old)
    try:
        os.rename(partial, target)
    except BaseException:
        os.rename(old, target)
        raise
    shutil.rmtree(old)
