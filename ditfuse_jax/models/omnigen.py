# SPDX-License-Identifier: Apache-2.0
"""The OmniGen diffusion transformer.

    [text and source patches] [time token] [target patches] -> velocity of the target

The prefix (text and sources) never sees the time token or the target. So its keys and values are computed
once per image (`prefix`) and shared by all steps (`velocity`). `__call__` is the same model as one pass.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ditfuse_jax.config import PATCH, POSITION_GRID, TransformerConfig
from ditfuse_jax.models.blocks import KV, RMSNorm, Rope, rope, run_blocks, stacked_blocks
from ditfuse_jax.models.lora import Linear
from ditfuse_jax.models.mask import attention_mask, suffix_visible_until
from ditfuse_jax.ops.tuning import PORTABLE, Tuning
from ditfuse_jax.prompt import Prompt

TIME_FREQUENCIES = 256
TIME_PERIOD = 10000.0
FINAL_NORM_EPS = 1e-6


class Patches(NamedTuple):
    """Latents cut 2 x 2, right padded where rows have different numbers of patches."""

    values: jax.Array  # float32 [B, P, 4 C], in the order (row in patch, column in patch, channel)
    place: jax.Array  # int32 [B, P, 2]: (row, column) in the 192 x 192 position table


class Buffer(nnx.Variable):
    """A stored array that is never trained."""


def patchify(latents: jax.Array) -> Patches:
    """Cuts latents [B, h, w, C] into h / 2 * w / 2 patches, placed in the centre of the position table.

    Raises ValueError for odd or too large h and w.
    """
    batch, height, width, _ = latents.shape
    rows, columns = height // PATCH, width // PATCH
    if height % PATCH or width % PATCH or max(rows, columns) > POSITION_GRID:
        raise ValueError(
            f"latents {height} x {width} must have even sides of at most {PATCH * POSITION_GRID}; "
            "pad or resize the image"
        )
    place = jnp.broadcast_to(jnp.asarray(centred_places(rows, columns)), (batch, rows * columns, 2))
    return Patches(cut(latents), place)


def cut(latents):
    """Patch vectors of latents [B, h, w, C] (of JAX or NumPy) with even sides: [B, h / 2 * w / 2, 4 C]."""
    batch, height, width, channels = latents.shape
    grid = latents.reshape(batch, height // PATCH, PATCH, width // PATCH, PATCH, channels)
    return grid.transpose(0, 1, 3, 2, 4, 5).reshape(batch, -1, PATCH * PATCH * channels)


def unpatchify(values: jax.Array, height: int, width: int) -> jax.Array:
    """The inverse: values [B, h / 2 * w / 2, 4 C] -> latents [B, h, w, C]."""
    grid = values.reshape(values.shape[0], height // PATCH, width // PATCH, PATCH, PATCH, -1)
    return grid.transpose(0, 1, 3, 2, 4, 5).reshape(values.shape[0], height, width, -1)


def centred_places(rows: int, columns: int) -> np.ndarray:
    """int32 [rows * columns, 2]: the centre crop of the position table, row by row."""
    top, left = (POSITION_GRID - rows) // 2, (POSITION_GRID - columns) // 2
    grid = np.meshgrid(np.arange(rows) + top, np.arange(columns) + left, indexing="ij")
    return np.stack(grid, axis=-1).reshape(-1, 2).astype(np.int32)


def axis_table(width: int) -> np.ndarray:
    """float32 [192, D / 2]: sin | cos of one coordinate, which both halves of the position embedding share.

    Source: OmniGen's get_2d_sincos_pos_embed (float32 coordinates arange(192) / 3, angles in float64), which
    it equals bit for bit.
    """
    quarter = width // 4
    frequency = 1.0 / 10000 ** (np.arange(quarter, dtype=np.float64) / quarter)
    angle = (np.arange(POSITION_GRID, dtype=np.float32) / 3)[:, None] * frequency[None, :]
    return np.concatenate([np.sin(angle), np.cos(angle)], axis=1).astype(np.float32)


def position_embedding(place: jax.Array, width: int) -> jax.Array:
    """float32 [..., D] of place int32 [..., 2]: first the channels of the column, then those of the row."""
    table = jnp.asarray(axis_table(width))
    return jnp.concatenate([table[place[..., 1]], table[place[..., 0]]], axis=-1)


def row_length(prompt: Prompt, num_target: jax.Array) -> jax.Array:
    """int32 [B]: a row's own unpadded length, which by default picks its LongRoPE table."""
    return prompt.token_ids.shape[1] - prompt.num_padding + 1 + num_target


