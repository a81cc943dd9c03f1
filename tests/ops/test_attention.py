# SPDX-License-Identifier: Apache-2.0
"""Attention in blocks against the plain one, forward and backward."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ditfuse_jax.ops.attention import attention, plain_attention
from ditfuse_jax.ops.tuning import Tuning

ATOL = 1e-5  # the same float32 sums in another order
SPLIT = 90
# all at once; one KV head at a time; 64 queries of a head at a time, the last run padded
SCORES = [2**27, 2 * 150 * 160, 64 * 90]


def arrays(num_keys: int = 160):
    """q [2, 150, 4, 8], weights of its output, k and v [2, S, 2, 8], mask [2, 150, S]."""
    rng = np.random.default_rng(0)
    q, weights = jnp.asarray(rng.standard_normal((2, 2, 150, 4, 8), dtype=np.float32))
    k, v = jnp.asarray(rng.standard_normal((2, 2, num_keys, 2, 8), dtype=np.float32))
    mask = jnp.asarray(rng.random((2, 150, num_keys)) < 0.7).at[:, :, 0].set(True)
    return q, weights, k, v, mask


def assert_same(function, q, weights, k, v, mask):
    """Output and gradients of `function` are those of `plain_attention`."""

    def run(function):
        y, backward = jax.vjp(lambda *qkv: function(*qkv, mask), q, k, v)
        return y, *backward(weights)

    for ours, plain in zip(run(function), run(plain_attention), strict=True):
        assert np.abs(plain).max() > 0.1
        np.testing.assert_allclose(ours, plain, atol=ATOL)


@pytest.mark.parametrize("num_keys", [9, 160])
@pytest.mark.parametrize("max_scores", SCORES)
def test_blocks_equal_plain_attention(max_scores, num_keys):
    assert_same(functools.partial(attention, tuning=Tuning(max_scores=max_scores)), *arrays(num_keys))


@pytest.mark.parametrize("max_scores", SCORES)
def test_first_queries_that_see_the_first_keys_alone(max_scores):
    *rest, mask = arrays(150)
    mask = mask.at[:, :SPLIT, SPLIT:].set(False)
    tuned = functools.partial(attention, split=SPLIT, tuning=Tuning(max_scores=max_scores))
    assert_same(tuned, *rest, mask)


def test_scores_behind_the_split_are_not_computed():
    q, _, k, v, mask = arrays(150)

    def flops(split):
        program = jax.jit(lambda *qkv: attention(*qkv, mask, split=split)).lower(q, k, v)
        return program.cost_analysis()["flops"]

    skipped = SPLIT * (150 - SPLIT) / 150**2
    assert flops(SPLIT) < (1 - 0.8 * skipped) * flops(0)


def test_plain_attention_is_a_softmax_over_visible_keys():
    q, _, k, v, mask = (np.asarray(x, np.float64) for x in arrays())
    for batch, query, head in ((0, 0, 0), (1, 149, 3)):
        seen = np.flatnonzero(mask[batch, query])
        scores = k[batch, seen, head // 2] @ q[batch, query, head] / np.sqrt(8)
        weights = np.exp(scores) / np.exp(scores).sum()
        got = plain_attention(*(jnp.asarray(x, jnp.float32) for x in (q, k, v)), jnp.asarray(mask, bool))
        np.testing.assert_allclose(got[batch, query, head], weights @ v[batch, seen, head // 2], atol=ATOL)


def test_plain_can_be_asked_for():
    q, _, k, v, mask = arrays(9)
    asked = attention(q, k, v, mask, tuning=Tuning(attention="plain", max_scores=1))
    np.testing.assert_array_equal(asked, plain_attention(q, k, v, mask))
