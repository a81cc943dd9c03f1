# SPDX-License-Identifier: Apache-2.0
"""The rule tables are total and strict, at full size too; configs read back what they write."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from conftest import golden
from convert import engine, omnigen
from convert.configs import official_config, phi3_config, vae_config
from convert.vae import vae_rules
from ditfuse_jax.checkpoints.flat import parameter_shapes
from ditfuse_jax.config import TransformerConfig, VAEConfig
from ditfuse_jax.models import outline


def hollow(shape) -> np.ndarray:
    return np.broadcast_to(np.empty((), np.float32), shape)


def official_shapes(cfg: TransformerConfig) -> dict[str, tuple[int, ...]]:
    """OmniGen-v1's tensors."""
    d, f = cfg.width, cfg.mlp_width
    shapes = {
        "llm.embed_tokens.weight": (cfg.vocab_size, d),
        "llm.norm.weight": (d,),
        "pos_embed": (1, 36864, d),
    }
    for n in range(cfg.num_layers):
        layer = f"llm.layers.{n}"
        shapes[f"{layer}.input_layernorm.weight"] = shapes[f"{layer}.post_attention_layernorm.weight"] = (d,)
        shapes[f"{layer}.self_attn.qkv_proj.weight"], shapes[f"{layer}.self_attn.o_proj.weight"] = (
            (3 * d, d),
            (d, d),
        )
        shapes[f"{layer}.mlp.gate_up_proj.weight"], shapes[f"{layer}.mlp.down_proj.weight"] = (
            (2 * f, d),
            (d, f),
        )
    for name in ("x_embedder", "input_x_embedder"):
        shapes |= {f"{name}.proj.weight": (d, 4, 2, 2), f"{name}.proj.bias": (d,)}
    for name in ("time_token", "t_embedder"):
        shapes |= {f"{name}.mlp.0.weight": (d, 256), f"{name}.mlp.0.bias": (d,)}
        shapes |= {f"{name}.mlp.2.weight": (d, d), f"{name}.mlp.2.bias": (d,)}
    shapes |= {"final_layer.linear.weight": (16, d), "final_layer.linear.bias": (16,)}
    shapes |= {
        "final_layer.adaLN_modulation.1.weight": (2 * d, d),
        "final_layer.adaLN_modulation.1.bias": (2 * d,),
    }
    return shapes


@pytest.mark.parametrize(("position_table", "count"), [(False, 3_762_072_592), (True, 3_875_318_800)])
def test_omnigen_v1_maps_one_to_one(position_table, count):
    cfg = TransformerConfig.omnigen_v1(position_table=position_table)
    model = parameter_shapes(outline.transformer(cfg))
    shapes = {path: leaf.shape for path, leaf in model.items()}
    assert sum(int(np.prod(shape)) for shape in shapes.values()) == count
    official = official_shapes(cfg)
    source = {name: hollow(shape) for name, shape in official.items()}
    rules = omnigen.RULES if position_table else omnigen.without_table(omnigen.RULES)
    found = engine.plan(source, rules, shapes)
    used = [piece.key for layers in found.values() for parts in layers for piece in parts]
    assert sorted(used) == sorted(official.keys() - (set() if position_table else {"pos_embed"}))
    back = engine.invert({path: hollow(shape) for path, shape in shapes.items()}, omnigen.RULES)
    assert {name: array.shape for name, array in back.items()} == {name: official[name] for name in used}


@pytest.mark.parametrize("cfg", [VAEConfig.sdxl(), VAEConfig.tiny(layers_per_block=2)])
def test_vae_rules_spell_every_parameter_backwards(cfg):
    from convert.jobs import vae_shapes

    shapes = vae_shapes(cfg)
    back = engine.invert({path: hollow(shape) for path, shape in shapes.items()}, vae_rules(cfg))
    assert engine.plan(back, vae_rules(cfg), shapes).keys() == shapes.keys()
    assert "encoder.mid_block.attentions.0.to_q.weight" in back


def test_configs_read_back_what_they_write():
    for cfg in (
        TransformerConfig.tiny(),
        TransformerConfig.omnigen_v1(short_factor=(1.0,) * 48, long_factor=(2.0,) * 48),
    ):
        assert official_config(phi3_config(cfg), Path("config.json"), cfg.dtype) == cfg
    values = json.loads((golden("ckpt_tiny") / "vae/config.json").read_text())
    assert vae_config(values, Path("config.json")) == VAEConfig(block_out_channels=(32, 32, 64, 64))


def test_harmless_keys_change_nothing():
    values = json.loads((golden("ckpt_tiny") / "config.json").read_text())
    more = {
        "sliding_window": 262144,
        "_name_or_path": "x",
        "_attn_implementation": "sdpa",
        "torch_dtype": "float32",
    }
    assert official_config(values | more, Path("c"), "float32") == official_config(
        values, Path("c"), "float32"
    )


def test_a_tensor_met_by_two_rules_is_an_error():
    rules = (engine.Rule("a", "x"), engine.Rule("[ab]", "y"))
    with pytest.raises(ValueError, match="a: matched by several rules") as error:
        engine.plan({"a": hollow((2,)), "b": hollow((2,))}, rules, {"x": (2,), "y": (2,)})
    assert "x: missing" in str(error.value)


def test_a_target_filled_twice_is_an_error():
    rules = (engine.Rule("a", "x"), engine.Rule("b", "x"))
    with pytest.raises(ValueError, match="b: x is already filled by a"):
        engine.plan({"a": hollow((2,)), "b": hollow((2,))}, rules, {"x": (2,)})


def test_jax_default_device_is_untouched():
    """Converting needs shapes only: no parameters are made on a device."""
    before = len(jax.live_arrays())
    parameter_shapes(outline.transformer(TransformerConfig.omnigen_v1()))
    assert len(jax.live_arrays()) - before < 10