class TimeEmbedding(nnx.Module):
    """t float32 [B] in [0, 1] -> [B, D]: cos | sin of t (not times 1000), then a two-layer MLP."""

    def __init__(self, cfg: TransformerConfig, **linear):
        self.hidden = Linear(TIME_FREQUENCIES, cfg.width, dtype=cfg.dtype, **linear)
        self.out = Linear(cfg.width, cfg.width, dtype=cfg.dtype, **linear)

    def __call__(self, t: jax.Array) -> jax.Array:
        half = TIME_FREQUENCIES // 2
        frequency = np.exp(-np.log(TIME_PERIOD) * np.arange(half, dtype=np.float32) / half)
        angle = t.astype(jnp.float32)[:, None] * jnp.asarray(frequency)[None, :]
        wave = jnp.concatenate([jnp.cos(angle), jnp.sin(angle)], axis=-1)
        return self.out(jax.nn.silu(self.hidden(wave)))


class FinalLayer(nnx.Module):
    """LayerNorm without weights, shifted and scaled by time, then the projection back to patch values."""

    def __init__(self, cfg: TransformerConfig, **linear):
        zeros = {"init": nnx.initializers.zeros, "dtype": cfg.dtype}
        self.modulation = Linear(cfg.width, 2 * cfg.width, **zeros, **linear)
        self.out = Linear(cfg.width, cfg.patch_dim, **zeros, **linear)

    def __call__(self, x: jax.Array, time: jax.Array) -> jax.Array:
        shift, scale = jnp.split(self.modulation(jax.nn.silu(time))[:, None, :], 2, axis=-1)
        centred = x - x.mean(axis=-1, keepdims=True)
        normed = centred * jax.lax.rsqrt(jnp.square(centred).mean(axis=-1, keepdims=True) + FINAL_NORM_EPS)
        return self.out(normed * (1 + scale) + shift)


