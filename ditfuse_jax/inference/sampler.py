# SPDX-License-Identifier: Apache-2.0
"""The token side of fusing: rows padded to a few shapes, one pass over the condition, then Euler steps.

Sequences are padded to a few lengths (prompts on the left, patches on the right), and no token sees the
padding. So a folder of mixed sizes needs a handful of compiled programs, and every result equals the one
without padding.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ditfuse_jax.config import PATCH
from ditfuse_jax.inference.network import Network
from ditfuse_jax.models import flow
from ditfuse_jax.models.blocks import KV
from ditfuse_jax.models.omnigen import Patches, centred_places, cut, row_length, unpatchify
from ditfuse_jax.ops.products import exact_products
from ditfuse_jax.ops.tuning import Tuning
from ditfuse_jax.prompt import IMAGE_ONLY_PROMPT, NEGATIVE_PROMPT, Prompt, collate, encode


class Row(NamedTuple):
    """One image to make."""

    text: str  # with image placeholders, without the chat wrapper
    sources: np.ndarray  # latents float32 [n, h, w, C]; the target has their size


class Layout(NamedTuple):
    """What the model needs to know of R = branches * B rows, all rows of the first branch first."""

    prompt: Prompt  # [R, S]
    sources: Patches  # [R, n * P, ...]
    place: np.ndarray  # int32 [R, P, 2] of the target patches
    num_target: np.ndarray  # int32 [R]
    rope_length: np.ndarray  # int32 [R]


def padded_count(count: int) -> int:
    """The next of four lengths per octave (16, 32, 48, 64, 80, 96, 112, 128, 160, ...)."""
    return round_up(count, max(16, 2 ** ((count - 1).bit_length() - 3)))


def round_up(count: int, step: int) -> int:
    return -(-count // step) * step


def branch_text(text: str, name: str) -> str:
    """What the guidance branch `name` reads for the instruction `text` (reference quirk 11)."""
    return {"cond": text, "uncond": NEGATIVE_PROMPT, "img_cond": IMAGE_ONLY_PROMPT}[name]


def layout(rows: Sequence[Row], names: Sequence[str], tokenizer, *, num_text: int = 0) -> Layout:
    """Pads the branches `names` of all rows to common shapes.

    Args:
      num_text: at least as many tokens for text; layouts then share a shape.
    """
    every = list(rows) * len(names)
    counts = [num_patches(row.sources) for row in every]
    texts = [branch_text(row.text, name) for name in names for row in rows]
    num_sources, length = len(rows[0].sources), padded_count(max(counts))
    prompts = [
        encode(text, (count,) * num_sources, tokenizer) for text, count in zip(texts, counts, strict=True)
    ]
    words = padded_count(max(num_text, *map(count_text, prompts)))
    prompt = collate(prompts, length=words + num_sources * length)
    places = [centred_places(row.sources.shape[1] // PATCH, row.sources.shape[2] // PATCH) for row in every]
    patches = [
        cut(row.sources).reshape(num_sources * count, -1) for row, count in zip(every, counts, strict=True)
    ]
    source_places = [np.tile(place, (num_sources, 1)) for place in places]
    sources = Patches(*(pad_tokens(part, num_sources * length) for part in (patches, source_places)))
    num_target = np.array(counts, np.int32)
    return Layout(prompt, sources, pad_tokens(places, length), num_target, row_length(prompt, num_target))


def num_patches(latents: np.ndarray) -> int:
    """Patches of one image of latents [..., h, w, C]."""
    return (latents.shape[-3] // PATCH) * (latents.shape[-2] // PATCH)


def count_text(prompt: Prompt) -> int:
    """Tokens of an unpadded row that are not image patches."""
    return prompt.token_ids.shape[1] - int((prompt.slots[..., 1] - prompt.slots[..., 0]).sum())


def count_words(row: Row, tokenizer) -> int:
    """Tokens of a row's own prompt that are not image patches."""
    return count_text(encode(row.text, (num_patches(row.sources),) * len(row.sources), tokenizer))


def pad_tokens(rows: Sequence[np.ndarray], length: int) -> np.ndarray:
    """Stacks rows [P_i, ...] into [B, length, ...], zeros on the right."""
    return np.stack([np.pad(row, ((0, length - len(row)), (0, 0))) for row in rows])


