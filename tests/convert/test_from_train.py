# SPDX-License-Identifier: Apache-2.0
"""What a run trained, as the folders that infer.py and PyTorch's PEFT load."""

import dataclasses
import json

import jax
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file

import runs
from cases import config_of
from conftest import golden
from convert.__main__ import main as convert
from convert.from_train import proposed
from ditfuse_jax.checkpoints import folder as weights
from ditfuse_jax.checkpoints.adapter import HARMLESS, read_adapter
from ditfuse_jax.checkpoints.safetensors import open_tensors
from ditfuse_jax.config import LINEARS, CheckpointConfig, LoraConfig
from ditfuse_jax.data.config import Bucket
from ditfuse_jax.models.lora import merge
from ditfuse_jax.training import step as training
from ditfuse_jax.training.config import OptimConfig
from ditfuse_jax.training.initial import frozen_weights
from ditfuse_jax.training.resume import Checkpoints
from ditfuse_jax.training.sharding import make_mesh, parse_mesh


def saved(config, workdir, notes=None):
    """A run's workdir at step 3: random parameters, and an average that differs."""
    plain = dataclasses.replace(config, init="", optim=OptimConfig(), mixture=runs.config().mixture)
    params, _ = runs.weights(plain)
    state = training.new_state(params, config, make_mesh(parse_mesh("")))
    state = dataclasses.replace(state, ema={name: x + 1 for name, x in state.ema.items()})
    checkpoints = Checkpoints(workdir, keep=1)
    checkpoints.save(state, config, step=3, loss=None, notes=notes or {})
    checkpoints.wait()
    checkpoints.close()
    return jax.device_get(state)


def adapter_run(**optim):
    settings = json.loads((golden("dit_tiny/lora_all") / "adapter_config.json").read_text())
    lora = LoraConfig(rank=settings["r"], alpha=float(settings["lora_alpha"]), targets=LINEARS)
    model = config_of("ckpt_tiny", lora=lora)
    return dataclasses.replace(
        runs.config(optim=optim), model=model, tokenizer=str(golden("ckpt_tiny")), frozen_dtype="bfloat16"
    )


def test_a_trained_adapter_has_the_names_and_shapes_of_peft(tmp_path, caplog):
    state = saved(adapter_run(), tmp_path / "run")
    assert convert(["from-train", str(tmp_path / "run"), str(tmp_path / "ours")]) == 0
    assert "CheckpointManagerOptions" not in caplog.text
    assert convert(["export-lora", str(tmp_path / "ours"), str(tmp_path / "peft")]) == 0
    folder = golden("dit_tiny/lora_all")
    found, wanted = (load_file(place / "adapter_model.safetensors") for place in (tmp_path / "peft", folder))
    assert {name: (x.shape, x.dtype) for name, x in found.items()} == {
        name: (x.shape, x.dtype) for name, x in wanted.items()
    }
    settings, theirs = (
        json.loads((place / "adapter_config.json").read_text()) for place in (tmp_path / "peft", folder)
    )
    assert set(settings["target_modules"]) == set(theirs["target_modules"])
    for key in theirs.keys() & settings.keys() - HARMLESS:
        assert settings[key] == theirs[key], key
    kept = json.loads((tmp_path / "ours" / "adapter.json").read_text())["provenance"]
    assert kept["trained_at"] == sorted([b.height, b.width] for b in adapter_run().mixture.buckets)
    assert kept["trained_on"] == [{"path": "photos", "format": "photos", "names": None}]
    again = read_adapter(tmp_path / "peft")
    for name, value in state.params.items():
        np.testing.assert_array_equal(again.tensors[name], value)


def test_the_average_is_written_unless_raw_is_asked_for(tmp_path):
    state = saved(adapter_run(ema_decay=0.9), tmp_path / "run")
    for flags, wanted in (([], state.ema), (["--raw"], state.params)):
        target = tmp_path / f"adapter{len(flags)}"
        assert convert(["from-train", str(tmp_path / "run"), str(target), *flags]) == 0
        for name, value in read_adapter(target).tensors.items():
            np.testing.assert_array_equal(value, wanted[name])


def test_a_merged_adapter_is_a_whole_checkpoint(tmp_path):
    config = adapter_run()
    state = saved(config, tmp_path / "run")
    assert convert(["from-train", str(tmp_path / "run"), str(tmp_path / "whole"), "--merge"]) == 0
    frozen = jax.device_get(frozen_weights(config, make_mesh(parse_mesh(""))))  # without init: its seed's
    base = {name: value.astype(np.float32) for name, value in frozen.model.items()}
    expected = merge(base, state.params, config.model.lora)
    found = open_tensors(tmp_path / "whole" / weights.MODEL_FILE)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-6, err_msg=name)  # the same sum, elsewhere
    written = weights.read_config(tmp_path / "whole")
    assert written.model == dataclasses.replace(config.model, lora=None)
    buckets = sorted((bucket.height, bucket.width) for bucket in config.mixture.buckets)
    assert list(written.shapes.exact) == buckets
    assert written.sampling.max_side == written.shapes.max_side == max(map(max, buckets))


