# SPDX-License-Identifier: Apache-2.0
"""A result as bytes for a client: a picture in its format, or a zip of picture, maps and facts."""

import io
import json
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from ditfuse_jax import image
from ditfuse_jax.inference import maps
from ditfuse_jax.inference.fuse import Fused
from ditfuse_jax.serve.fields import FORMATS

SUFFIXES = {"png": ".png", "tiff": ".tif", "jpeg": ".jpg"}


class Answer(NamedTuple):
    content: bytes
    kind: str  # media type
    facts: dict[str, str]  # what it was made with and what came out


def facts_of(fused: Fused, metadata: Mapping[str, str]) -> dict[str, str]:
    """As in the metadata of files that `ditfuse fuse` writes."""
    if fused.explained is None:
        return dict(metadata)
    return {**metadata, "explained": f"{fused.explained:.4f}"}


def encoder(kind: str, metadata: Mapping[str, str]) -> Callable[[Fused], Answer]:
    """How the worker turns a result into an answer of a format; kind: a key of FORMATS."""
    return lambda fused: encode(fused, kind, metadata)


def encode(fused: Fused, kind: str, metadata: Mapping[str, str]) -> Answer:
    facts = facts_of(fused, metadata)
    with tempfile.TemporaryDirectory(prefix="ditfuse-answer-") as folder:
        if kind != "zip":
            file = write(fused, Path(folder) / f"fused{SUFFIXES[kind]}", facts)
            return Answer(file.read_bytes(), FORMATS[kind], facts)
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as archive:  # PNG is compressed already
            for file in write_all(fused, Path(folder), facts):
                archive.write(file, file.name)
            archive.writestr("result.json", json.dumps(facts, indent=2, ensure_ascii=False))
        return Answer(content.getvalue(), FORMATS[kind], facts)


def write(fused: Fused, file: Path, facts: Mapping[str, str]) -> Path:
    """The picture under a name whose suffix says the format; ValueError where the format cannot hold it."""
    image.check_fits(file, *fused.image.shape[:2])
    pixels = image.shallow(fused.image) if file.suffix == SUFFIXES["jpeg"] else fused.image
    image.write(file, pixels, metadata=facts, origin=fused.origin)
    return file


def write_all(fused: Fused, folder: Path, facts: Mapping[str, str]) -> list[Path]:
    """The picture and, with a fidelity above 0, its maps."""
    files = [write(fused, folder / "fused.png", facts)]
    if fused.weights is not None:
        files += [folder / "weights.png", folder / "invented.png"]
        maps.write_weights(files[1], fused.weights, metadata=facts, overwrite=False)
        maps.write_invented(files[2], fused.invented, metadata=facts, overwrite=False)
    return files
