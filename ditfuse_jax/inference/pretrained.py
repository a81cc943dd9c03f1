# SPDX-License-Identifier: Apache-2.0
"""From a name to a checkpoint folder: local ones, the hub, and published layouts, converted on first use."""

import hashlib
import os
from pathlib import Path

from filelock import FileLock

from ditfuse_jax import places
from ditfuse_jax.checkpoints import hub
from ditfuse_jax.checkpoints.folder import read_json
from ditfuse_jax.checkpoints.layout import CONFIG_FILE, FORMAT


def cache_folder() -> Path:
    """Of this library: compiled programs, converted checkpoints."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ditfuse-jax"


def checkpoint(name: str | Path, *, revision: str | None = None) -> Path:
    """The checkpoint folder that `from_pretrained` means: a folder, `hf:owner/name` or `owner/name`.

    A folder in the official or the diffusers layout is converted into the cache first. Raises ValueError for
    a name that is neither, what cannot be fetched, and what does not convert.
    """
    folder = _folder(str(name), revision)
    return _converted(folder, str(name)) if _is_published(folder) else folder


def adapter(name: str | Path | None) -> Path | None:
    """The adapter folder of a name as `checkpoint` takes it."""
    return name and _folder(str(name), None)


def on_command_line(name: Path | None) -> Path | None:
    """A folder as it is, and `hf:owner/name` as `checkpoint` does: there a bare name is always a path."""
    return checkpoint(str(name)) if name and str(name).startswith(hub.PREFIX) else name


def adapter_on_command_line(name: Path | None) -> Path | None:
    return adapter(str(name)) if name and str(name).startswith(hub.PREFIX) else name


def _folder(name: str, revision: str | None) -> Path:
    if name.startswith(hub.PREFIX):
        return hub.fetch(name, revision)
    path = Path(name).expanduser()
    if path.exists():
        if revision:
            raise ValueError(
                f"revision {revision!r} goes with a hub id, and {name} is a folder; leave it away"
            )
        return path
    if hub.is_name(name):
        return hub.fetch(name, revision)
    raise ValueError(f"{name} does not exist; name a folder, or a hub id such as hf:owner/name")


def _is_published(folder: Path) -> bool:
    """Whether it is in the official or the diffusers layout, not in ours."""
    if (folder / "transformer").is_dir():
        return True
    config = folder / CONFIG_FILE
    return config.is_file() and not str(read_json(config).get("format", "")).startswith(FORMAT)


def _converted(folder: Path, name: str) -> Path:
    """The converted folder in the cache; made by the first of several processes that ask."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    state = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    digest = hashlib.sha256(repr(state).encode()).hexdigest()[:12]
    place = cache_folder() / "converted"
    place.mkdir(parents=True, exist_ok=True)
    target = place / f"{name.removeprefix(hub.PREFIX).strip('/').replace('/', '--')[-60:]}-{digest}"
    with FileLock(f"{target}.lock"):
        if not target.is_dir():  # it appears when it is whole
            places.converter("jobs").convert_omnigen(str(folder), target)
    return target
