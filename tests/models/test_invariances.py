# SPDX-License-Identifier: Apache-2.0
"""What must not change the answer of the transformer: batch mates, padding, the cache. And its patches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from cases import (
    abstract,
    build,
    config_of,
    params_of,
    velocity,
)
from conftest import golden
from convert.omnigen import RULES
from ditfuse_jax.config import TransformerConfig
from ditfuse_jax.models.blocks import rope, run_blocks
from ditfuse_jax.models.flow import Guidance, branches, guide
from ditfuse_jax.models.mask import attention_mask
from ditfuse_jax.models.omnigen import Patches, Transformer, patchify, row_length, source_index, unpatchify
from ditfuse_jax.prompt import Prompt, collate


def tiny(**changes) -> Transformer:
    """A random model whose output is not zero."""
    model = Transformer(TransformerConfig.tiny(**changes), rngs=nnx.Rngs(0))
    model.final.out.kernel[...] = jax.random.normal(jax.random.key(1), model.final.out.kernel.shape)
    return model


def inputs(num_prompts: int = 2):
    """Prompts of different lengths with two 2 x 3 sources each, and 2 x 3 targets."""
    rng = np.random.default_rng(0)
    prompts = []
    for row in range(num_prompts):
        length = 20 + 7 * row
        visible = np.arange(1, length + 1, dtype=np.int32)
        visible[3:9], visible[10:16] = 9, 16
        ids = rng.integers(0, 512, (1, length), dtype=np.int32)
        slots = np.array([[[3, 9], [10, 16]]], np.int32)
        prompts.append(
            Prompt(ids, np.arange(length, dtype=np.int32)[None], visible[None], np.zeros(1, np.int32), slots)
        )
    latents = rng.standard_normal((3, num_prompts, 4, 6, 4), dtype=np.float32)
    first, second, target = (patchify(jnp.asarray(image)) for image in latents)
    return prompts, Patches(*(jnp.concatenate(pair, 1) for pair in zip(first, second, strict=True))), target


def run_full(model, prompt, sources, target, *, num_target=None, rope_length=None):
    rows = prompt.token_ids.shape[0]
    num_target = np.full(rows, 6, np.int32) if num_target is None else num_target
    rope_length = row_length(prompt, num_target) if rope_length is None else rope_length
    t = jnp.linspace(0.2, 0.8, 2)[:rows]
    return model(prompt, sources, target, t, num_target=num_target, rope_length=rope_length)


def row(tree, index):
    return type(tree)(*(field[index : index + 1] for field in tree))


def test_result_is_independent_of_batch_mates_and_padding():
    model, (prompts, sources, target) = tiny(), inputs()
    together = run_full(model, collate(prompts, length=40), sources, target)
    alone = run_full(model, prompts[0], row(sources, 0), row(target, 0))
    np.testing.assert_allclose(together[:1], alone, atol=1e-5)


def test_padded_target_patches_change_nothing():
    model, (prompts, sources, target) = tiny(), inputs(1)
    pad = ((0, 0), (0, 5), (0, 0))
    wide = Patches(jnp.pad(target.values, pad, constant_values=9.0), jnp.pad(target.place, pad))
    padded = run_full(model, prompts[0], sources, wide, num_target=np.array([6], np.int32))
    np.testing.assert_allclose(padded[:, :6], run_full(model, prompts[0], sources, target), atol=1e-5)


def test_long_row_does_not_change_its_short_batch_mate():
    factors = {
        "short_factor": (1.0,) * 8,
        "long_factor": (7.0,) * 8,
        "original_length": 30,
        "max_length": 300,
    }
    model, (prompts, sources, target) = tiny(**factors), inputs()
    together = run_full(model, collate(prompts), sources, target)  # lengths 27 and 34 around the limit of 30
    alone = run_full(model, prompts[0], row(sources, 0), row(target, 0))
    np.testing.assert_allclose(together[:1], alone, atol=1e-5)
    forced = run_full(
        model, prompts[0], row(sources, 0), row(target, 0), rope_length=np.array([31], np.int32)
    )
    assert np.abs(forced - alone).max() > 1e-3


def test_prefix_cache_equals_full_pass():
    model, (prompts, sources, target) = tiny(num_kv_heads=2), inputs()
    prompt, num_target = collate(prompts), np.full(2, 6, np.int32)
    length = row_length(prompt, num_target)
    cache = model.prefix(prompt, sources, rope_length=length)
    assert cache.k.shape == (3, 2, prompt.token_ids.shape[1], 2, 16)
    t = jnp.linspace(0.2, 0.8, 2)
    out = model.velocity(target, t, cache, prompt, num_target=num_target, rope_length=length)
    np.testing.assert_allclose(out, run_full(model, prompt, sources, target), atol=1e-5)


@pytest.mark.parametrize(
    ("guidance", "computed"),
    [
        (Guidance(0.0, 1.5), ("uncond", "img_cond")),
        (Guidance(1.5, 1.5), ("cond", "uncond")),
        (Guidance(2.0, 1.0), ("cond", "img_cond")),
        (Guidance(1.0, 1.0), ("cond",)),
        (Guidance(2.0, 1.6), ("cond", "uncond", "img_cond")),
    ],
)
def test_a_branch_that_is_not_computed_changes_nothing(guidance, computed):
    assert branches(guidance) == computed
    c, u, m = np.random.default_rng(0).standard_normal((3, 1, 6, 16), dtype=np.float32)
    full = u + guidance.image * (m - u) + guidance.text * (c - m)
    parts = {"cond": c, "uncond": u, "img_cond": m}
    out = guide(jnp.concatenate([jnp.asarray(parts[name]) for name in computed]), guidance)
    np.testing.assert_allclose(out, full, atol=1e-5)


@pytest.mark.parametrize("remat", ["block", "attention"])
def test_remat_changes_neither_output_nor_gradient(remat):
    prompts, sources, target = inputs()

    def loss(model):
        return jnp.square(run_full(model, collate(prompts), sources, target)).mean()

    plain, again = (nnx.value_and_grad(loss)(tiny(remat=kind)) for kind in ("none", remat))
    for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(again), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_scan_equals_loop_over_layers():
    model, (prompts, sources, _) = tiny(), inputs()
    prompt = collate(prompts)
    x = model.embed_condition(prompt, sources)
    angles = rope(model.cfg, jnp.asarray(prompt.positions), row_length(prompt, np.full(2, 6)))
    mask = attention_mask(prompt.visible_until, prompt.num_padding, x.shape[1])
    scanned, _ = run_blocks(model.layers, model.cfg, x, angles, mask, prefix=None, keep_kv=False)
    graph, state = nnx.split(model.layers)
    for depth in range(model.cfg.num_layers):
        block = nnx.merge(graph, jax.tree.map(lambda leaf, depth=depth: leaf[depth], state))
        x, _ = block(x, angles, mask, None)
    np.testing.assert_allclose(scanned, x, atol=1e-5)


def test_patchify_and_back():
    latents = jnp.arange(2 * 4 * 6 * 4, dtype=jnp.float32).reshape(2, 4, 6, 4)
    patches = patchify(latents)
    assert patches.values.shape == (2, 6, 16)
    np.testing.assert_array_equal(patches.place[0, 0], [95, 94])  # (192 - 2) // 2, (192 - 3) // 2
    np.testing.assert_array_equal(patches.values[0, 0, :4], latents[0, 0, 0])
    np.testing.assert_array_equal(unpatchify(patches.values, 4, 6), latents)


def test_odd_latents_are_refused():
    with pytest.raises(ValueError, match="latents 5 x 6 must have even sides"):
        patchify(jnp.zeros((1, 5, 6, 4)))


def test_slots_say_which_patch_stands_where():
    slots = jnp.array([[[1, 3], [4, 5]], [[0, 0], [2, 4]], [[3, 5], [0, 1]]])
    drawn = [[-1, 0, 1, -1, 2], [-1, -1, 0, 1, -1], [2, -1, -1, 0, 1]]
    np.testing.assert_array_equal(source_index(slots, 5), drawn)


def test_full_size_model_has_the_released_number_of_parameters():
    for stored, count in ((False, 3_762_072_592), (True, 3_875_318_800)):
        _, leaves = abstract(TransformerConfig.omnigen_v1(position_table=stored))
        assert sum(leaf.size for leaf in leaves.values()) == count
    assert {rule.target for rule in RULES} == leaves.keys()


def test_stored_position_table_is_used():
    cfg = config_of("ckpt_tiny")
    params = params_of("ckpt_tiny")
    z = np.load(golden("dit_tiny") / "case_a.npz")
    from ditfuse_jax.models.omnigen import centred_places, position_embedding

    places = jnp.asarray(centred_places(192, 192))[None]
    table = np.asarray(position_embedding(places, cfg.width))[0]
    computed = velocity(build(cfg, params), z, "", z["x"], z["timestep"])
    stored_cfg = config_of("ckpt_tiny", position_table=True)
    same = velocity(build(stored_cfg, params | {"position_table": table}), z, "", z["x"], z["timestep"])
    np.testing.assert_allclose(same, computed, atol=1e-6)
    other = velocity(build(stored_cfg, params | {"position_table": table + 1}), z, "", z["x"], z["timestep"])
    assert np.abs(other - computed).max() > 1e-2
