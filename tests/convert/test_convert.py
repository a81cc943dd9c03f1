# SPDX-License-Identifier: Apache-2.0
"""Published layouts to our folders and back, by the command line: bit for bit, strict, never half done."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import jax
import ml_dtypes
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from conftest import golden
from convert import engine, omnigen
from convert.__main__ import main
from convert.configs import official_config, original_vae_config, phi3_config, vae_config
from convert.export import export
from convert.vae import vae_rules
from ditfuse_jax.checkpoints import folder as weights
from ditfuse_jax.checkpoints.flat import parameter_shapes
from ditfuse_jax.checkpoints.safetensors import open_tensors
from ditfuse_jax.config import ShapesConfig, TransformerConfig, VAEConfig
from ditfuse_jax.models.omnigen import Transformer

PROJECT = Path(__file__).parents[2]
VAE_FILE = "vae/diffusion_pytorch_model.safetensors"
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


@pytest.fixture
def source(tmp_path) -> Path:
    """A writable copy of the small released-layout checkpoint, with its position table."""
    folder = tmp_path / "source"
    shutil.copytree(golden("ckpt_tiny"), folder, copy_function=shutil.copyfile)
    path = folder / "model.safetensors"
    tensors = load_file(path)
    tensors["pos_embed"] = table(64, np.float32)
    path.unlink()
    save_file(tensors, path, metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="session")
def converted(tmp_path_factory) -> Path:
    target = tmp_path_factory.mktemp("converted") / "checkpoint"
    assert run("omnigen", golden("ckpt_tiny"), target) == 0
    return target


def rewrite(folder: Path, change):
    """Replaces the transformer's tensors of a source by `change` of them."""
    path = folder / "model.safetensors"
    tensors = change(load_file(path))
    path.unlink()
    save_file(tensors, path)


# ---- round trips


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


def test_a_converted_folder_knows_whole_patches_up_to_1024(converted):
    stored = json.loads((converted / "config.json").read_text())["sampling"]
    assert stored["shapes"] == {"step": 16, "max_side": 1024, "exact": []}
    assert stored["max_side"] == 1024
    assert weights.read_config(converted).shapes == ShapesConfig(step=16, max_side=1024)


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


# ---- other layouts of the same weights


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


# ---- the autoencoder


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


# ---- full size, without memory


def hollow(shape) -> np.ndarray:
    return np.broadcast_to(np.empty((), np.float32), shape)


def official_shapes(cfg: TransformerConfig) -> dict[str, tuple[int, ...]]:
    """OmniGen-v1's tensors."""
    d, f = cfg.width, cfg.mlp_width
    shapes = {
        "llm.embed_tokens.weight": (cfg.vocab_size, d),
        "llm.norm.weight": (d,),
        "pos_embed": (1, 36864, d),
    }
    for n in range(cfg.num_layers):
        layer = f"llm.layers.{n}"
        shapes[f"{layer}.input_layernorm.weight"] = shapes[f"{layer}.post_attention_layernorm.weight"] = (d,)
        shapes[f"{layer}.self_attn.qkv_proj.weight"], shapes[f"{layer}.self_attn.o_proj.weight"] = (
            (3 * d, d),
            (d, d),
        )
        shapes[f"{layer}.mlp.gate_up_proj.weight"], shapes[f"{layer}.mlp.down_proj.weight"] = (
            (2 * f, d),
            (d, f),
        )
    for name in ("x_embedder", "input_x_embedder"):
        shapes |= {f"{name}.proj.weight": (d, 4, 2, 2), f"{name}.proj.bias": (d,)}
    for name in ("time_token", "t_embedder"):
        shapes |= {f"{name}.mlp.0.weight": (d, 256), f"{name}.mlp.0.bias": (d,)}
        shapes |= {f"{name}.mlp.2.weight": (d, d), f"{name}.mlp.2.bias": (d,)}
    shapes |= {"final_layer.linear.weight": (16, d), "final_layer.linear.bias": (16,)}
    shapes |= {
        "final_layer.adaLN_modulation.1.weight": (2 * d, d),
        "final_layer.adaLN_modulation.1.bias": (2 * d,),
    }
    return shapes


