# SPDX-License-Identifier: Apache-2.0
"""The tensor file, the checkpoint folder and the adapter folder: exact, in place, sharded, and strict."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from conftest import golden
from ditfuse_jax.checkpoints import folder as weights
from ditfuse_jax.checkpoints.adapter import Adapter, check_peft, read_adapter, save_adapter, to_peft
from ditfuse_jax.checkpoints.flat import parameter_shapes
from ditfuse_jax.checkpoints.safetensors import open_tensors, save_tensors
from ditfuse_jax.checkpoints.target import new_folder
from ditfuse_jax.config import CheckpointConfig, LoraConfig, TransformerConfig, VAEConfig
from ditfuse_jax.models import outline

CONFIG = CheckpointConfig(model=TransformerConfig.tiny(), vae=VAEConfig.tiny())
KERNEL = "layers.attn.qkv.kernel"


def shapes(cfg=CONFIG.model):
    return parameter_shapes(outline.transformer(cfg))


def random_params(wanted, dtype=np.float32, seed=0):
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal(leaf.shape).astype(dtype) for name, leaf in wanted.items()}


def same_bits(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


@pytest.fixture
def folder(tmp_path):
    """A complete checkpoint folder of random weights."""
    target = tmp_path / "checkpoint"
    params = random_params(shapes())
    vae = {"encoder.bias": np.zeros(3, np.float32)}
    weights.save_folder(
        target, CONFIG, model=params, vae=vae, tokenizer=golden("ckpt_tiny"), provenance={"source": "test"}
    )
    return target


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_tensor_file_agrees_with_the_safetensors_package(tmp_path, dtype):
    tensors = random_params({"a.b": np.zeros((3, 5)), "c": np.zeros(64), "d": np.zeros(())}, dtype)
    save_tensors(tmp_path / "ours", tensors, {"format": "pt"})
    save_file(tensors, tmp_path / "theirs")
    for mine, other in (
        (load_file(tmp_path / "ours"), tensors),
        (open_tensors(tmp_path / "theirs"), tensors),
    ):
        assert mine.keys() == other.keys()
        assert all(same_bits(np.asarray(mine[name]), other[name]) for name in other)


def test_large_tensors_are_aligned_so_that_xla_can_use_them_in_place(folder):
    for name, array in open_tensors(folder / "model.safetensors").items():
        assert array.ctypes.data % 64 == 0, name


def test_writing_to_a_mapped_tensor_leaves_the_file_alone(folder):
    before = (folder / "model.safetensors").read_bytes()
    open_tensors(folder / "model.safetensors")[KERNEL][:] = 7
    assert (folder / "model.safetensors").read_bytes() == before


def test_load_gives_back_what_was_saved(folder):
    loaded = weights.load_params(folder / "model.safetensors", shapes())
    expected = random_params(shapes())
    assert all(same_bits(np.asarray(loaded[name]), expected[name]) for name in expected)
    assert weights.read_config(folder) == CONFIG
    assert weights.read_folder(folder)[1] == {"source": "test"}


def test_load_casts_to_the_dtype_of_the_model(folder):
    path = folder / "model.safetensors"
    low = {name: jax.ShapeDtypeStruct(leaf.shape, jnp.bfloat16) for name, leaf in shapes().items()}
    loaded = weights.load_params(path, low)
    expected = random_params(shapes())
    for name in expected:
        assert same_bits(np.asarray(loaded[name]), expected[name].astype(ml_dtypes.bfloat16))
    whole = low | {KERNEL: jax.ShapeDtypeStruct(low[KERNEL].shape, jnp.int8)}
    with pytest.raises(ValueError, match=f"{KERNEL}: the file has float32, the model wants int8"):
        weights.load_params(path, whole)


@pytest.mark.skipif(
    jax.default_backend() != "cpu", reason="in-place use of host memory is a property of the CPU"
)
def test_load_on_cpu_does_not_copy_and_donation_does_not_touch_the_file(folder):
    before = (folder / "model.safetensors").read_bytes()
    kernel = weights.load_params(folder / "model.safetensors", shapes())[KERNEL]
    maps = [line.split() for line in Path("/proc/self/maps").read_text().splitlines() if str(folder) in line]
    spans = [[int(end, 16) for end in line[0].split("-")] for line in maps]
    assert any(start <= kernel.unsafe_buffer_pointer() < stop for start, stop in spans)
    doubled = jax.jit(lambda x: 2 * x, donate_argnums=0)(kernel)
    np.testing.assert_array_equal(doubled, 2 * random_params(shapes())[KERNEL])
    assert (folder / "model.safetensors").read_bytes() == before


def test_a_sharded_load_holds_one_eighth_on_each_of_8_devices(folder):
    code = f"""
        import jax, numpy as np
        from pathlib import Path
        from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
        from ditfuse_jax.checkpoints import folder as weights
        path = Path({str(folder)!r}) / "model.safetensors"
        stored = weights.open_tensors(path)
        mesh = Mesh(np.array(jax.devices()), ("fsdp",))
        axis = lambda a: next(i for i in reversed(range(a.ndim)) if a.shape[i] % 8 == 0)
        places = {{n: NamedSharding(mesh, P(*[None] * axis(a), "fsdp")) for n, a in stored.items()}}
        loaded = weights.load_params(path, stored, places)
        held = [0] * 8
        for name, array in loaded.items():
            assert np.array_equal(array, stored[name]), name
            for shard in array.addressable_shards:
                held[shard.device.id] += shard.data.nbytes
        assert len(jax.devices()) == 8 and set(held) == {{sum(a.nbytes for a in stored.values()) // 8}}, held
        print("one eighth each")
    """
    env = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=env,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
    assert "one eighth each" in done.stdout


def test_all_misfits_come_in_one_error(folder):
    wanted = shapes()
    wanted["unheard.of"] = wanted.pop("norm.scale")
    wanted[KERNEL] = jax.ShapeDtypeStruct((2, 64, 192), jnp.float32)
    with pytest.raises(ValueError, match="does not fit its config.json") as error:
        weights.load_params(folder / "model.safetensors", wanted)
    for part in (
        "unheard.of: missing",
        "norm.scale: the model has no",
        f"{KERNEL}: the file has (3, 64, 192)",
    ):
        assert part in str(error.value)


def cut(path, keep):
    path.write_bytes(path.read_bytes()[:keep])


DAMAGES = {
    "cut in the data": (lambda path: cut(path, path.stat().st_size - 100), "truncated"),
    "cut in the header": (lambda path: cut(path, 200), "truncated"),
    "empty": (lambda path: cut(path, 0), "truncated"),
    "garbage": (lambda path: path.write_bytes(b"\x07" * 5000), "truncated or not a safetensors file"),
    "header is no JSON": (
        lambda path: path.write_bytes((16).to_bytes(8, "little") + b"x" * 99),
        "cannot be read",
    ),
    "unknown dtype": (
        lambda path: path.write_bytes(path.read_bytes().replace(b'"F32"', b'"F3?"')),
        "has type F3?",
    ),
    "LFS pointer": (
        lambda path: path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n"),
        "git lfs pull",
    ),
    "pickle": (lambda path: path.write_bytes(b"PK\x03\x04" + bytes(99)), "pickle"),
    "gone": (lambda path: path.unlink(), "is missing"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_files_are_named(folder, damage):
    path = folder / "model.safetensors"
    harm, message = DAMAGES[damage]
    harm(path)
    with pytest.raises(ValueError, match="model.safetensors") as error:
        weights.load_params(path, shapes())
    assert message in str(error.value)


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_nan_is_found_where_asked_for(tmp_path, dtype, value):
    params = random_params(shapes(), dtype)
    path = tmp_path / "model.safetensors"
    save_tensors(path, params, {})
    weights.load_params(path, shapes(), check_finite=True)
    params[KERNEL][1, 2, 3] = value
    save_tensors(path, params, {})
    with pytest.raises(ValueError, match=f"NaN or infinity in {KERNEL}"):
        weights.load_params(path, shapes(), check_finite=True)


def edit_json(path, **changes):
    values = json.loads(path.read_text()) | changes
    path.write_text(json.dumps(values))


def test_a_folder_says_what_it_is_not(folder, tmp_path):
    with pytest.raises(ValueError, match="no checkpoint folder .*nowhere"):
        weights.read_config(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="lora="):
        weights.read_config(golden("dit_tiny/lora_attn"))
    with pytest.raises(ValueError, match="convert omnigen"):
        weights.read_config(golden("ckpt_tiny"))
    edit_json(folder / "config.json", version=99)
    with pytest.raises(ValueError, match="version 99"):
        weights.read_config(folder)
    edit_json(folder / "config.json", version=1, speed=3)
    with pytest.raises(ValueError, match="unknown key 'speed'"):
        weights.read_config(folder)
    (folder / "config.json").write_text('{"format": ')
    with pytest.raises(ValueError, match="config.json is not valid JSON"):
        weights.read_config(folder)


def test_an_existing_folder_is_refused_then_replaced_whole(folder):
    save = {
        "model": random_params(shapes(), seed=1),
        "vae": {},
        "tokenizer": golden("ckpt_tiny"),
        "provenance": {},
    }
    with pytest.raises(ValueError, match="exists; .*--overwrite"):
        weights.save_folder(folder, CONFIG, **save)
    weights.save_folder(folder, CONFIG, **save, overwrite=True)
    assert same_bits(open_tensors(folder / "model.safetensors")[KERNEL], save["model"][KERNEL])
    assert os.listdir(folder.parent) == ["checkpoint"]


def test_overwrite_does_not_delete_a_folder_of_something_else(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").write_bytes(b"1")
    with (
        pytest.raises(ValueError, match="not a folder that this library wrote"),
        new_folder(tmp_path / "photos", sources=[], overwrite=True),
    ):
        pass
    assert (tmp_path / "photos" / "cat.png").exists()


def test_a_failed_swap_brings_the_old_folder_back(folder, monkeypatch):
    before = (folder / "config.json").read_text()
    rename = os.rename

    def full(source, target):
        if ".partial-" in str(source):
            raise OSError(28, "No space left on device")
        rename(source, target)

    def replace():
        with new_folder(folder, sources=[], overwrite=True) as partial:
            (partial / "config.json").write_text("{}")

    monkeypatch.setattr(os, "rename", full)
    with pytest.raises(ValueError, match="cannot be written: No space left"):
        replace()
    assert (folder / "config.json").read_text() == before
    assert os.listdir(folder.parent) == ["checkpoint"]


def test_a_block_that_raises_leaves_nothing(tmp_path):
    def fail():
        with new_folder(tmp_path / "new", sources=[]) as partial:
            (partial / "model.safetensors").write_bytes(b"half")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["lora_attn", "lora_all"])
def test_an_adapter_is_the_same_in_both_kinds_of_folder(tmp_path, name):
    source = golden(f"dit_tiny/{name}")
    peft = read_adapter(source)
    assert peft.lora.rank == 4
    assert peft.lora.scale == 2.0
    save_adapter(tmp_path / "own", peft.lora, peft.tensors, provenance=peft.provenance)
    own = read_adapter(tmp_path / "own")
    assert own.lora == peft.lora
    assert all(same_bits(own.tensors[key], peft.tensors[key]) for key in peft.tensors)
    settings, tensors = to_peft(own)
    stored = load_file(source / "adapter_model.safetensors")
    assert settings == json.loads((source / "adapter_config.json").read_text())
    assert tensors.keys() == stored.keys()
    assert all(same_bits(tensors[key], stored[key]) for key in stored)


@pytest.mark.parametrize("shape", [(3, 4), (3, 64, 8)])
def test_an_adapter_of_another_rank_than_it_says_is_refused(tmp_path, shape):
    peft = read_adapter(golden("dit_tiny/lora_attn"))
    tensors = peft.tensors | {"layers.attn.out.lora_a": np.ones(shape, np.float32)}
    save_adapter(tmp_path / "own", peft.lora, tensors, provenance={})
    with pytest.raises(ValueError, match="says rank 4, and adapter.safetensors holds layers.attn.out.lora_a"):
        read_adapter(tmp_path / "own")


def test_an_adapter_trained_here_gets_settings_that_read_back(tmp_path):
    lora = LoraConfig(rank=4, alpha=2.0, rslora=True, targets=("attn.out",))
    tensors = {"layers.attn.out.lora_a": np.ones((3, 64, 4), np.float32)}
    tensors["layers.attn.out.lora_b"] = np.ones((3, 4, 64), np.float32)
    settings, arrays = to_peft(Adapter(tensors, lora, {}))
    (tmp_path / "adapter_config.json").write_text(json.dumps(settings))
    save_tensors(tmp_path / "adapter_model.safetensors", arrays, {"format": "pt"})
    assert read_adapter(tmp_path).lora == lora


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("use_dora", True),
        ("bias", "all"),
        ("modules_to_save", ["x_embedder"]),
        ("alpha_pattern", {"o_proj": 2}),
        ("rank_pattern", {"o_proj": 2}),
        ("fan_in_fan_out", True),
        ("layers_to_transform", [0]),
        ("layer_replication", [[0, 2]]),
        ("init_lora_weights", "pissa"),
        ("peft_type", "LOHA"),
        ("lora_bias", True),
        ("brand_new_setting", "on"),
    ],
)
def test_settings_that_matter_are_refused(tmp_path, key, value):
    settings = json.loads((golden("dit_tiny/lora_attn") / "adapter_config.json").read_text())
    check_peft(settings, tmp_path / "adapter_config.json")
    with pytest.raises(ValueError, match=f"adapter_config.json: {key} is"):
        check_peft(settings | {key: value}, tmp_path / "adapter_config.json")
