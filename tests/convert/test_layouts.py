# SPDX-License-Identifier: Apache-2.0
"""Other layouts, types and files of the same weights give the same folder."""

import json
import re
import shutil
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from conftest import golden
from conversion import converted_folder, run, same_bits, same_folders, same_tensors, shard, source_folder  # noqa: F401
from convert import engine, omnigen
from ditfuse_jax.checkpoints import folder as weights
from ditfuse_jax.checkpoints.safetensors import open_tensors

TO_DIFFUSERS = (
    (r"llm\.", ""),
    (r"self_attn\.o_proj", "self_attn.to_out.0"),
    (r"^x_embedder\.proj", "patch_embedding.output_image_proj"),
    (r"^input_x_embedder\.proj", "patch_embedding.input_image_proj"),
    (r"^pos_embed", "patch_embedding.pos_embed"),
    (r"mlp\.0\.", "linear_1."),
    (r"mlp\.2\.", "linear_2."),
    (r"final_layer\.adaLN_modulation\.1", "norm_out.linear"),
    (r"final_layer\.linear", "proj_out"),
)


def test_shards_equal_the_single_file(source, converted, tmp_path):
    shard(source)
    assert run("omnigen", source, tmp_path / "ours") == 0
    same_folders(tmp_path / "ours", converted)
    assert len(weights.read_folder(tmp_path / "ours")[1]["sha256"]) == 3


def diffusers_layout(source: Path, target: Path):
    """The same checkpoint as diffusers saves it: q, k, v apart, other names, another config."""
    (target / "transformer").mkdir(parents=True)
    (target / "tokenizer").mkdir()
    tensors = {}
    for name, array in load_file(source / "model.safetensors").items():
        for pattern, replacement in TO_DIFFUSERS:
            name = re.sub(pattern, replacement, name)
        if "qkv_proj" in name:
            for part, rows in zip("qkv", np.split(array, 3), strict=True):
                tensors[name.replace("qkv_proj", f"to_{part}")] = rows
        else:
            tensors[name] = array
    save_file(tensors, target / "transformer/diffusion_pytorch_model.safetensors")
    phi3 = json.loads((source / "config.json").read_text())
    same = ("hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads", "vocab_size")
    same += ("max_position_embeddings", "original_max_position_embeddings", "rms_norm_eps", "rope_scaling")
    config = {key: phi3[key] for key in (*same, "pad_token_id")} | {
        "_class_name": "OmniGenTransformer2DModel",
        "_diffusers_version": "0.33.0",
        "num_layers": phi3["num_hidden_layers"],
        "rope_base": 10000,
        "in_channels": 4,
        "patch_size": 2,
        "pos_embed_max_size": 192,
        "time_step_dim": 256,
        "flip_sin_to_cos": True,
        "downscale_freq_shift": 0,
        "timestep_activation_fn": "silu",
    }
    (target / "transformer/config.json").write_text(json.dumps(config))
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        shutil.copyfile(source / name, target / "tokenizer" / name)
    shutil.copytree(source / "vae", target / "vae", copy_function=shutil.copyfile)


def test_the_diffusers_layout_equals_the_official_one(source, converted, tmp_path):
    diffusers_layout(source, tmp_path / "diffusers")
    assert run("omnigen", tmp_path / "diffusers", tmp_path / "ours") == 0
    same_folders(tmp_path / "ours", converted)
    assert run("export", tmp_path / "ours", tmp_path / "official") == 0
    same_tensors(load_file(tmp_path / "official/model.safetensors"), load_file(source / "model.safetensors"))
    assert run("omnigen", tmp_path / "official", tmp_path / "again") == 0
    same_folders(tmp_path / "again", converted)


def test_bfloat16_is_rounded_once_and_said_in_the_config(converted, tmp_path):
    assert run("omnigen", golden("ckpt_tiny"), tmp_path / "low", "--dtype", "bfloat16") == 0
    low, full = (open_tensors(folder / "model.safetensors") for folder in (tmp_path / "low", converted))
    same_tensors(low, {name: array.astype(ml_dtypes.bfloat16) for name, array in full.items()})
    assert weights.read_config(tmp_path / "low").model.dtype == "bfloat16"
    same_tensors(open_tensors(tmp_path / "low/vae.safetensors"), open_tensors(converted / "vae.safetensors"))


def test_a_small_piece_size_changes_nothing(converted, tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "PIECE", 1000)
    adapter = golden("dit_tiny/lora_all")
    assert run("omnigen", golden("ckpt_tiny"), tmp_path / "ours") == 0
    same_folders(tmp_path / "ours", converted)
    assert run("omnigen", golden("ckpt_tiny"), tmp_path / "small", "--lora", adapter) == 0
    monkeypatch.undo()
    assert run("omnigen", golden("ckpt_tiny"), tmp_path / "large", "--lora", adapter) == 0
    small, large = (open_tensors(tmp_path / name / "model.safetensors") for name in ("small", "large"))
    for name in large:  # a product of fewer rows may be summed in another order: 1e-7 of weights of order 0.1
        np.testing.assert_allclose(small[name], large[name], rtol=0, atol=1e-7)


@pytest.mark.parametrize("name", ["lora_attn", "lora_all"])
def test_merged_weights_are_those_of_peft(tmp_path, name):
    adapter = golden(f"dit_tiny/{name}")
    assert run("omnigen", golden("ckpt_tiny"), tmp_path / "merged", "--lora", adapter) == 0
    merged = engine.invert(open_tensors(tmp_path / "merged/model.safetensors"), omnigen.RULES)
    reference = np.load(adapter / "merged_case_a.npz")
    names = [key.removeprefix("merged:") for key in reference.files if key.startswith("merged:")]
    assert names
    for key in names:
        np.testing.assert_allclose(
            merged[key], reference[f"merged:{key}"], rtol=0, atol=1e-6
        )  # golden/README.md
    base = load_file(golden("ckpt_tiny") / "model.safetensors")
    changed = {
        re.sub(r".*\.(\w+)\.weight", r"\1", key) for key in base if not same_bits(merged[key], base[key])
    }
    wanted = {"qkv_proj", "o_proj"} | ({"gate_up_proj", "down_proj"} if name == "lora_all" else set())
    assert changed == wanted
    provenance = weights.read_folder(tmp_path / "merged")[1]
    assert provenance["merged"]["lora"]["alpha"] == 8.0