@pytest.mark.parametrize(("position_table", "count"), [(False, 3_762_072_592), (True, 3_875_318_800)])
def test_omnigen_v1_maps_one_to_one(position_table, count):
    cfg = TransformerConfig.omnigen_v1(position_table=position_table)
    model = parameter_shapes(lambda: Transformer(cfg, rngs=nnx.Rngs(0)))
    shapes = {path: leaf.shape for path, leaf in model.items()}
    assert sum(int(np.prod(shape)) for shape in shapes.values()) == count
    official = official_shapes(cfg)
    source = {name: hollow(shape) for name, shape in official.items()}
    rules = omnigen.RULES if position_table else omnigen.without_table(omnigen.RULES)
    found = engine.plan(source, rules, shapes)
    used = [piece.key for layers in found.values() for parts in layers for piece in parts]
    assert sorted(used) == sorted(official.keys() - (set() if position_table else {"pos_embed"}))
    back = engine.invert({path: hollow(shape) for path, shape in shapes.items()}, omnigen.RULES)
    assert {name: array.shape for name, array in back.items()} == {name: official[name] for name in used}


@pytest.mark.parametrize("cfg", [VAEConfig.sdxl(), VAEConfig.tiny(layers_per_block=2)])
def test_vae_rules_spell_every_parameter_backwards(cfg):
    from convert.jobs import vae_shapes

    shapes = vae_shapes(cfg)
    back = engine.invert({path: hollow(shape) for path, shape in shapes.items()}, vae_rules(cfg))
    assert engine.plan(back, vae_rules(cfg), shapes).keys() == shapes.keys()
    assert "encoder.mid_block.attentions.0.to_q.weight" in back


# ---- errors: one sentence that names the file and the fix, exit code 2, nothing written


def drop(folder, name):
    (folder / name).unlink()


def cut(folder, name):
    path = folder / name
    path.write_bytes(path.read_bytes()[:-1000])


def pickle_instead(folder):
    drop(folder, "model.safetensors")
    (folder / "model.pt").write_bytes(b"PK\x03\x04")


def lose_shard(folder):
    shard(folder)
    drop(folder, "model-00002-of-00002.safetensors")


def disagreeing_index(folder):
    shard(folder)
    path = folder / "model.safetensors.index.json"
    places = json.loads(path.read_text())["weight_map"]
    places.pop("llm.norm.weight")
    edit(path, weight_map=places)


def rope(folder, **changes):
    path = folder / "config.json"
    edit(path, rope_scaling=json.loads(path.read_text())["rope_scaling"] | changes)


def drop_tensors(*names):
    return lambda folder: rewrite(folder, lambda t: {k: v for k, v in t.items() if k not in names})


