# SPDX-License-Identifier: Apache-2.0
"""OmniGen-v1: the names of its tensors in the official and the diffusers layout, and its position table."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from ditfuse_jax.config import POSITION_GRID
from ditfuse_jax.models.omnigen import axis_table

from .engine import Rule, leading, linear, patch

LAYER = r"llm\.layers\.(\d+)\."
RULES = (
    Rule(r"llm\.embed_tokens\.weight", "embed.embedding"),
    Rule(LAYER + r"input_layernorm\.weight", "layers.attn_norm.scale"),
    Rule(LAYER + r"self_attn\.qkv_proj\.weight", "layers.attn.qkv.kernel", linear),
    Rule(LAYER + r"self_attn\.o_proj\.weight", "layers.attn.out.kernel", linear),
    Rule(LAYER + r"post_attention_layernorm\.weight", "layers.mlp_norm.scale"),
    Rule(LAYER + r"mlp\.gate_up_proj\.weight", "layers.mlp.gate_up.kernel", linear),
    Rule(LAYER + r"mlp\.down_proj\.weight", "layers.mlp.down.kernel", linear),
    Rule(r"llm\.norm\.weight", "norm.scale"),
    Rule(r"x_embedder\.proj\.weight", "target_embed.kernel", patch),
    Rule(r"x_embedder\.proj\.bias", "target_embed.bias"),
    Rule(r"input_x_embedder\.proj\.weight", "source_embed.kernel", patch),
    Rule(r"input_x_embedder\.proj\.bias", "source_embed.bias"),
    Rule(r"time_token\.mlp\.0\.weight", "time_token.hidden.kernel", linear),
    Rule(r"time_token\.mlp\.0\.bias", "time_token.hidden.bias"),
    Rule(r"time_token\.mlp\.2\.weight", "time_token.out.kernel", linear),
    Rule(r"time_token\.mlp\.2\.bias", "time_token.out.bias"),
    Rule(r"t_embedder\.mlp\.0\.weight", "time_embed.hidden.kernel", linear),
    Rule(r"t_embedder\.mlp\.0\.bias", "time_embed.hidden.bias"),
    Rule(r"t_embedder\.mlp\.2\.weight", "time_embed.out.kernel", linear),
    Rule(r"t_embedder\.mlp\.2\.bias", "time_embed.out.bias"),
    Rule(r"final_layer\.adaLN_modulation\.1\.weight", "final.modulation.kernel", linear),
    Rule(r"final_layer\.adaLN_modulation\.1\.bias", "final.modulation.bias"),
    Rule(r"final_layer\.linear\.weight", "final.out.kernel", linear),
    Rule(r"final_layer\.linear\.bias", "final.out.bias"),
    Rule(r"pos_embed", "position_table", leading),
)


DIFFUSERS_LAYER = r"layers\.(\d+)\."
DIFFUSERS_RULES = (
    Rule(r"embed_tokens\.weight", "embed.embedding"),
    Rule(DIFFUSERS_LAYER + r"input_layernorm\.weight", "layers.attn_norm.scale"),
    Rule(DIFFUSERS_LAYER + r"self_attn\.to_q\.weight", "layers.attn.qkv.kernel", linear, 0),
    Rule(DIFFUSERS_LAYER + r"self_attn\.to_k\.weight", "layers.attn.qkv.kernel", linear, 1),
    Rule(DIFFUSERS_LAYER + r"self_attn\.to_v\.weight", "layers.attn.qkv.kernel", linear, 2),
    Rule(DIFFUSERS_LAYER + r"self_attn\.to_out\.0\.weight", "layers.attn.out.kernel", linear),
    Rule(DIFFUSERS_LAYER + r"post_attention_layernorm\.weight", "layers.mlp_norm.scale"),
    Rule(DIFFUSERS_LAYER + r"mlp\.gate_up_proj\.weight", "layers.mlp.gate_up.kernel", linear),
    Rule(DIFFUSERS_LAYER + r"mlp\.down_proj\.weight", "layers.mlp.down.kernel", linear),
    Rule(r"norm\.weight", "norm.scale"),
    Rule(r"patch_embedding\.output_image_proj\.weight", "target_embed.kernel", patch),
    Rule(r"patch_embedding\.output_image_proj\.bias", "target_embed.bias"),
    Rule(r"patch_embedding\.input_image_proj\.weight", "source_embed.kernel", patch),
    Rule(r"patch_embedding\.input_image_proj\.bias", "source_embed.bias"),
    Rule(r"time_token\.linear_1\.weight", "time_token.hidden.kernel", linear),
    Rule(r"time_token\.linear_1\.bias", "time_token.hidden.bias"),
    Rule(r"time_token\.linear_2\.weight", "time_token.out.kernel", linear),
    Rule(r"time_token\.linear_2\.bias", "time_token.out.bias"),
    Rule(r"t_embedder\.linear_1\.weight", "time_embed.hidden.kernel", linear),
    Rule(r"t_embedder\.linear_1\.bias", "time_embed.hidden.bias"),
    Rule(r"t_embedder\.linear_2\.weight", "time_embed.out.kernel", linear),
    Rule(r"t_embedder\.linear_2\.bias", "time_embed.out.bias"),
    Rule(r"norm_out\.linear\.weight", "final.modulation.kernel", linear),
    Rule(r"norm_out\.linear\.bias", "final.modulation.bias"),
    Rule(r"proj_out\.weight", "final.out.kernel", linear),
    Rule(r"proj_out\.bias", "final.out.bias"),
    Rule(r"patch_embedding\.pos_embed", "position_table", leading),
)


class Table(NamedTuple):
    """The position table of a source."""

    key: str  # its name there
    dtype: np.dtype
    computed: bool  # whether it is the computed one, bit for bit


def find_table(arrays: Mapping[str, np.ndarray], width: int) -> Table | None:
    """The source's position table, compared with the computed one after a cast to the source's dtype.

    The comparison is of bits: then leaving it out loses nothing, and a round trip gives it back.
    A table that another library's sine rounded differently is kept; that costs room, not correctness.
    """
    key = next((name for name in ("pos_embed", "patch_embedding.pos_embed") if name in arrays), None)
    if key is None:
        return None
    stored, computed = arrays[key], False
    if stored.shape == (1, POSITION_GRID**2, width):
        blocks = zip(stored[0].reshape(POSITION_GRID, -1), computed_table(width, stored.dtype), strict=True)
        computed = all(row.tobytes() == block.tobytes() for row, block in blocks)
    return Table(key, stored.dtype, computed)


def computed_table(width: int, dtype: np.dtype) -> Iterator[np.ndarray]:
    """The computed position table [36864, D] as 192 pieces [192, D], one per row of the grid."""
    axis = axis_table(width)
    for row in axis:
        yield np.concatenate([axis, np.broadcast_to(row, axis.shape)], axis=1).astype(dtype)


def without_table(rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
    """The rules that drop the position table, because it is the one that the model computes."""
    return tuple(rule._replace(target=None) if rule.target == "position_table" else rule for rule in rules)