def as_base(folder, frozen, config, dtype):
    """A checkpoint folder of a run's frozen weights, moved off the values that bfloat16 has."""
    nudged = jax.tree.map(lambda x: (x.astype(np.float32) * 1.001).astype(dtype), frozen)
    settings = CheckpointConfig(model=dataclasses.replace(config.model, lora=None), vae=config.vae)
    weights.save_folder(
        folder,
        settings,
        model=nudged.model,
        vae=nudged.vae,
        tokenizer=golden("ckpt_tiny"),
        provenance={},
    )
    return nudged


@pytest.mark.parametrize(
    ("stored", "asked", "written"),
    [
        ("float32", None, "float32"),
        ("float16", None, "float16"),
        ("bfloat16", None, "bfloat16"),
        ("bfloat16", "float32", "float32"),
        ("float32", "bfloat16", "bfloat16"),
    ],
)
def test_an_adapter_is_merged_into_the_file_of_its_base(tmp_path, stored, asked, written):
    """The run kept its base in bfloat16; what is written is the base's own numbers, rounded once at most."""
    plain = adapter_run()
    base = as_base(tmp_path / "base", jax.device_get(runs.weights(plain)[1]), plain, stored)
    config = dataclasses.replace(plain, init=str(tmp_path / "base"))
    state = saved(config, tmp_path / "run")
    flags = ["--dtype", asked] if asked else []
    assert convert(["from-train", str(tmp_path / "run"), str(tmp_path / "whole"), "--merge", *flags]) == 0
    exact = {name: value.astype(np.float32) for name, value in base.model.items()}
    expected = merge(exact, state.params, config.model.lora)
    found = open_tensors(tmp_path / "whole" / weights.MODEL_FILE)
    for name, value in expected.items():
        assert found[name].dtype == written, name
        once = np.asarray(value).astype(written).astype(np.float32)
        last_bit = float(ml_dtypes.finfo(written).eps)  # the same sum, elsewhere, rounded to either side
        np.testing.assert_allclose(found[name].astype(np.float32), once, rtol=last_bit, err_msg=name)
    vae = open_tensors(tmp_path / "whole" / weights.VAE_FILE)
    for name, value in base.vae.items():
        np.testing.assert_array_equal(vae[name], value.astype(written), err_msg=name)


def test_a_folder_and_an_adapter_know_every_size_of_a_row(tmp_path):
    """Rows of one bucket have sizes of their own, see `Bucket`."""
    buckets = (
        Bucket(height=64, width=96, least_height=48, least_width=80),
        Bucket(height=48, width=96, weight=2.0),
    )
    config = adapter_run()
    config = dataclasses.replace(config, mixture=dataclasses.replace(config.mixture, buckets=buckets))
    sizes = [(48, 80), (48, 96), (64, 80), (64, 96)]
    known = proposed(config, {}).shapes
    assert list(known.exact) == sizes
    assert known.max_side == 96
    saved(config, tmp_path / "run")
    assert convert(["from-train", str(tmp_path / "run"), str(tmp_path / "adapter")]) == 0
    kept = json.loads((tmp_path / "adapter" / "adapter.json").read_text())["provenance"]
    assert kept["trained_at"] == [list(size) for size in sizes]


def test_a_side_that_the_run_did_not_train_is_not_proposed(tmp_path, capsys):
    saved(adapter_run(), tmp_path / "run")
    command = ["from-train", str(tmp_path / "run"), str(tmp_path / "whole"), "--merge", "--max-side", "4096"]
    assert convert(command) == 2
    assert "max_side 4096 is over" in capsys.readouterr().err
    assert not (tmp_path / "whole").exists()


def test_an_autoencoder_gets_shift_and_scale_of_its_codes(tmp_path):
    saved(runs.config(stage="vae"), tmp_path / "run", notes={"code_mean": 0.5, "code_spread": 4.0})
    assert convert(["from-train", str(tmp_path / "run"), str(tmp_path / "vae")]) == 0
    cfg, _ = weights.read_vae_folder(tmp_path / "vae")
    assert (cfg.shift_factor, cfg.scaling_factor) == (0.5, 0.25)


@pytest.mark.parametrize(
    ("flags", "message"), [([], "has no checkpoints"), (["--step", "7"], "step 7; it has [3]")]
)
def test_a_step_that_is_not_there_is_an_error(tmp_path, capsys, flags, message):
    if flags:
        saved(runs.config(stage="vae"), tmp_path / "run")
    assert convert(["from-train", str(tmp_path / "run"), str(tmp_path / "out"), *flags]) == 2
    assert message in capsys.readouterr().err