class Transformer(nnx.Module):
    """Shapes: B rows, S prefix tokens, P target patches, C latent channels. All outputs are float32.

    tuning: how to compute it on this machine, which changes results by rounding alone.
    """

    def __init__(
        self,
        cfg: TransformerConfig,
        *,
        rngs: nnx.Rngs,
        param_dtype=jnp.float32,
        tuning: Tuning = PORTABLE,
    ):
        linear = {"param_dtype": param_dtype, "rngs": rngs}
        self.cfg = cfg
        self.embed = nnx.Embed(
            cfg.vocab_size,
            cfg.width,
            embedding_init=nnx.initializers.normal(0.5),
            param_dtype=param_dtype,
            rngs=rngs,
        )
        self.source_embed = Linear(cfg.patch_dim, cfg.width, dtype=cfg.dtype, **linear)
        self.target_embed = Linear(cfg.patch_dim, cfg.width, dtype=cfg.dtype, **linear)
        if cfg.position_table:
            self.position_table = Buffer(jnp.zeros((POSITION_GRID**2, cfg.width), param_dtype))
        self.time_token = TimeEmbedding(cfg, **linear)
        self.time_embed = TimeEmbedding(cfg, **linear)
        self.layers = stacked_blocks(cfg, tuning=tuning, **linear)
        self.norm = RMSNorm(cfg.width, cfg.norm_eps, param_dtype=param_dtype)
        self.final = FinalLayer(cfg, **linear)

    def prefix(self, prompt: Prompt, sources: Patches, *, rope_length: jax.Array) -> KV:
        """Runs the condition once and keeps its keys and values.

        Args:
          prompt: rows of S tokens, see `Prompt`.
          sources: each row's source patches, one source after the other; only sources with a slot have
            patches.
          rope_length: int32 [B], the length of the whole sequence of each row; `row_length` is the default.
        Returns: KV, each [L, B, S, M, K].
        """
        x = self.embed_condition(prompt, sources)
        angles = rope(self.cfg, prompt.positions, rope_length)
        mask = attention_mask(prompt.visible_until, prompt.num_padding, x.shape[1])
        return run_blocks(self.layers, self.cfg, x, angles, mask, prefix=None, keep_kv=True)[1]

    def velocity(
        self,
        x: Patches,
        t: jax.Array,
        cache: KV,
        prompt: Prompt,
        *,
        num_target: jax.Array,
        rope_length: jax.Array,
    ) -> jax.Array:
        """Velocity of the target at time t, float32 [B, P, 4 C].

        Args:
          x: the noisy target; patches from num_target int32 [B] on are padding that no token sees.
          t: float32 [B]. cache: what `prefix` returned for this prompt. rope_length: as given to `prefix`.
        """
        tokens = self.embed_target(x, t)  # [B, 1 + P, D]
        angles, visible_until = self.suffix_layout(prompt, num_target, rope_length, x.values.shape[1])
        length = prompt.token_ids.shape[1] + tokens.shape[1]
        mask = attention_mask(visible_until, prompt.num_padding, length)
        # Behind the time token all target patches see the same keys: run=1.
        y, _ = run_blocks(self.layers, self.cfg, tokens, angles, mask, prefix=cache, keep_kv=False, run=1)
        return self.read_out(y[:, 1:], t)

    def __call__(
        self,
        prompt: Prompt,
        sources: Patches,
        x: Patches,
        t: jax.Array,
        *,
        num_target: jax.Array,
        rope_length: jax.Array,
    ) -> jax.Array:
        """`velocity` as one pass over prefix and suffix; arguments as there."""
        tokens = jnp.concatenate([self.embed_condition(prompt, sources), self.embed_target(x, t)], axis=1)
        angles, suffix_visible = self.suffix_layout(prompt, num_target, rope_length, x.values.shape[1])
        angles = Rope(*map(_join, rope(self.cfg, prompt.positions, rope_length), angles))
        visible_until = _join(prompt.visible_until, suffix_visible)
        mask = attention_mask(visible_until, prompt.num_padding, tokens.shape[1])
        prefix = prompt.token_ids.shape[1]
        y, _ = run_blocks(
            self.layers, self.cfg, tokens, angles, mask, prefix=None, keep_kv=False, split=prefix
        )
        return self.read_out(y[:, prefix + 1 :], t)

    def embed_condition(self, prompt: Prompt, sources: Patches) -> jax.Array:
        """float32 [B, S, D]: word embeddings, overwritten by source patches where a slot is."""
        text = self.embed(prompt.token_ids).astype(jnp.float32)
        patches = self.source_embed(sources.values) + self.positions(sources.place)  # [B, P, D]
        index = source_index(prompt.slots, prompt.token_ids.shape[1])  # [B, S]
        placed = jnp.take_along_axis(patches, jnp.maximum(index, 0)[:, :, None], axis=1)
        return jnp.where(index[:, :, None] >= 0, placed, text)

    def embed_target(self, x: Patches, t: jax.Array) -> jax.Array:
        """float32 [B, 1 + P, D]: the time token, then the target patches."""
        patches = self.target_embed(x.values) + self.positions(x.place)
        return jnp.concatenate([self.time_token(t)[:, None, :], patches], axis=1)

    def positions(self, place: jax.Array) -> jax.Array:
        """Position embedding of place int32 [B, P, 2]: from the stored table where there is one."""
        if self.cfg.position_table:
            return self.position_table[...][place[..., 0] * POSITION_GRID + place[..., 1]].astype(jnp.float32)
        return position_embedding(place, self.cfg.width)

    def suffix_layout(
        self, prompt: Prompt, num_target, rope_length, num_patches: int
    ) -> tuple[Rope, jax.Array]:
        """RoPE angles and visible_until of time token and target, whose positions follow the prefix."""
        first = prompt.token_ids.shape[1] - jnp.asarray(prompt.num_padding)
        positions = first[:, None] + jnp.arange(1 + num_patches)[None, :]
        visible_until = suffix_visible_until(num_target, prompt.token_ids.shape[1], num_patches)
        return rope(self.cfg, positions, rope_length), visible_until

    def read_out(self, y: jax.Array, t: jax.Array) -> jax.Array:
        """Hidden states of the target [B, P, D] -> velocity [B, P, 4 C]."""
        return self.final(self.norm(y), self.time_embed(t))


def source_index(slots: jax.Array, length: int) -> jax.Array:
    """int32 [B, S]: which of the row's source patches stands at each prefix token, -1 for text.

    slots: int32 [B, n, 2], first and last + 1 token of each source.
    """
    start, stop = slots[..., 0, None], slots[..., 1, None]  # [B, n, 1]
    count = stop - start
    first = jnp.cumsum(count, axis=1) - count  # patches of the sources before
    token = jnp.arange(length)[None, None, :]
    index = jnp.where((token >= start) & (token < stop), token - start + first, -1)  # [B, n, S]
    return index.max(axis=1)


def _join(prefix: jax.Array, suffix: jax.Array) -> jax.Array:
    return jnp.concatenate([prefix, suffix], axis=1)
