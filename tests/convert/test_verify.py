# SPDX-License-Identifier: Apache-2.0
"""`convert verify`: what it says of a whole folder, and all that is wrong with another at once."""

import shutil

import numpy as np
from safetensors.numpy import load_file, save_file

from conversion import converted_folder, run  # noqa: F401
from ditfuse_jax.checkpoints import folder as weights


def damage(folder, file, change):
    tensors = load_file(folder / file)
    change(tensors)
    (folder / file).unlink()
    save_file(tensors, folder / file)


def test_a_whole_folder_is_run_and_reported(converted, capsys):
    assert run("verify", converted) == 0
    text = capsys.readouterr().out
    for part in (
        "machine     ditfuse-jax",
        "sha256  ",
        "model       24 tensors",
        "one step",
        "latents     of mean",
    ):
        assert part in text
    assert " at " in next(line for line in text.splitlines() if line.startswith("autoencoder"))
    assert text.splitlines()[-1].startswith("verified")


def test_all_that_is_wrong_is_said_at_once(converted, tmp_path, capsys):
    folder = tmp_path / "damaged"
    shutil.copytree(converted, folder)
    damage(folder, weights.MODEL_FILE, lambda tensors: tensors.pop("norm.scale"))
    damage(folder, weights.VAE_FILE, lambda tensors: next(iter(tensors.values())).fill(np.nan))
    assert run("verify", folder) == 2
    message = capsys.readouterr().err
    assert "norm.scale: missing in the file" in message
    assert "vae.safetensors holds NaN or infinity" in message
    assert "convert the checkpoint again" in message
