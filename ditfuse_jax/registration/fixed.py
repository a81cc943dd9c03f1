# SPDX-License-Identifier: Apache-2.0
"""An alignment as a small file, for cameras that stand still to each other: measured once, used for all."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ditfuse_jax import text
from ditfuse_jax.registration.alignment import AGREEING, Alignment

FORMAT = "ditfuse-jax alignment 1"


def save(file: Path, alignments: Sequence[Alignment]) -> None:
    """Those of image 2, 3 ... to image 1, as JSON that `load` reads."""
    height, width = alignments[0].size
    told = {
        "format": FORMAT,
        "width": width,
        "height": height,
        "matrices": [each.matrix.tolist() for each in alignments],
        "scores": [round(each.score, 4) for each in alignments],
    }
    file.write_text(json.dumps(told, indent=1) + "\n", "utf-8")


def check_writable(file: Path, *, overwrite: bool) -> None:
    """Raises ValueError for a file that must not be replaced: any that `save` did not write."""
    if file.suffix.lower() != ".json":
        raise ValueError(f"{file}: an alignment is written as .json; choose this suffix")
    if file.is_symlink() or (file.exists() and not file.is_file()):
        raise ValueError(f"{file} is a link or no file, which is not replaced; choose another name")
    if file.exists() and not overwrite:
        try:
            load(file)
        except ValueError:
            raise ValueError(
                f"{file} is there already and is no alignment; choose another name, or add --overwrite"
            ) from None


def load(file: Path) -> list[Alignment]:
    """What `save` wrote. Raises ValueError naming the file for anything else."""
    try:
        told = text.read_json(file)
        matrices = [np.array(matrix, np.float64) for matrix in told["matrices"]]
        size, right = (told["height"], told["width"]), told["format"] == FORMAT
        fine = all(each.shape == (3, 3) and np.isfinite(each).all() for each in matrices)
        whole = all(isinstance(side, int) and side > 0 for side in size)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{file} is no alignment ({error}); make one with --save-align") from error
    if not (right and fine and whole and matrices):
        raise ValueError(f"{file} is no alignment of this program; make one with --save-align")
    return [Alignment(matrix, size, str(file), 1.0, AGREEING) for matrix in matrices]
