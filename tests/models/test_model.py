# SPDX-License-Identifier: Apache-2.0
"""The transformer against the official code.

Tolerances are those of the reference's README: max abs, float32.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from cases import (
    model_of,
    nhwc,
    padded_length,
    prompt_of,
    sources_of,
    targets_of,
    velocity,
)
from conftest import golden
from ditfuse_jax.models.blocks import rope, run_blocks
from ditfuse_jax.models.flow import Guidance, guide, sample, times
from ditfuse_jax.models.mask import attention_mask, suffix_visible_until
from ditfuse_jax.models.omnigen import Patches, patchify, row_length, unpatchify
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