class Programs(NamedTuple):
    prefix: Callable
    step: Callable
    replace_rows: Callable


@functools.cache
def programs(tuning: Tuning) -> Programs:
    """The three compiled programs; pure functions, the network split outside and merged inside."""
    options = tuning.jit_options()
    return Programs(
        jax.jit(exact_products(_prefix), static_argnames="graph", **options),
        jax.jit(
            exact_products(_step),
            static_argnames=("graph", "guidance"),
            donate_argnames="x",
            **options,
        ),
        jax.jit(_replace_rows, donate_argnames="cache"),
    )


def _prefix(graph, params, prompt, sources, rope_length) -> KV:
    return nnx.merge(graph, params).prefix(prompt, sources, rope_length=rope_length)


def _step(graph, params, cache, x, span, prompt, place, num_target, rope_length, *, guidance) -> jax.Array:
    """x float32 [B, P, 4 C] at time span[0] -> at span[1]; all branches ride the batch axis."""
    model = nnx.merge(graph, params)
    repeats = place.shape[0] // x.shape[0]

    def velocity(x, t):
        rows = Patches(jnp.tile(x, (repeats, 1, 1)), place)
        t = jnp.broadcast_to(t, place.shape[:1])
        v = model.velocity(rows, t, cache, prompt, num_target=num_target, rope_length=rope_length)
        return flow.guide(v, guidance)

    return flow.sample(velocity, x, span)


def _replace_rows(cache: KV, new: KV) -> KV:
    """`cache` with its first rows overwritten by those of `new` [L, B, ...], in place."""
    return KV(
        *(
            jax.lax.dynamic_update_slice_in_dim(old, part, 0, axis=1)
            for old, part in zip(cache, new, strict=True)
        )
    )


def prefix(network: Network, rows: Layout) -> KV:
    """Keys and values of the condition of all rows; needed once per image and instruction."""
    run = programs(network.tuning).prefix
    return run(network.graph, network.params, rows.prompt, rows.sources, rows.rope_length)


def replace_condition(network: Network, cache: KV, rows: Layout, count: int) -> KV:
    """`cache` (which is consumed) with only its first `count` rows, the `cond` branch, encoded anew."""
    first = jax.tree.map(lambda a: a[:count], rows)
    return programs(network.tuning).replace_rows(cache, prefix(network, first))


def sample(
    network: Network,
    cache: KV,
    rows: Layout,
    noises: Sequence[Sequence[np.ndarray]],
    *,
    guidance: flow.Guidance,
    steps: int,
    on_step: Callable[[int, Callable[[], list[np.ndarray]]], None] | None = None,
) -> list[np.ndarray]:
    """Euler steps from noise to latents of the same shapes, the mean over all noises.

    Args:
      noises: for each start a list of float32 [h, w, C], one per row.
      on_step: called as on_step(step, latents) when a step is done; latents() is the mean at that moment,
        which costs a copy from the device and is not made unless asked for.
    Each step is one call per start of one compiled program, whatever their number and whether anybody
    watches; calls are asynchronous unless somebody does.
    """
    run = programs(network.tuning).step
    count, like = rows.place.shape[1], noises[0]
    states = [jnp.asarray(pad_tokens([cut(part[None])[0] for part in noise], count)) for noise in noises]
    times = flow.times(steps)
    fixed = jax.device_put((rows.prompt, rows.place, rows.num_target, rows.rope_length))
    for i in range(steps):
        span = times[i : i + 2]
        states = [
            run(network.graph, network.params, cache, x, span, *fixed, guidance=guidance) for x in states
        ]
        if on_step is not None:
            jax.block_until_ready(states)
            on_step(i + 1, functools.partial(mean_latents, states, like))
    return mean_latents(states, like)


def mean_latents(states: Sequence[jax.Array], like: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Mean of tokens [B, P, 4 C] -> one float32 [h, w, C] per row, with the shapes of `like`."""
    tokens = np.mean([np.asarray(x) for x in states], axis=0)
    return [
        unpatchify(row[None, : num_patches(part)], part.shape[0], part.shape[1])[0]
        for row, part in zip(tokens, like, strict=True)
    ]
