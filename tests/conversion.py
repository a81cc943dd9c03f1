# SPDX-License-Identifier: Apache-2.0
"""Small released checkpoints, their variants, and calls of the converter for the tests of it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from conftest import golden
from convert import omnigen
from convert.__main__ import main
from ditfuse_jax.checkpoints import folder as weights
from ditfuse_jax.checkpoints.safetensors import open_tensors

PROJECT = Path(__file__).parents[1]
VAE_FILE = "vae/diffusion_pytorch_model.safetensors"


def same_bits(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def same_tensors(a: dict, b: dict):
    assert a.keys() == b.keys()
    assert [name for name in a if not same_bits(a[name], b[name])] == []


def table(width: int, dtype) -> np.ndarray:
    """The position table as the official model stores it, [1, 36864, D]."""
    return np.concatenate(list(omnigen.computed_table(width, np.dtype(dtype))))[None]


def edit(path: Path, **changes):
    """Sets keys of a JSON file; a value of None removes the key."""
    values = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in values.items() if value is not None}))


def run(*args) -> int:
    return main([str(arg) for arg in args])


def refused(capsys, *args) -> str:
    """The message of a conversion that must fail with exit code 2 and write nothing."""
    target = Path(args[2])
    before = sorted(target.parent.iterdir())
    assert run(*args) == 2
    assert sorted(target.parent.iterdir()) == before
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    return err


@pytest.fixture(name="source")
def source_folder(tmp_path) -> Path:
    """A writable copy of the small released-layout checkpoint, with its position table."""
    folder = tmp_path / "source"
    shutil.copytree(golden("ckpt_tiny"), folder, copy_function=shutil.copyfile)
    path = folder / "model.safetensors"
    tensors = load_file(path)
    tensors["pos_embed"] = table(64, np.float32)
    path.unlink()
    save_file(tensors, path, metadata={"format": "pt"})
    return folder


@pytest.fixture(name="converted", scope="module")
def converted_folder(tmp_path_factory) -> Path:
    target = tmp_path_factory.mktemp("converted") / "checkpoint"
    assert run("omnigen", golden("ckpt_tiny"), target) == 0
    return target


def rewrite(folder: Path, change):
    """Replaces the transformer's tensors of a source by `change` of them."""
    path = folder / "model.safetensors"
    tensors = change(load_file(path))
    path.unlink()
    save_file(tensors, path)


def shard(folder: Path):
    """Splits model.safetensors into two files and an index."""
    tensors = load_file(folder / "model.safetensors")
    names = sorted(tensors)
    files = {name: f"model-0000{1 + (i % 2)}-of-00002.safetensors" for i, name in enumerate(names)}
    for file in set(files.values()):
        save_file({name: tensors[name] for name in names if files[name] == file}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": files}))
    (folder / "model.safetensors").unlink()


def same_folders(a: Path, b: Path):
    for name in (weights.MODEL_FILE, weights.VAE_FILE):
        same_tensors(open_tensors(a / name), open_tensors(b / name))
    assert weights.read_config(a) == weights.read_config(b)


def drop(folder, name):
    (folder / name).unlink()
