# SPDX-License-Identifier: Apache-2.0
"""Adapters against PEFT: merged, live, at initialisation; loss and gradient norms of the official code."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from cases import (
    PEFT_NAMES,
    adapter_of,
    build,
    config_of,
    model_of,
    padded_length,
    params_of,
    prompt_of,
    sources_of,
    targets_of,
    velocity,
)
from conftest import golden
from ditfuse_jax.config import LoraConfig
from ditfuse_jax.models import flow
from ditfuse_jax.models.lora import LoRAParam, merge
from ditfuse_jax.models.omnigen import Patches

LOSS_RTOL, NORM_RTOL, GRAD_ATOL = 1e-5, 1e-4, 1e-4


def lora_config(name: str) -> LoraConfig:
    peft = json.loads((golden(f"dit_tiny/{name}") / "adapter_config.json").read_text())
    targets = tuple(
        ours for ours, theirs in PEFT_NAMES.items() if theirs.split(".")[1] in peft["target_modules"]
    )
    return LoraConfig(rank=peft["r"], alpha=peft["lora_alpha"], rslora=peft["use_rslora"], targets=targets)


def live_model(name: str):
    lora = lora_config(name)
    return build(config_of("ckpt_tiny", lora=lora), params_of("ckpt_tiny") | adapter_of(name, 3))


@pytest.mark.parametrize("name", ["lora_attn", "lora_all"])
def test_merged_and_live_adapters(name):
    z, a = (
        np.load(golden(f"dit_tiny/{name}") / "merged_case_a.npz"),
        np.load(golden("dit_tiny") / "case_a.npz"),
    )
    merged = merge(params_of("ckpt_tiny"), adapter_of(name, 3), lora_config(name))
    out = velocity(build(config_of("ckpt_tiny"), merged), a, "", a["x"], a["timestep"])
    np.testing.assert_allclose(out, z["out"], atol=2e-5, rtol=0)
    live = velocity(live_model(name), a, "", a["x"], a["timestep"])
    np.testing.assert_allclose(live, z["out_unmerged_adapter"], atol=2e-5, rtol=0)
    checked = 0
    for key in z.files:
        if key.startswith("merged:"):
            ours = {f".{theirs}.weight": ours for ours, theirs in PEFT_NAMES.items()}
            path = next(ours for suffix, ours in ours.items() if key.endswith(suffix))
            layer = int(key.split("layers.")[1].split(".")[0])
            np.testing.assert_allclose(merged[f"layers.{path}.kernel"][layer].T, z[key], atol=1e-6, rtol=0)
            checked += 1
    assert checked


def test_adapter_at_initialisation_is_nothing():
    a = np.load(golden("dit_tiny") / "case_a.npz")
    model = live_model("lora_all")
    for path, leaf in nnx.to_flat_state(nnx.state(model, LoRAParam)):
        if path[-1] == "lora_b":
            leaf[...] = jnp.zeros_like(leaf[...])
    base = velocity(model_of("ckpt_tiny"), a, "", a["x"], a["timestep"])
    np.testing.assert_array_equal(velocity(model, a, "", a["x"], a["timestep"]), base)


def test_new_adapter_starts_with_zero_b_and_gaussian_a():
    from ditfuse_jax.config import TransformerConfig
    from ditfuse_jax.models.omnigen import Transformer

    cfg = TransformerConfig.tiny(lora=LoraConfig(rank=16, alpha=16.0))
    adapter = {
        ".".join(path): np.asarray(leaf[...])
        for path, leaf in nnx.to_flat_state(nnx.state(Transformer(cfg, rngs=nnx.Rngs(0)), LoRAParam))
    }
    assert len(adapter) == 8
    for path, value in adapter.items():
        if path.endswith("lora_b"):
            assert not value.any()
        else:
            np.testing.assert_allclose(value.std(), 1 / 16, rtol=0.1)


def test_base_filter_never_catches_the_adapter():
    assert not [
        path
        for path, _ in nnx.to_flat_state(nnx.state(live_model("lora_all"), nnx.Param))
        if "lora" in path[-1]
    ]


def test_scale_of_plain_and_rank_stabilised_lora():
    assert LoraConfig(rank=16, alpha=8.0).scale == 0.5
    assert LoraConfig(rank=16, alpha=8.0, rslora=True).scale == 2.0


def test_adapter_of_another_model_is_refused():
    adapter = adapter_of("lora_attn", 3)
    wide = {path: np.concatenate([a, a], axis=1) if path.endswith("a") else a for path, a in adapter.items()}
    with pytest.raises(ValueError, match="trained for another model"):
        merge(params_of("ckpt_tiny"), wide, lora_config("lora_attn"))
    with pytest.raises(ValueError, match=r"differ in layers\.mlp"):
        merge(params_of("ckpt_tiny"), adapter, LoraConfig(rank=4))


def tensor_batch(z):
    """x_0, x_1, t and the rest of the training case whose targets have one size."""
    return list(z["x0"][:, None]), list(z["x1"][:, None]), z["t"], "", None


def list_batch(z):
    noise = [z[f"list_x0_{i}"] for i in range(3)]
    return noise, [z[f"list_x1_{i}"] for i in range(3)], z["list_t"], "list_", None


def training_loss(z, batch):
    """A function model -> (mean loss, loss per sample) on a batch of the training case."""
    noise, clean, t, prefix, _ = batch
    (x_0, num_target), (x_1, _) = targets_of(noise), targets_of(clean)
    prompt, sources = prompt_of(z, prefix), sources_of(z, prefix)
    x_t = Patches(flow.interpolate(x_0.values, x_1.values, jnp.asarray(t)), x_0.place)

    def loss(model):
        shape = {"num_target": num_target, "rope_length": padded_length(prompt, x_t)}
        velocity = model(prompt, sources, x_t, jnp.asarray(t), **shape)
        each = flow.loss(velocity, x_0.values, x_1.values, num_target)
        return each.mean(), each

    return loss


def official_gradient(grads: dict, name: str) -> np.ndarray:
    """Our gradient under an official parameter name, in PyTorch's layout."""
    plain = {
        "x_embedder.proj.weight": "target_embed.kernel",
        "x_embedder.proj.bias": "target_embed.bias",
        "input_x_embedder.proj.weight": "source_embed.kernel",
        "time_token.mlp.0.weight": "time_token.hidden.kernel",
        "t_embedder.mlp.2.bias": "time_embed.out.bias",
        "final_layer.linear.weight": "final.out.kernel",
        "final_layer.adaLN_modulation.1.weight": "final.modulation.kernel",
        "llm.embed_tokens.weight": "embed.embedding",
        "llm.norm.weight": "norm.scale",
    }
    if name in plain:
        grad = grads[plain[name]]
        if "x_embedder.proj.weight" in name:
            return grad.reshape(2, 2, 4, -1).transpose(3, 2, 0, 1)
        return grad.T if plain[name].endswith("kernel") else grad
    layer, rest = name.split("llm.layers.")[1].split(".", 1)
    if "input_layernorm" in rest:
        return grads["layers.attn_norm.scale"][int(layer)]
    linear = next(ours for ours, theirs in PEFT_NAMES.items() if rest.startswith(theirs))
    part = "lora_a" if "lora_A" in rest else "lora_b" if "lora_B" in rest else "kernel"
    return grads[f"layers.{linear}.{part}"][int(layer)].T


