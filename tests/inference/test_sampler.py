# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from conftest import golden
from ditfuse_jax.config import TransformerConfig
from ditfuse_jax.inference import sampler
from ditfuse_jax.models import outline
from ditfuse_jax.models.flow import Guidance, branches
from ditfuse_jax.models.omnigen import Transformer
from ditfuse_jax.ops.tuning import Tuning
from ditfuse_jax.prompt import encode, load_tokenizer, render

GUIDANCE = Guidance(2.0, 1.6)


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(golden("ckpt_tiny"))


@pytest.fixture(scope="module")
def network():
    model = Transformer(TransformerConfig.tiny(), rngs=nnx.Rngs(0))
    model.final.out.kernel.set_value(0.1 * jax.random.normal(jax.random.key(1), model.final.out.kernel.shape))
    return sampler.Network(*nnx.split(model))


def row(height, width, text="fuse the images", seed=0):
    sources = np.random.default_rng(seed).normal(size=(2, height, width, 4)).astype(np.float32)
    return sampler.Row(render(text), sources)


def noise(height, width, seed=5):
    return np.random.default_rng(seed).normal(size=(height, width, 4)).astype(np.float32)


def run(network, tokenizer, rows, starts, guidance=GUIDANCE, steps=3, on_step=None):
    rows = sampler.layout(rows, branches(guidance), tokenizer)
    cache = sampler.prefix(network, rows)
    return sampler.sample(network, cache, rows, [starts], guidance=guidance, steps=steps, on_step=on_step)


def test_padded_counts_are_few_and_near():
    counts = np.arange(1, 4097)
    padded = np.array([sampler.padded_count(int(count)) for count in counts])
    assert (padded >= counts).all()
    assert (padded[64:] <= 1.25 * counts[64:]).all()
    assert len(set(padded[256:])) == 16
    assert sampler.padded_count(256) == 256


@pytest.mark.parametrize("size", [(8, 12), (6, 10), (18, 14)])
def test_padding_changes_nothing(network, tokenizer, size, monkeypatch):
    one = run(network, tokenizer, [row(*size)], [noise(*size)])[0]
    monkeypatch.setattr(sampler, "padded_count", lambda count: count)
    other = run(network, tokenizer, [row(*size)], [noise(*size)])[0]
    assert np.abs(one).max() > 1  # the model does something
    np.testing.assert_allclose(one, other, atol=2e-5)


def test_batch_mates_change_nothing(network, tokenizer):
    sizes = [(8, 12), (18, 14), (6, 6)]
    rows = [
        row(*size, text=text, seed=i)
        for i, (size, text) in enumerate(zip(sizes, ["a", "fuse it all", "b c"], strict=True))
    ]
    starts = [noise(*size, seed=i) for i, size in enumerate(sizes)]
    together = run(network, tokenizer, rows, starts)
    for i, part in enumerate(together):
        np.testing.assert_allclose(part, run(network, tokenizer, [rows[i]], [starts[i]])[0], atol=2e-5)


def test_every_choice_of_branches_equals_its_formula(network, tokenizer):
    one, start = row(8, 8), noise(8, 8)

    def velocity(text, image):
        return run(network, tokenizer, [one], [start], Guidance(text, image), steps=1)[0] - start

    cond, img, uncond = velocity(1.0, 1.0), velocity(0.0, 1.0), velocity(0.0, 0.0)
    for s, i in [(2.0, 1.6), (2.0, 2.0), (3.0, 1.0), (0.0, 1.6)]:
        want = uncond + i * (img - uncond) + s * (cond - img)
        np.testing.assert_allclose(velocity(s, i), want, atol=2e-5)


def test_a_replaced_condition_equals_a_new_prefix(network, tokenizer):
    guidance = Guidance(2.0, 1.6)
    names = branches(guidance)
    first, second = (
        row(8, 8, text="fuse"),
        row(8, 8, text="make the sky a lot brighter than it is in either image"),
    )
    words = max(sampler.count_text(encode(part.text, (16, 16), tokenizer)) for part in (first, second))
    a, b = (sampler.layout([part], names, tokenizer, num_text=words) for part in (first, second))
    assert a.prompt.token_ids.shape == b.prompt.token_ids.shape
    want = sampler.prefix(network, b)
    got = sampler.replace_condition(network, sampler.prefix(network, a), b, 1)
    jax.tree.map(lambda g, w: np.testing.assert_allclose(g, w, atol=1e-6), got, want)


def test_watching_changes_no_bit(network, tokenizer):
    seen = []
    watched = run(
        network, tokenizer, [row(8, 12)], [noise(8, 12)], on_step=lambda i, x: seen.append((i, x()[0]))
    )[0]
    np.testing.assert_array_equal(watched, run(network, tokenizer, [row(8, 12)], [noise(8, 12)])[0])
    assert [i for i, _ in seen] == [1, 2, 3]
    np.testing.assert_array_equal(seen[-1][1], watched)


def test_sizes_of_one_padded_count_share_their_programs(network, tokenizer):
    sizes = [(8, 12), (6, 16), (10, 10), (14, 4), (12, 8)]  # 24 .. 28 patches
    run(network, tokenizer, [row(*sizes[0])], [noise(*sizes[0])])
    compiled = []
    listener = lambda name, *_, **__: compiled.append(name)  # noqa: E731
    jax.monitoring.register_event_duration_secs_listener(listener)
    try:
        for size in sizes[1:]:
            run(network, tokenizer, [row(*size)], [noise(*size)])
    finally:
        jax.monitoring.unregister_event_duration_listener(listener)
    assert not [name for name in compiled if "backend_compile" in name]


def test_bf16_weights_run_and_stay_close(tokenizer):
    model = Transformer(TransformerConfig.tiny(), rngs=nnx.Rngs(0))
    model.final.out.kernel.set_value(0.1 * jax.random.normal(jax.random.key(1), model.final.out.kernel.shape))
    graph, params = nnx.split(model)
    half = sampler.Network(graph, jax.tree.map(lambda a: a.astype(jnp.bfloat16), params))
    want = run(sampler.Network(graph, params), tokenizer, [row(8, 8)], [noise(8, 8)])[0]
    got = run(half, tokenizer, [row(8, 8)], [noise(8, 8)])[0]
    assert np.linalg.norm(got - want) <= 0.02 * np.linalg.norm(
        want
    )  # the reference's own bf16 error is 0.6 to 1.3 %


def test_float32_is_multiplied_in_full(network, tokenizer):
    rows = sampler.layout([row(4, 4)], branches(GUIDANCE), tokenizer)
    run = sampler.programs(network.tuning).prefix
    text = run.lower(network.graph, network.params, rows.prompt, rows.sources, rows.rope_length).as_text()
    assert text.count("HIGHEST") >= text.count("dot_general")


def test_a_tuned_network_gives_the_same_latents(network, tokenizer):
    tuning = Tuning.choose("cpu", 1)
    graph, _ = nnx.split(outline.transformer(TransformerConfig.tiny(), tuning=tuning))
    tuned = sampler.Network(graph, network.params, tuning)
    got = run(tuned, tokenizer, [row(8, 12)], [noise(8, 12)])[0]
    np.testing.assert_allclose(got, run(network, tokenizer, [row(8, 12)], [noise(8, 12)])[0], atol=2e-5)
