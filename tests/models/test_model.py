# SPDX-License-Identifier: Apache-2.0
"""The transformer against the official code, and its identities.

Tolerances are those of the reference's README: max abs, float32.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from cases import (
    abstract,
    build,
    config_of,
    model_of,
    nhwc,
    padded_length,
    params_of,
    prompt_of,
    sources_of,
    targets_of,
    velocity,
)
from conftest import golden
from convert.omnigen import RULES
from ditfuse_jax.config import TransformerConfig
from ditfuse_jax.models.blocks import rope, run_blocks
from ditfuse_jax.models.flow import Guidance, branches, guide, sample, times
from ditfuse_jax.models.mask import attention_mask, suffix_visible_until
from ditfuse_jax.models.omnigen import Patches, Transformer, patchify, row_length, source_index, unpatchify
from ditfuse_jax.prompt import Prompt, collate

MODELS = [("ckpt_tiny", "dit_tiny"), ("ckpt_long", "dit_long")]
FORWARD, HIDDEN, ROPE = 2e-5, 5e-5, 1e-5


@pytest.fixture(scope="module", params=MODELS, ids=lambda pair: pair[1])
def case(request):
    """A model and a reader of its cases."""
    checkpoint, folder = request.param
    return model_of(checkpoint), lambda name: np.load(golden(folder) / f"{name}.npz")


def test_single_forward_and_every_hidden_state(case):
    model, load = case
    z = load("case_a")
    np.testing.assert_allclose(velocity(model, z, "", z["x"], z["timestep"]), z["out"], atol=FORWARD, rtol=0)
    prompt, (target, num_target) = prompt_of(z), targets_of([z["x"]])
    t = jnp.asarray(z["timestep"])
    np.testing.assert_allclose(model.time_token(t), z["time_token"], atol=FORWARD, rtol=0)
    np.testing.assert_allclose(model.time_embed(t), z["t_emb"], atol=FORWARD, rtol=0)
    tokens = jnp.concatenate(
        [model.embed_condition(prompt, sources_of(z)), model.embed_target(target, t)], axis=1
    )
    np.testing.assert_allclose(tokens, z["hid_embed"], atol=HIDDEN, rtol=0)
    angles = rope(model.cfg, jnp.asarray(z["position_ids"]), padded_length(prompt, target))
    mask = jnp.asarray(z["attention_mask"]).astype(bool)
    graph, state = nnx.split(model.layers)
    for depth in range(1, model.cfg.num_layers + 1):
        first = nnx.merge(graph, jax.tree.map(lambda leaf, depth=depth: leaf[:depth], state))
        hidden, _ = run_blocks(first, model.cfg, tokens, angles, mask, prefix=None, keep_kv=False)
        np.testing.assert_allclose(hidden, z[f"hid_layer{depth - 1}"], atol=HIDDEN, rtol=0)
    np.testing.assert_allclose(model.norm(hidden), z["hid_norm"], atol=HIDDEN, rtol=0)
    assert num_target[0] == target.values.shape[1]


def test_rope_angles(case):
    model, load = case
    z = load("case_a")
    length = np.array([z["position_ids"].shape[1]], np.int32)
    angles = rope(model.cfg, jnp.asarray(z["position_ids"]), length)
    for ours, theirs in ((angles.cos, z["rope_cos"]), (angles.sin, z["rope_sin"])):
        np.testing.assert_allclose(np.tile(ours, 2), theirs, atol=ROPE, rtol=0)


def test_padded_batch_of_different_prompts_and_source_sizes(case):
    model, load = case
    z = load("case_b")
    np.testing.assert_allclose(velocity(model, z, "", z["x"], z["timestep"]), z["out"], atol=FORWARD, rtol=0)


def test_several_output_sizes_at_once(case):
    model, load = case
    z = load("case_c")
    prompt, (target, num_target) = prompt_of(z), targets_of([z[f"x{i}"] for i in range(3)])
    np.testing.assert_array_equal(target.values.shape[1] - num_target, z["padding_tokens"])
    values = model(
        prompt,
        sources_of(z),
        target,
        jnp.asarray(z["timestep"]),
        num_target=num_target,
        rope_length=padded_length(prompt, target),
    )
    for i in range(3):
        expected = nhwc(z[f"out{i}"])
        got = unpatchify(values[i : i + 1, : num_target[i]], *expected.shape[1:3])
        np.testing.assert_allclose(got, expected, atol=FORWARD, rtol=0)


@pytest.mark.parametrize("prefix", ["", "two_"])
def test_joint_branches(case, prefix):
    model, load = case
    z = load("case_d")
    raw = velocity(model, z, prefix, z[prefix + "x"], z[prefix + "timestep"])
    text, image = float(z["cfg_scale"]), float(z["img_cfg_scale"])
    guidance = Guidance(text, image if prefix == "" else text)  # image = text drops the image-only branch
    if prefix == "":
        np.testing.assert_allclose(raw, z["raw"], atol=FORWARD, rtol=0)
    out = guide(jnp.asarray(raw), guidance)
    np.testing.assert_allclose(out, z[prefix + "out"][: len(out)], atol=2 * FORWARD, rtol=0)


@pytest.mark.parametrize("rows", [1, 2])
def test_separate_branches(case, rows):
    model, load = case
    z = load("case_e")
    raw = []
    for branch in range(3):
        part = slice(branch * rows, (branch + 1) * rows)
        name = f"n{rows}_br{branch}_"
        raw.append(velocity(model, z, name, z[f"n{rows}_x"][part], z[f"n{rows}_timestep"][part]))
        np.testing.assert_allclose(raw[-1], z[name + "raw"], atol=FORWARD, rtol=0)
    out = guide(jnp.concatenate(raw), Guidance(float(z["cfg_scale"]), float(z["img_cfg_scale"])))
    np.testing.assert_allclose(out, z[f"n{rows}_out"][:rows], atol=2 * FORWARD, rtol=0)


def three_branches(z) -> tuple[Prompt, Patches]:
    """The three separate branches of case_f as one left padded batch."""
    prompts = []
    for branch in range(3):
        prompt = prompt_of(z, f"br{branch}_")
        slots = np.zeros((1, 2, 2), np.int32)
        slots[:, : prompt.slots.shape[1]] = prompt.slots
        prompts.append(prompt._replace(slots=slots))
    parts = [sources_of(z, f"br{branch}_") for branch in range(3)]
    length = max(part.values.shape[1] for part in parts)
    padded = [
        [jnp.pad(field, ((0, 0), (0, length - field.shape[1]), (0, 0))) for field in part] for part in parts
    ]
    return collate(prompts), Patches(*map(jnp.concatenate, zip(*padded, strict=True)))


def run_sampler(model, z, prompt, sources, rope_length, steps, *, cached):
    """Euler in patch space from z0, with the three branches on the batch axis; NCHW."""
    noise = patchify(jnp.asarray(nhwc(z["z0"])))
    guidance = Guidance(float(z["cfg_scale"]), float(z["img_cfg_scale"]))
    num_target = np.full(3, noise.values.shape[1], np.int32)
    places = jnp.tile(noise.place, (3, 1, 1))

    @nnx.jit
    def run(model, noise):
        cache = model.prefix(prompt, sources, rope_length=rope_length)

        def velocity_fn(x, t):
            graph, state = nnx.split(model)
            inner = nnx.merge(graph, state, copy=True)
            target, t = Patches(jnp.tile(x, (3, 1, 1)), places), jnp.full((3,), t)
            shape = {"num_target": num_target, "rope_length": rope_length}
            if cached:
                raw = inner.velocity(target, t, cache, prompt, **shape)
            else:
                raw = inner(prompt, sources, target, t, **shape)
            return guide(raw, guidance)

        return sample(velocity_fn, noise, times(steps))

    final = run(model, noise.values)
    return np.moveaxis(np.asarray(unpatchify(final, *z["z0"].shape[2:])), -1, 1)


@pytest.mark.parametrize(("steps", "tolerance"), [(8, 5e-5), (50, 1e-4)])
@pytest.mark.parametrize("cached", [True, False])
def test_sampler_with_separate_branches(case, steps, tolerance, cached):
    model, load = case
    z = load("case_f_sampler")
    np.testing.assert_allclose(times(steps), z[f"sigma{steps}"], atol=1.2e-7, rtol=0)  # one float32 step
    prompt, sources = three_branches(z)
    length = row_length(prompt, 6)  # each branch by its own length
    final = run_sampler(model, z, prompt, sources, length, steps, cached=cached)
    np.testing.assert_allclose(final, z[f"sep{steps}_final"], atol=tolerance, rtol=0)
    np.testing.assert_allclose(final, z[f"kvexact{steps}_final"], atol=tolerance, rtol=0)


def test_sampler_with_joint_branches(case):
    model, load = case
    z = load("case_f_sampler")
    prompt, sources = prompt_of(z, "joint_"), sources_of(z, "joint_")
    length = np.full(3, prompt.token_ids.shape[1] + 1 + 6, np.int32)
    final = run_sampler(model, z, prompt, sources, length, 8, cached=True)
    np.testing.assert_allclose(final, z["joint8_final"], atol=5e-5, rtol=0)


def test_bfloat16_is_within_two_percent(case):
    model, load = case
    checkpoint = "ckpt_tiny" if model.cfg.num_layers == 3 else "ckpt_long"
    low = model_of(checkpoint, dtype="bfloat16")
    z = load("case_a")
    out = velocity(low, z, "", z["x"], z["timestep"])
    for reference in (z["out"], load("case_a_bf16")["out_bf16_as_f32"]):
        assert np.linalg.norm(out - reference) <= 0.02 * np.linalg.norm(reference)


@pytest.mark.parametrize(
    ("name", "prefix"),
    [("case_a", ""), ("case_b", ""), ("case_d", ""), ("case_d", "two_")]
    + [("case_e", f"n2_br{i}_") for i in range(3)]
    + [("case_f_sampler", "joint_")],
)
def test_mask_equals_the_official_one_on_real_rows(name, prefix):
    z = np.load(golden("dit_tiny") / f"{name}.npz")
    prompt, official = prompt_of(z, prefix), z[prefix + "attention_mask"].astype(bool)
    length = official.shape[1]
    assert_same_on_real_rows(prompt, np.full(len(official), length - prompt.token_ids.shape[1] - 1), official)


def test_mask_with_padded_targets():
    z = np.load(golden("dit_tiny") / "case_c.npz")
    prompt, official = prompt_of(z), z["attention_mask"].astype(bool)
    num_target = official.shape[1] - prompt.token_ids.shape[1] - 1 - z["padding_tokens"]
    assert_same_on_real_rows(prompt, num_target, official)


def assert_same_on_real_rows(prompt, num_target, official):
    prefix = prompt.token_ids.shape[1]
    suffix = suffix_visible_until(jnp.asarray(num_target), prefix, official.shape[1] - prefix - 1)
    visible = np.concatenate([prompt.visible_until, suffix], axis=1)
    mask = np.asarray(attention_mask(visible, prompt.num_padding, official.shape[1]))
    for row, padding in enumerate(prompt.num_padding):
        real = slice(padding, prefix + 1 + num_target[row])
        np.testing.assert_array_equal(mask[row, real], official[row, real])
        assert mask[row].any(axis=-1).all()  # padded rows only have to stay finite


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
