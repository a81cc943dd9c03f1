# SPDX-License-Identifier: Apache-2.0
"""Bad sources: one sentence that names the file and the fix, exit code 2, nothing written."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from conftest import golden
from conversion import (  # noqa: F401
    VAE_FILE,
    converted_folder,
    drop,
    edit,
    refused,
    rewrite,
    run,
    shard,
    source_folder,
    table,
)


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


def shards_at(name):
    """The index names a shard elsewhere: a whole copy of the weights, so that following it would succeed."""

    def harm(folder):
        shard(folder)
        (folder.parent / "elsewhere").mkdir()
        for file in folder.glob("model-*.safetensors"):
            shutil.copyfile(file, folder.parent / "elsewhere" / file.name)
        path = folder / "model.safetensors.index.json"
        places = json.loads(path.read_text())["weight_map"]
        place = name.format(parent=folder.parent)
        edit(path, weight_map={key: place + file for key, file in places.items()})

    return harm


ERRORS = {
    "shards above": (shards_at("../elsewhere/"), ["names the shard '../elsewhere/model-", "no file name"]),
    "absolute shards": (shards_at("{parent}/elsewhere/"), ["elsewhere/model-", "which is no file name"]),
    "shards of Windows": (shards_at("..\\elsewhere\\"), ["names the shard", "no file name"]),
    "shard of no name": (
        lambda f: (shard(f), edit(f / "model.safetensors.index.json", weight_map={"a": 1})),
        ["names the shard 1, which is no file name"],
    ),
    "huge sizes": (lambda f: edit(f / "config.json", hidden_size=10**11), ["width 100000000000 is not a"]),
    "huge layers": (
        lambda f: edit(f / "config.json", num_hidden_layers=10**9),
        ["num_layers 1000000000 is not a whole number from 1 to 10,000"],
    ),
    "huge number": (
        lambda f: edit(f / "config.json", rope_theta=10**400),
        ["rope_theta is an integer of 1329 bits, which is not a positive number"],
    ),
    "half a layer": (lambda f: edit(f / "config.json", num_hidden_layers=1.5), ["num_layers 1.5 is not a"]),
    "deep config": (
        lambda f: (f / "config.json").write_text('{"a":' * 100_000),
        ["config.json is nested too deeply"],
    ),
    "long values": (
        lambda f: edit(f / "config.json", hidden_act="x" * 10**6, **{"y" * 10**6: 1}),
        ["hidden_act is 'xxx", "more characters"],
    ),
    "nested blocks": (
        lambda f: edit(f / "vae/config.json", down_block_types=[["DownEncoderBlock2D"]]),
        ["down_block_types is [["],
    ),
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
    assert len(message) < 3200


def test_names_that_are_no_folder(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    message = refused(capsys, "omnigen", "hf:Shitao/OmniGen-v1", tmp_path / "ours")
    assert "hf download Shitao/OmniGen-v1 --local-dir OmniGen-v1" in message
    assert len(message.splitlines()) == 1
    assert "does not exist" in refused(capsys, "omnigen", tmp_path / "nowhere", tmp_path / "ours")
    (tmp_path / "model.ckpt").write_bytes(b"PK\x03\x04")
    assert "is a pickle" in refused(capsys, "omnigen", tmp_path / "model.ckpt", tmp_path / "ours")
    assert "is a pickle" in refused(capsys, "vae", tmp_path / "model.ckpt", tmp_path / "ours")


@pytest.mark.parametrize(
    "name", ["Shitao/OmniGen-v1", "checkpoint/omnigen", "omnigen", "hf:omnigen", "hf:../x"]
)
def test_nothing_is_fetched_unasked(tmp_path, capsys, monkeypatch, name):
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: pytest.fail("went to the hub"))
    message = refused(capsys, "omnigen", name, tmp_path / "ours")
    assert "is no hub id; write hf:owner/name" in message or "does not exist; name a folder" in message


def test_a_converted_folder_is_not_a_source(converted, tmp_path, capsys):
    assert "is converted already" in refused(capsys, "omnigen", converted, tmp_path / "ours")


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


def changed(part: str, **values):
    """Tensors whose first one with `part` in its name is in another dtype or holds another first value."""

    def change(tensors):
        name = next(name for name in tensors if part in name)
        array = tensors[name].astype(values.get("dtype", "float32"))
        if "first" in values:
            array.flat[0] = values["first"]
        return tensors | {name: array}

    return change


ADAPTER_ERRORS |= {
    "nan": (changed("lora_B", first=np.nan), ["lora_B.weight holds NaN or infinity"]),
    "infinite": (changed("lora_A", first=np.inf), ["lora_A.weight holds NaN or infinity"]),
    "integers": (changed("lora_A", dtype="int8"), ["lora_A.weight is int8, none of float32"]),
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


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("lora_alpha", None, "lora_alpha is None, which is not a positive number"),
        ("lora_alpha", 2**2000, "lora_alpha is an integer of 2001 bits, which is not a positive number"),
        ("r", 10**12, "r is 1000000000000, which is not a positive whole number"),
        ("lora_alpha", float("nan"), "lora_alpha is nan"),
        ("lora_alpha", -1, "lora_alpha is -1"),
        ("r", "4", "r is '4', which is not a positive whole number"),
        ("r", 4.5, "r is 4.5"),
        ("use_rslora", "yes", "use_rslora is 'yes', which is not true or false"),
    ],
)
def test_settings_of_an_adapter_have_their_types(tmp_path, capsys, key, value, message):
    folder = copied_adapter(tmp_path, lambda t: t)
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    assert message in refused(capsys, "lora", folder, tmp_path / "ours")


@pytest.mark.parametrize("file", ["model.safetensors", VAE_FILE])
def test_weights_that_are_not_finite_are_not_converted(source, tmp_path, capsys, file):
    path = source / file
    tensors = load_file(path)
    name = next(name for name, array in tensors.items() if array.ndim > 1)
    tensors[name] = tensors[name].copy()
    tensors[name].flat[-1] = np.nan
    path.unlink()
    save_file(tensors, path)
    assert "would hold NaN or infinity" in refused(capsys, "omnigen", source, tmp_path / "ours")
    assert not (tmp_path / "ours").exists()


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
