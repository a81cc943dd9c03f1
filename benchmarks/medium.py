# SPDX-License-Identifier: Apache-2.0
"""The model of 192 M weights that is compared with diffusers' OmniGen transformer."""

import sys
from pathlib import Path

import jax
import numpy as np
from flax import nnx

sys.path.insert(0, str(Path(__file__).parents[1]))

from ditfuse_jax.config import TransformerConfig  # noqa: E402
from ditfuse_jax.models.omnigen import Transformer  # noqa: E402

SIDE = 32  # latent cells of 256 pixels
HEAD_DIM = 64
CONFIG = TransformerConfig(
    vocab_size=32064,
    width=1024,
    mlp_width=2816,
    num_layers=12,
    num_heads=1024 // HEAD_DIM,
    num_kv_heads=1024 // HEAD_DIM,
    short_factor=(1.0,) * (HEAD_DIM // 2),
    long_factor=(1.0,) * (HEAD_DIM // 2),
)


def build() -> nnx.State:
    """Random float32 weights, in the last layer too, so that there is something to compare."""
    model = Transformer(CONFIG, rngs=nnx.Rngs(0))
    for kernel in (model.final.out.kernel, model.final.modulation.kernel):
        kernel.set_value(0.02 * jax.random.normal(jax.random.key(1), kernel.shape))
    return nnx.split(model)[1]


def diffusers_model(params: nnx.State):
    """OmniGenTransformer2DModel with our weights."""
    from diffusers import OmniGenTransformer2DModel

    factors = {"short_factor": list(CONFIG.short_factor), "long_factor": list(CONFIG.long_factor)}
    model = OmniGenTransformer2DModel(
        hidden_size=CONFIG.width,
        intermediate_size=CONFIG.mlp_width,
        num_layers=CONFIG.num_layers,
        num_attention_heads=CONFIG.num_heads,
        num_key_value_heads=CONFIG.num_kv_heads,
        vocab_size=CONFIG.vocab_size,
        rope_scaling=factors,
    )
    table = {"patch_embedding.pos_embed": model.patch_embedding.pos_embed}
    model.load_state_dict(to_diffusers(params) | table, strict=True)
    return model


def to_diffusers(params: nnx.State) -> dict:
    """Our weights under the names and in the layout of OmniGenTransformer2DModel."""
    import torch  # only where PyTorch is compared

    ours = {".".join(map(str, path)): np.asarray(value[...]) for path, value in nnx.to_flat_state(params)}
    out = {"embed_tokens.weight": ours["embed.embedding"], "norm.weight": ours["norm.scale"]}
    for name, conv in (("target_embed", "output_image_proj"), ("source_embed", "input_image_proj")):
        kernel = ours[f"{name}.kernel"].reshape(2, 2, -1, CONFIG.width)
        out[f"patch_embedding.{conv}.weight"] = kernel.transpose(3, 2, 0, 1)
        out[f"patch_embedding.{conv}.bias"] = ours[f"{name}.bias"]
    for name, linear in (
        ("time_token.hidden", "time_token.linear_1"),
        ("time_token.out", "time_token.linear_2"),
        ("time_embed.hidden", "t_embedder.linear_1"),
        ("time_embed.out", "t_embedder.linear_2"),
        ("final.modulation", "norm_out.linear"),
        ("final.out", "proj_out"),
    ):
        out[f"{linear}.weight"], out[f"{linear}.bias"] = ours[f"{name}.kernel"].T, ours[f"{name}.bias"]
    for i in range(CONFIG.num_layers):
        layer = f"layers.{i}"
        q, k, v = np.split(ours["layers.attn.qkv.kernel"][i].T, 3)
        out |= {
            f"{layer}.self_attn.to_{name}.weight": part for name, part in zip("qkv", (q, k, v), strict=True)
        }
        out[f"{layer}.self_attn.to_out.0.weight"] = ours["layers.attn.out.kernel"][i].T
        out[f"{layer}.mlp.gate_up_proj.weight"] = ours["layers.mlp.gate_up.kernel"][i].T
        out[f"{layer}.mlp.down_proj.weight"] = ours["layers.mlp.down.kernel"][i].T
        out[f"{layer}.input_layernorm.weight"] = ours["layers.attn_norm.scale"][i]
        out[f"{layer}.post_attention_layernorm.weight"] = ours["layers.mlp_norm.scale"][i]
    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in out.items()}
