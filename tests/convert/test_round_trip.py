# SPDX-License-Identifier: Apache-2.0
"""Published layouts to our folders and back, by the command line: bit for bit."""

import json

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file

from conftest import golden
from conversion import VAE_FILE, converted_folder, rewrite, run, same_bits, same_tensors, source_folder, table  # noqa: F401
from convert.export import export
from ditfuse_jax.checkpoints import folder as weights
from ditfuse_jax.checkpoints.safetensors import open_tensors
from ditfuse_jax.config import ShapesConfig


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_convert_then_export_gives_every_bit_back(source, tmp_path, dtype):
    rewrite(source, lambda tensors: {name: array.astype(dtype) for name, array in tensors.items()})
    assert run("omnigen", source, tmp_path / "ours") == 0
    assert run("export", tmp_path / "ours", tmp_path / "back") == 0
    for name in ("model.safetensors", VAE_FILE):
        same_tensors(load_file(tmp_path / "back" / name), load_file(source / name))
    for name in ("config.json", "vae/config.json", "tokenizer.json", "tokenizer_config.json"):
        assert json.loads((tmp_path / "back" / name).read_text()) == json.loads((source / name).read_text())
    assert "position_table" not in open_tensors(tmp_path / "ours" / "model.safetensors")


def test_a_source_without_position_table_comes_back_without(converted, tmp_path):
    assert run("export", converted, tmp_path / "back") == 0
    same_tensors(
        load_file(tmp_path / "back/model.safetensors"), load_file(golden("ckpt_tiny") / "model.safetensors")
    )


def test_the_computed_position_table_is_that_of_the_official_code():
    path = golden("ckpt_tiny").parents[3] / "shared/golden/ckpt_tiny/model.safetensors"
    if not path.is_file():
        pytest.skip("the reference checkpoint with its position table is not in ../shared/golden")
    assert same_bits(load_file(path)["pos_embed"], table(64, np.float32))


def test_a_position_table_of_its_own_is_kept(source, tmp_path):
    def nudge(tensors):
        tensors["pos_embed"][0, 36863, 63] = np.nextafter(tensors["pos_embed"][0, 36863, 63], np.float32(2))
        return tensors

    rewrite(source, nudge)
    assert run("omnigen", source, tmp_path / "ours") == 0
    assert weights.read_config(tmp_path / "ours").model.position_table
    stored = open_tensors(tmp_path / "ours" / "model.safetensors")["position_table"]
    assert same_bits(stored, load_file(source / "model.safetensors")["pos_embed"][0])
    assert run("export", tmp_path / "ours", tmp_path / "back") == 0
    same_tensors(load_file(tmp_path / "back/model.safetensors"), load_file(source / "model.safetensors"))


def test_an_export_of_weights_trained_here_loads_strictly(converted, tmp_path):
    """Without provenance the export makes its own configs and writes the table that the original needs."""
    trained = tmp_path / "trained"
    config = weights.read_config(converted)
    stored = {
        "model": open_tensors(converted / "model.safetensors"),
        "vae": open_tensors(converted / "vae.safetensors"),
    }
    weights.save_folder(trained, config, **stored, tokenizer=converted, provenance={})
    export(trained, tmp_path / "official")
    tensors = load_file(tmp_path / "official/model.safetensors")
    assert same_bits(tensors.pop("pos_embed"), table(64, np.float32))
    same_tensors(tensors, load_file(golden("ckpt_tiny") / "model.safetensors"))
    assert run("omnigen", tmp_path / "official", tmp_path / "again") == 0
    assert weights.read_config(tmp_path / "again") == config


@pytest.mark.parametrize("name", ["lora_attn", "lora_all"])
def test_adapters_come_back_bit_for_bit(tmp_path, name):
    source = golden(f"dit_tiny/{name}")
    assert run("lora", source, tmp_path / "ours") == 0
    assert run("export-lora", tmp_path / "ours", tmp_path / "peft") == 0
    same_tensors(
        load_file(tmp_path / "peft/adapter_model.safetensors"),
        load_file(source / "adapter_model.safetensors"),
    )
    stored = json.loads((source / "adapter_config.json").read_text())
    assert json.loads((tmp_path / "peft/adapter_config.json").read_text()) == stored


def test_a_converted_folder_knows_whole_patches_up_to_1024(converted):
    stored = json.loads((converted / "config.json").read_text())["sampling"]
    assert stored["shapes"] == {"step": 16, "max_side": 1024, "exact": []}
    assert stored["max_side"] == 1024
    assert weights.read_config(converted).shapes == ShapesConfig(step=16, max_side=1024)