ERRORS = {
    "no weights": (lambda f: drop(f, "model.safetensors"), ["source has no model.safetensors; download it"]),
    "truncated": (
        lambda f: cut(f, "model.safetensors"),
        ["model.safetensors is truncated", "copy or download"],
    ),
    "truncated vae": (lambda f: cut(f, VAE_FILE), ["diffusion_pytorch_model.safetensors is truncated"]),
    "pickle": (pickle_instead, ["model.pt is a pickle", "run any code", "download model.safetensors"]),
    "lost shard": (lose_shard, ["lacks model-00002-of-00002.safetensors", "download"]),
    "bad index": (disagreeing_index, ["index.json and the shards", "disagree on llm.norm.weight"]),
    "no config": (lambda f: drop(f, "config.json"), ["neither config.json", "download the whole checkpoint"]),
    "broken config": (lambda f: (f / "config.json").write_text("{"), ["config.json is not valid JSON"]),
    "no tokenizer": (lambda f: drop(f, "tokenizer.json"), ["has no tokenizer.json; download tokenizer.json"]),
    "no vae": (lambda f: shutil.rmtree(f / "vae"), ["has no vae/ folder", "--vae"]),
    "no vae weights": (lambda f: drop(f, VAE_FILE), ["has no diffusion_pytorch_model.safetensors"]),
    "no vae config": (lambda f: drop(f, "vae/config.json"), ["vae/config.json cannot be read"]),
    "activation": (
        lambda f: edit(f / "config.json", hidden_act="gelu"),
        ["hidden_act is 'gelu', only 'silu'"],
    ),
    "rope type": (lambda f: rope(f, type="linear"), ["rope_scaling.type is 'linear'"]),
    "rope keys": (lambda f: rope(f, short_mscale=1.1), ["rope_scaling must have exactly the keys"]),
    "rope length": (lambda f: rope(f, short_factor=[1.0]), ["config.json: short_factor has 1 values"]),
    "rope values": (lambda f: rope(f, long_factor="x"), ["rope_scaling.long_factor is not a list"]),
    "partial rotary": (
        lambda f: edit(f / "config.json", partial_rotary_factor=0.5),
        ["partial_rotary_factor is 0.5"],
    ),
    "bias": (lambda f: edit(f / "config.json", attention_bias=True), ["attention_bias is True"]),
    "unknown key": (lambda f: edit(f / "config.json", num_experts=8), ["num_experts = 8 is unknown"]),
    "other model": (lambda f: edit(f / "config.json", model_type="llama"), ["model_type is 'llama'"]),
    "missing key": (
        lambda f: edit(f / "config.json", hidden_size=None),
        ["config.json: hidden_size is missing"],
    ),
    "wrong type": (lambda f: edit(f / "config.json", hidden_size="64"), ["hidden_size is '64'"]),
    "two at once": (
        lambda f: edit(f / "config.json", hidden_act="gelu", attention_bias=True),
        ["hidden_act", "attention_bias"],
    ),
    "vae key": (
        lambda f: edit(f / "vae/config.json", use_quant_conv=False),
        ["use_quant_conv is False, only True"],
    ),
    "vae blocks": (
        lambda f: edit(f / "vae/config.json", down_block_types=["AttnDownEncoderBlock2D"] * 4),
        ["down_block_types"],
    ),
    "more layers": (
        lambda f: edit(f / "config.json", num_hidden_layers=4),
        ["layers.attn.qkv.kernel: layers [3] are missing", "layers.mlp.down.kernel: layers [3] are missing"],
    ),
    "fewer layers": (lambda f: edit(f / "config.json", num_hidden_layers=2), ["layers [2] are too many"]),
    "width": (
        lambda f: edit(f / "config.json", intermediate_size=256),
        ["llm.layers.0.mlp.down_proj.weight gives (128, 64), the model wants (256, 64)"],
    ),
    "tensors lost": (
        drop_tensors("llm.norm.weight", "x_embedder.proj.bias"),
        ["norm.scale: missing, no tensor named llm.norm.weight", "target_embed.bias: missing"],
    ),
    "tensor unknown": (
        lambda f: rewrite(f, lambda t: t | {"lm_head.weight": np.zeros((2, 2), np.float32)}),
        ["lm_head.weight: no rule knows this tensor"],
    ),
    "integers": (
        lambda f: rewrite(f, lambda t: t | {"llm.norm.weight": np.zeros(64, np.int8)}),
        ["llm.norm.weight (int8)", "unquantised"],
    ),
    "types differ": (
        lambda f: rewrite(
            f, lambda t: t | {"llm.layers.1.mlp.down_proj.weight": np.zeros((64, 128), np.float16)}
        ),
        ["layers of layers.mlp.down.kernel differ in type; choose one with --dtype"],
    ),
    "two things": (
        lambda f: [drop_tensors("llm.norm.weight")(f), cut(f, "tokenizer.json"), drop(f, "vae/config.json")],
        ["norm.scale: missing", "tokenizer.json is not valid JSON", "vae/config.json"],
    ),
    "quantised": (
        lambda f: edit(f / "config.json", quantization_config={"bits": 4}),
        ["quantization_config"],
    ),
    "table shape": (
        lambda f: rewrite(f, lambda t: t | {"pos_embed": np.zeros((1, 4096, 64), np.float32)}),
        ["pos_embed gives (4096, 64), the model wants (36864, 64)"],
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_a_bad_source_is_named(source, tmp_path, capsys, case):
    harm, parts = ERRORS[case]
    harm(source)
    message = refused(capsys, "omnigen", source, tmp_path / "ours")
    for part in parts:
        assert part in message


def test_names_that_are_no_folder(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    message = refused(capsys, "omnigen", "Shitao/OmniGen-v1", tmp_path / "ours")
    assert "hf download Shitao/OmniGen-v1 --local-dir OmniGen-v1" in message
    assert len(message.splitlines()) == 1
    assert "does not exist" in refused(capsys, "omnigen", tmp_path / "nowhere", tmp_path / "ours")
    (tmp_path / "model.ckpt").write_bytes(b"PK\x03\x04")
    assert "is a pickle" in refused(capsys, "omnigen", tmp_path / "model.ckpt", tmp_path / "ours")
    assert "is a pickle" in refused(capsys, "vae", tmp_path / "model.ckpt", tmp_path / "ours")


def test_a_converted_folder_is_not_a_source(converted, tmp_path, capsys):
    assert "is converted already" in refused(capsys, "omnigen", converted, tmp_path / "ours")


def test_a_file_without_autoencoder_is_refused(tmp_path, capsys):
    save_file({"x": np.zeros(3, np.float32)}, tmp_path / "x.safetensors")
    assert "holds no autoencoder" in refused(capsys, "vae", tmp_path / "x.safetensors", tmp_path / "ours")


def test_vae_from_elsewhere(source, converted, tmp_path):
    shutil.move(source / "vae", tmp_path / "vae")
    assert run("omnigen", source, tmp_path / "ours", "--vae", tmp_path / "vae") == 0
    same_folders(tmp_path / "ours", converted)


def copied_adapter(tmp_path, change) -> Path:
    folder = tmp_path / "adapter"
    shutil.copytree(golden("dit_tiny/lora_attn"), folder, copy_function=shutil.copyfile)
    path = folder / "adapter_model.safetensors"
    tensors = change(load_file(path))
    path.unlink()
    save_file(tensors, path)
    return folder


ADAPTER_ERRORS = {
    "nothing matches": (
        lambda t: {key.replace("llm.layers", "unet.blocks"): array for key, array in t.items()},
        ["none of its 12 tensors targets this model", "unet.blocks"],
    ),
    "some unknown": (
        lambda t: (
            t | {"base_model.model.llm.layers.0.self_attn.to_q.lora_A.weight": np.ones((4, 64), np.float32)}
        ),
        ["self_attn.to_q.lora_A.weight: no linear layer"],
    ),
    "half missing": (
        lambda t: {k: v for k, v in t.items() if "o_proj.lora_B" not in k},
        ["layers.attn.out.lora_a: its partner layers.attn.out.lora_b is missing"],
    ),
    "layer missing": (
        lambda t: {k: v for k, v in t.items() if "layers.1.self_attn.o_proj" not in k},
        ["layers.attn.out.lora_a: layers [1] are missing"],
    ),
    "rank": (lambda t: {k: v[:2] if "lora_A" in k else v[:, :2] for k, v in t.items()}, ["rank 2", "says 4"]),
}


@pytest.mark.parametrize("case", ADAPTER_ERRORS)
def test_a_bad_adapter_is_named(tmp_path, capsys, case):
    change, parts = ADAPTER_ERRORS[case]
    folder = copied_adapter(tmp_path, lambda t: {k: np.ascontiguousarray(v) for k, v in change(t).items()})
    messages = [
        refused(capsys, "lora", folder, tmp_path / "ours"),
        refused(capsys, "omnigen", golden("ckpt_tiny"), tmp_path / "ours", "--lora", folder),
    ]
    for part in ("adapter_model.safetensors", *parts):
        assert all(part in message for message in messages)


def test_an_adapter_for_another_model_is_refused(tmp_path, capsys):
    folder = copied_adapter(
        tmp_path, lambda t: {k: np.ones((4, 32), np.float32) if "A" in k[-15:] else v for k, v in t.items()}
    )
    message = refused(capsys, "omnigen", golden("ckpt_tiny"), tmp_path / "ours", "--lora", folder)
    assert "is an adapter for another model" in message
    assert (
        "layers.attn.qkv: adapter of (3, 32, 4) x (3, 4, 192), the checkpoint's kernel is (3, 64, 192)"
        in message
    )


def test_adapter_folders_that_are_none(tmp_path, capsys):
    assert "no adapter folder" in refused(capsys, "lora", tmp_path / "nowhere", tmp_path / "ours")
    assert "is no adapter" in refused(capsys, "lora", golden("ckpt_tiny"), tmp_path / "ours")
    folder = copied_adapter(tmp_path, lambda t: t)
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    assert "adapter_model.bin is a pickle" in refused(capsys, "lora", folder, tmp_path / "ours")


# ---- unfinished work never looks finished


SLOW = """
    import signal, sys, time
    from convert import __main__, engine
    rows = engine.rows
    def slow(parts):
        for row in rows(parts):
            print("piece", flush=True)
            time.sleep(0.2)
            yield row
    engine.rows = slow
    signal.signal(signal.SIGTERM, __main__._terminate)
    sys.exit(__main__.main(sys.argv[1:]))
"""


@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_conversion_leaves_nothing_that_looks_finished(converted, tmp_path, stop):
    target = tmp_path / "kept"
    shutil.copytree(converted, target)
    command = [sys.executable, "-c", textwrap.dedent(SLOW), "omnigen", str(golden("ckpt_tiny")), str(target)]
    env = os.environ | {"PYTHONPATH": str(PROJECT)}
    with subprocess.Popen(
        [*command, "--overwrite"], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as job:
        for _ in range(5):
            assert job.stdout.readline() == b"piece\n"
        job.send_signal(stop)
        assert b"Traceback" not in job.communicate()[1]
    same_folders(target, converted)  # the old one is untouched
    left = [path for path in tmp_path.iterdir() if path != target]
    if stop != signal.SIGKILL:
        assert left == []
    for path in left:
        with pytest.raises(ValueError, match="has no config.json"):
            weights.read_config(path)


def test_an_existing_target_needs_overwrite(converted, tmp_path, capsys):
    target = tmp_path / "ours"
    assert run("omnigen", golden("ckpt_tiny"), target, "--dtype", "bfloat16") == 0
    assert "exists; choose another name or add --overwrite" in refused(
        capsys, "omnigen", golden("ckpt_tiny"), target
    )
    assert run("omnigen", golden("ckpt_tiny"), target, "--overwrite") == 0
    same_folders(target, converted)
    assert os.listdir(tmp_path) == ["ours"]


def test_a_failing_overwrite_keeps_the_old_one(source, converted, tmp_path, capsys):
    target = tmp_path / "ours"
    shutil.copytree(converted, target)
    drop(source, "tokenizer.json")
    assert "tokenizer.json" in refused(capsys, "omnigen", source, target, "--overwrite")
    same_folders(target, converted)


# ---- what is written down


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


def test_configs_read_back_what_they_write():
    for cfg in (
        TransformerConfig.tiny(),
        TransformerConfig.omnigen_v1(short_factor=(1.0,) * 48, long_factor=(2.0,) * 48),
    ):
        assert official_config(phi3_config(cfg), Path("config.json"), cfg.dtype) == cfg
    values = json.loads((golden("ckpt_tiny") / "vae/config.json").read_text())
    assert vae_config(values, Path("config.json")) == VAEConfig(block_out_channels=(32, 32, 64, 64))


def test_harmless_keys_change_nothing():
    values = json.loads((golden("ckpt_tiny") / "config.json").read_text())
    more = {
        "sliding_window": 262144,
        "_name_or_path": "x",
        "_attn_implementation": "sdpa",
        "torch_dtype": "float32",
    }
    assert official_config(values | more, Path("c"), "float32") == official_config(
        values, Path("c"), "float32"
    )


def test_a_tensor_met_by_two_rules_is_an_error():
    rules = (engine.Rule("a", "x"), engine.Rule("[ab]", "y"))
    with pytest.raises(ValueError, match="a: matched by several rules") as error:
        engine.plan({"a": hollow((2,)), "b": hollow((2,))}, rules, {"x": (2,), "y": (2,)})
    assert "x: missing" in str(error.value)


def test_a_target_filled_twice_is_an_error():
    rules = (engine.Rule("a", "x"), engine.Rule("b", "x"))
    with pytest.raises(ValueError, match="b: x is already filled by a"):
        engine.plan({"a": hollow((2,)), "b": hollow((2,))}, rules, {"x": (2,)})


def test_the_library_does_not_import_convert():
    files = [path for path in (PROJECT / "ditfuse_jax").rglob("*.py")]
    assert len(files) > 10
    pattern = re.compile(r"^\s*(?:from|import) convert\b", re.MULTILINE)
    # from-train is reached through the command line only; the library itself must not know the converter.
    assert [path.name for path in files if pattern.search(path.read_text())] == []


def test_exit_code_of_the_command_line(tmp_path):
    command = [sys.executable, "-m", "convert", "omnigen", str(tmp_path / "nowhere"), str(tmp_path / "ours")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT)
    assert done.returncode == 2
    assert done.stderr.startswith("convert omnigen: ")
    assert len(done.stderr.splitlines()) == 1


def test_jax_default_device_is_untouched():
    """Converting needs shapes only: no parameters are made on a device."""
    before = len(jax.live_arrays())
    parameter_shapes(lambda: Transformer(TransformerConfig.omnigen_v1(), rngs=nnx.Rngs(0)))
    assert len(jax.live_arrays()) - before < 10
