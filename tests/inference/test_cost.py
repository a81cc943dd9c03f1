# SPDX-License-Identifier: Apache-2.0
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from ditfuse_jax.config import TransformerConfig, VAEConfig
from ditfuse_jax.inference import cost
from ditfuse_jax.inference.plan import duration
from ditfuse_jax.models import outline


@pytest.mark.parametrize("changes", [{}, {"block_out_channels": (32, 64), "layers_per_block": 2}])
@pytest.mark.parametrize("way", ["encoded", "decoded"])
def test_the_autoencoders_flops_are_those_that_xla_counts(changes, way):
    cfg = VAEConfig.tiny(**changes)
    vae = outline.vae(cfg)
    graph, params = nnx.split(vae)
    shape = (1, 64, 96, 3) if way == "encoded" else (1, 64 // cfg.factor, 96 // cfg.factor, 4)
    call = "encode" if way == "encoded" else "decode"
    run = jax.jit(lambda params, x: getattr(nnx.merge(graph, params), call)(x))
    counted = run.lower(params, jax.ShapeDtypeStruct(shape, jnp.float32)).cost_analysis()["flops"]
    images = {"encoded": 0, "decoded": 0} | {way: 1}
    assert cost.autoencoder_flops(cfg, 64, 96, **images) == pytest.approx(counted, rel=0.15)  # norms, SiLU


def test_the_transformers_flops_are_its_products():
    """Two layers by hand: 2 FLOP a weight and token, 4 D a pair of tokens that see each other."""
    cfg = TransformerConfig.tiny(num_layers=2)
    weights = 4 * 64 * 64 + 3 * 64 * 128
    tokens, pairs = 10 + 3 * 5, 10 * 10 + 3 * 5 * 15
    assert cost.transformer_flops(cfg, 10, 5, passes=3) == 2 * (2 * weights * tokens + 4 * 64 * pairs)
    shared = dataclasses.replace(cfg, num_kv_heads=2)
    assert cost.transformer_flops(shared, 10, 5, passes=3) < cost.transformer_flops(cfg, 10, 5, passes=3)


def test_more_work_takes_longer():
    one = {"transformer": 1e9, "autoencoder": 1e9, "rebuilt_pixels": 1000, "dtype": "float32"}
    base = cost.seconds(**one)
    assert np.isfinite(base)
    assert base > 0
    for name in ("transformer", "autoencoder", "rebuilt_pixels"):
        assert cost.seconds(**one | {name: 2 * one[name]}) > base


def test_durations_are_in_words():
    assert [duration(x) for x in (0.42, 49.6, 720, 12600)] == ["0.4 s", "50 s", "12 min", "3.5 h"]
