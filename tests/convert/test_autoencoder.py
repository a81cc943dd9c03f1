# SPDX-License-Identifier: Apache-2.0
"""The spellings of the autoencoder in which it is published."""

import re
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from conftest import golden
from conversion import VAE_FILE, converted_folder, refused, run, same_folders, same_tensors, source_folder  # noqa: F401
from convert.configs import original_vae_config
from ditfuse_jax.checkpoints import folder as weights
from ditfuse_jax.checkpoints.safetensors import open_tensors


def old_attention_names(tensors: dict) -> dict:
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    pattern = re.compile(r"(?<=attentions\.0\.)(to_q|to_k|to_v|to_out\.0)(?=\.)")
    return {pattern.sub(lambda match: names[match[1]], key): array for key, array in tensors.items()}


def test_old_attention_names_convert_alike_and_come_back_as_they_were(source, converted, tmp_path):
    tensors = old_attention_names(load_file(source / VAE_FILE))
    (source / VAE_FILE).unlink()
    save_file(tensors, source / VAE_FILE)
    assert run("omnigen", source, tmp_path / "ours") == 0
    same_tensors(open_tensors(tmp_path / "ours/vae.safetensors"), open_tensors(converted / "vae.safetensors"))
    assert run("export", tmp_path / "ours", tmp_path / "back") == 0
    same_tensors(load_file(tmp_path / "back" / VAE_FILE), tensors)


def original_names(tensors: dict, prefix: str) -> dict:
    """The names of the original single file, from diffusers' (decoder levels count the other way round)."""
    result = {}
    for key, array in tensors.items():
        key = re.sub(r"down_blocks\.(\d)\.resnets\.(\d)", r"down.\1.block.\2", key)
        key = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", key)
        key = re.sub(r"up_blocks\.(\d)\.resnets\.(\d)", lambda m: f"up.{3 - int(m[1])}.block.{m[2]}", key)
        key = re.sub(r"up_blocks\.(\d)\.upsamplers\.0", lambda m: f"up.{3 - int(m[1])}.upsample", key)
        key = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", key)
        key = key.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
        if "attentions" in key:
            key = key.replace("mid_block.attentions.0", "mid.attn_1").replace("group_norm", "norm")
            key = re.sub(r"to_([qkv])\.", r"\1.", key).replace("to_out.0", "proj_out")
            array = array[:, :, None, None] if array.ndim == 2 else array
        result[prefix + key] = array
    return result


@pytest.mark.parametrize("prefix", ["", "first_stage_model."])
def test_the_original_file_converts_like_diffusers(converted, tmp_path, prefix):
    tensors = original_names(load_file(golden("ckpt_tiny") / VAE_FILE), prefix)
    if prefix:  # a whole Stable Diffusion XL checkpoint
        tensors["model.diffusion_model.out.2.weight"] = np.zeros((4, 4), np.float32)
        tensors["conditioner.embedders.0.position_ids"] = np.zeros((1, 77), np.int64)
        tensors["denoiser.sigmas"] = np.zeros(1000, np.float32)
    save_file(tensors, tmp_path / "sdxl_vae.safetensors")
    assert run("vae", tmp_path / "sdxl_vae.safetensors", tmp_path / "single") == 0
    assert run("vae", golden("ckpt_tiny") / "vae", tmp_path / "folder") == 0
    for name in ("single", "folder"):
        same_tensors(
            open_tensors(tmp_path / name / "vae.safetensors"), open_tensors(converted / "vae.safetensors")
        )
        assert weights.read_vae_folder(tmp_path / name)[0] == weights.read_config(converted).vae
    with pytest.raises(ValueError, match="autoencoder alone"):
        weights.read_config(tmp_path / "single")


def test_the_scaling_factor_of_a_file_can_be_given(tmp_path):
    tensors = original_names(load_file(golden("ckpt_tiny") / VAE_FILE), "")
    assert original_vae_config(tensors, tmp_path, 0.5).scaling_factor == 0.5
    assert original_vae_config(tensors, tmp_path, None).scaling_factor == 0.13025
    tensors["cond_stage_model.logit_scale"] = np.zeros(())
    assert original_vae_config(tensors, tmp_path, None).scaling_factor == 0.18215


def test_a_file_without_autoencoder_is_refused(tmp_path, capsys):
    save_file({"x": np.zeros(3, np.float32)}, tmp_path / "x.safetensors")
    assert "holds no autoencoder" in refused(capsys, "vae", tmp_path / "x.safetensors", tmp_path / "ours")


def test_vae_from_elsewhere(source, converted, tmp_path):
    shutil.move(source / "vae", tmp_path / "vae")
    assert run("omnigen", source, tmp_path / "ours", "--vae", tmp_path / "vae") == 0
    same_folders(tmp_path / "ours", converted)
