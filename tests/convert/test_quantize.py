# SPDX-License-Identifier: Apache-2.0
"""int8 folders: what is in them, how near they are, what is refused."""

import dataclasses
import math

import jax.numpy as jnp
import numpy as np
import pytest

import runs
from conftest import golden
from conversion import converted_folder, refused, run, same_bits  # noqa: F401
from convert import quantize
from ditfuse_jax import DiTFuse, image, places
from ditfuse_jax.checkpoints import folder as weights
from ditfuse_jax.checkpoints.adapter import read_adapter
from ditfuse_jax.checkpoints.flat import parameter_shapes
from ditfuse_jax.checkpoints.safetensors import open_tensors
from ditfuse_jax.config import DEMO, TransformerConfig, VAEConfig
from ditfuse_jax.models import outline
from ditfuse_jax.training.start import with_folders

ADAPTER = "dit_tiny/lora_all"


@pytest.fixture(name="small", scope="module")
def small_folder(converted, tmp_path_factory):
    target = tmp_path_factory.mktemp("int8") / "checkpoint"
    quantize.quantize(converted, target)
    return target


def test_kernels_of_blocks_are_int8_and_the_rest_as_it_was(converted, small):
    before, after = (open_tensors(one / weights.MODEL_FILE) for one in (converted, small))
    assert {name for name, array in after.items() if array.dtype == np.int8} == set(quantize.KERNELS)
    assert after.keys() - before.keys() == set(quantize.KERNELS.values())
    assert all(same_bits(before[name], after[name]) for name in before.keys() - quantize.KERNELS.keys())
    assert (converted / weights.VAE_FILE).read_bytes() == (small / weights.VAE_FILE).read_bytes()
    assert weights.read_folder(small)[1]["quantized_from"] == str(converted)


def test_the_command_prints_the_error_of_each_block_and_of_the_latents(converted, tmp_path, capsys):
    assert run("quantize", converted, tmp_path / "int8") == 0
    _, *blocks, latents, wrote = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in blocks] == ["0", "1", "2"]
    assert all(0 < float(error) < 3 for line in blocks for error in line.split()[1:])
    assert 0 < float(latents.split()[-5]) < 3
    assert wrote == f"wrote {tmp_path / 'int8'}"


def test_the_released_size_is_under_five_gigabytes():
    cfg = TransformerConfig.omnigen_v1(int8=True)
    model = parameter_shapes(outline.transformer(cfg, param_dtype=jnp.bfloat16))
    vae = parameter_shapes(outline.vae(VAEConfig.sdxl()))
    size = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in [*model.values(), *vae.values()])
    assert model["layers.mlp.down.kernel"].dtype == jnp.int8
    assert 3.6e9 < size < 5e9


def test_an_adapter_beside_int8_is_the_one_merged_into_the_weights(converted, small):
    lora = golden(ADAPTER)
    merged, beside = DiTFuse.load(converted, lora=lora), DiTFuse.load(small, lora=lora)
    values, moved = quantize.activation_errors(merged, beside)
    assert values.max() < 0.03
    assert moved < 0.03
    one = read_adapter(lora).tensors["layers.mlp.down.lora_b"]
    assert np.abs(one).max() > 0  # it is not the adapter of before the first step


def test_the_demo_is_as_near_to_the_truth(tmp_path):
    quantize.quantize(DEMO, tmp_path / "demo")
    truth = image.read(places.folder("examples") / "mff" / "image1.jpg")[:256, :256]
    light = np.clip(truth * 1.8, 0, 255).astype(np.uint8)
    pair = [light, (truth * 0.55).astype(np.uint8)]

    def psnr(folder):
        made = DiTFuse.load(folder).fuse(pair, task="mef", steps=1, noises=1, fidelity=0.0)
        return -10 * math.log10(np.square((made.image - truth.astype(np.float64)) / 255).mean())

    exact = psnr(DEMO)
    assert exact > 20
    assert abs(psnr(tmp_path / "demo") - exact) < 0.2


def test_what_int8_cannot_do_is_said_in_one_sentence(small, tmp_path, capsys):
    for command in ("quantize", "export"):
        message = refused(capsys, command, small, tmp_path / "again")
        assert message.count("\n") == 1
        assert "holds int8 weights" in message
    config = dataclasses.replace(runs.config(lora=True), init=str(small))
    with pytest.raises(ValueError, match="holds int8 weights, which do not train; start from the folder"):
        with_folders(config)


def test_an_adapter_of_another_shape_is_refused(small, monkeypatch):
    adapter = read_adapter(golden(ADAPTER))
    name = "layers.attn.qkv.lora_a"
    wrong = adapter._replace(tensors=adapter.tensors | {name: adapter.tensors[name][:, 1:]})
    monkeypatch.setattr("ditfuse_jax.inference.fuse.read_adapter", lambda _: wrong)
    with pytest.raises(ValueError, match="does not fit the kernel.*it was trained for another model"):
        DiTFuse.load(small, lora="adapter")
