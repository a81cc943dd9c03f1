# SPDX-License-Identifier: Apache-2.0
"""What is written down about a folder, and what `inspect` shows of it."""

import re
import subprocess
import time

import pytest

from conftest import golden
from conversion import PROJECT, VAE_FILE, converted_folder, run, source_folder  # noqa: F401
from ditfuse_jax.checkpoints import folder as weights


def test_provenance_says_where_the_weights_come_from(source, tmp_path):
    (source / "README.md").write_text("---\nlicense: mit\n---\n")
    started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    assert run("omnigen", source, tmp_path / "ours") == 0
    provenance = weights.read_folder(tmp_path / "ours")[1]
    assert provenance["source"] == str(source)
    assert provenance["licence"] == "mit"
    assert provenance["converted"] >= started
    assert provenance["merged"] is None
    assert (provenance["dtype"], provenance["source_dtype"]) == ("float32", "float32")
    hashes = subprocess.run(
        ["sha256sum", "model.safetensors", VAE_FILE], cwd=source, capture_output=True, text=True
    )
    assert provenance["sha256"] == {line.split()[1]: line.split()[0] for line in hashes.stdout.splitlines()}


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("ckpt_tiny", "OmniGen in the official layout"),
        ("ckpt_tiny/vae", "autoencoder of diffusers"),
        ("dit_tiny/lora_all", "LoRA adapter of PEFT"),
    ],
)
def test_inspect_names_the_kind(capsys, folder, kind):
    assert run("inspect", golden(folder)) == 0
    assert kind in capsys.readouterr().out


def test_inspect_shows_config_tensors_size_and_provenance(converted, capsys):
    assert run("inspect", converted) == 0
    out = capsys.readouterr().out
    for part in (
        "checkpoint of ditfuse-jax",
        '"num_layers": 3',
        "model.safetensors: 24 tensors, 208,848 parameters, float32, 0.8 MB",
        "vae.safetensors: 244 tensors",
        "converted:",
        "sha256:",
    ):
        assert part in out
    assert re.search(r"layers\.attn\.qkv\.kernel +float32 +\[3, 64, 192\]", out)
    assert run("inspect", PROJECT) == 2
    assert "none of the folders" in capsys.readouterr().err