def assert_gradients(model, wrt, z, batch, norms, saved):
    (_, _), grads = nnx.value_and_grad(training_loss(z, batch), argnums=nnx.DiffState(0, wrt), has_aux=True)(
        model
    )
    flat = {".".join(map(str, path)): np.asarray(leaf[...]) for path, leaf in nnx.to_flat_state(grads)}
    for name, norm in norms["grad_norms"].items():
        np.testing.assert_allclose(np.linalg.norm(official_gradient(flat, name)), norm, rtol=NORM_RTOL)
    total = np.sqrt(sum(np.square(leaf).sum() for leaf in flat.values()))
    np.testing.assert_allclose(total, norms["total_grad_norm"], rtol=NORM_RTOL)
    for name, expected in saved.items():
        np.testing.assert_allclose(official_gradient(flat, name), expected, atol=GRAD_ATOL, rtol=0)


@pytest.mark.parametrize(("kind", "make"), [("tensor", tensor_batch), ("list", list_batch)])
def test_training_loss_and_gradients(kind, make):
    z = np.load(golden("dit_tiny") / "case_train.npz")
    norms = json.loads((golden("dit_tiny") / "train_grad_norms.json").read_text())[kind]
    model = model_of("ckpt_tiny")
    mean, each = training_loss(z, make(z))(model)
    np.testing.assert_allclose(each, z[f"{kind}_loss_per_sample"], rtol=LOSS_RTOL)
    np.testing.assert_allclose(mean, z[f"{kind}_loss"], rtol=LOSS_RTOL)
    saved = {key.split(":")[1]: z[key] for key in z.files if key.startswith(f"{kind}_grad:")}
    assert saved or kind == "list"
    assert_gradients(model, nnx.Param, z, make(z), norms, saved)


@pytest.mark.parametrize("name", ["lora_attn", "lora_all"])
def test_training_loss_and_gradients_of_a_live_adapter(name):
    z = np.load(golden("dit_tiny") / "case_train.npz")
    norms = json.loads((golden("dit_tiny") / "train_grad_norms.json").read_text())[name]
    model = live_model(name)
    mean, each = training_loss(z, tensor_batch(z))(model)
    np.testing.assert_allclose(each, z[f"{name}_loss_per_sample"], rtol=LOSS_RTOL)
    np.testing.assert_allclose(mean, z[f"{name}_loss"], rtol=LOSS_RTOL)
    assert_gradients(model, LoRAParam, z, tensor_batch(z), norms, {})


def test_interpolation_and_velocity_agree():
    x_0, x_1 = jax.random.normal(jax.random.key(0), (2, 3, 5, 4))
    t = jnp.array([0.0, 0.5, 1.0])
    x_t = flow.interpolate(x_0, x_1, t)
    np.testing.assert_allclose(x_t[0], x_0[0])
    np.testing.assert_allclose(x_t[2], x_1[2])
    np.testing.assert_allclose(x_t[1] + 0.5 * (x_1 - x_0)[1], x_1[1], atol=1e-6)
