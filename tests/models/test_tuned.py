# SPDX-License-Identifier: Apache-2.0
"""Every tuning of the transformer against the plain computation: values, gradients, with and without LoRA."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from ditfuse_jax.config import LoraConfig, TransformerConfig
from ditfuse_jax.models import outline
from ditfuse_jax.models.omnigen import Patches, Transformer, patchify, row_length
from ditfuse_jax.ops import kernels
from ditfuse_jax.ops.tuning import Tuning
from ditfuse_jax.prompt import Prompt

TUNINGS = {"accelerators": Tuning.choose("gpu", 1), "one cpu": Tuning.choose("cpu", 1)}
ROWS, TEXT, PATCHES = 2, 5, 6  # a row is TEXT words, two sources and a target of 2 x 3 patches each


def config(adapter: bool, **changes) -> TransformerConfig:
    lora = LoraConfig(rank=4, alpha=8.0) if adapter else None
    return TransformerConfig.tiny(num_layers=2, num_kv_heads=2, lora=lora, **changes)


def inputs():
    """Prompt, sources, target and t of ROWS rows, the second with three tokens of padding."""
    rng = np.random.default_rng(0)
    length, padding = TEXT + 2 * PATCHES, np.array([0, 3], np.int32)
    start = np.array([[3], [3]])
    slots = np.stack([np.concatenate([start, start + PATCHES], 1), np.full((ROWS, 2), 0)], 1)
    slots[:, 1] = slots[:, 0] + PATCHES + 1
    visible = np.tile(np.arange(1, length + 1, dtype=np.int32), (ROWS, 1))
    for first, last in slots[0]:
        visible[:, first:last] = last
    positions = np.maximum(np.arange(length)[None] - padding[:, None], 0).astype(np.int32)
    ids = rng.integers(0, 512, (ROWS, length), dtype=np.int32)
    prompt = Prompt(ids, positions, visible, padding, slots.astype(np.int32))
    first, second, target = (
        patchify(jnp.asarray(x)) for x in rng.standard_normal((3, ROWS, 4, 6, 4), dtype=np.float32)
    )
    sources = Patches(*(jnp.concatenate(pair, 1) for pair in zip(first, second, strict=True)))
    return prompt, sources, target, jnp.array([0.2, 0.8])


def objective(state, graph):
    """Loss and velocities: in one pass, and through the prefix cache."""
    model, (prompt, sources, target, t) = nnx.merge(graph, state), inputs()
    num_target = np.full(ROWS, PATCHES, np.int32)
    shape = {"num_target": num_target, "rope_length": row_length(prompt, num_target)}
    whole = model(prompt, sources, target, t, **shape)
    cache = model.prefix(prompt, sources, rope_length=shape["rope_length"])
    cached = model.velocity(target, t, cache, prompt, **shape)
    return jnp.square(whole).mean() + jnp.square(cached - 1).mean(), (whole, cached)


@functools.partial(jax.jit, static_argnames="graph")
def run(state, graph):
    return jax.value_and_grad(objective, has_aux=True)(state, graph)


@functools.cache
def random_state(adapter: bool) -> nnx.State:
    """Weights of which none is zero, adapters and the last layer included."""
    state = nnx.state(Transformer(config(adapter), rngs=nnx.Rngs(0)))
    keys = iter(jax.random.split(jax.random.key(1), len(jax.tree.leaves(state))))
    return jax.tree.map(lambda x: x + 0.05 * jax.random.normal(next(keys), x.shape), state)


def found(adapter: bool, tuning: Tuning, **changes):
    cfg = config(adapter, **changes)
    graph = nnx.split(outline.transformer(cfg, tuning=tuning))[0]
    return run(random_state(adapter), graph)


@functools.cache
def expected(adapter: bool):
    return found(adapter, Tuning(attention="plain"))


def assert_same(got, want):
    leaves = list(zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True))
    assert len(leaves) > 20
    for ours, plain in leaves:
        # relative to the largest of an array: sums of the same float32 numbers in another order
        np.testing.assert_allclose(ours, plain, rtol=0, atol=2e-5 * np.abs(plain).max())


@pytest.mark.parametrize("adapter", [False, True], ids=["base", "lora"])
@pytest.mark.parametrize("name", TUNINGS)
def test_every_tuning_equals_the_plain_computation(name, adapter):
    assert_same(found(adapter, TUNINGS[name]), expected(adapter))


def test_a_kernel_that_takes_one_run_of_keys_equals_the_plain_computation(monkeypatch):
    monkeypatch.setattr(kernels, "usable", lambda *_: True)
    xla = functools.partial(kernels.one_run_attention, implementation="xla")  # in cuDNN's place
    monkeypatch.setattr(kernels, "one_run_attention", xla)
    assert_same(found(False, Tuning(attention="cudnn")), expected(False))


@pytest.mark.parametrize("remat", ["attention", "block"])
def test_what_is_recomputed_changes_nothing(remat):
    assert_same(found(True, TUNINGS["one cpu"], remat=remat), expected(True))
