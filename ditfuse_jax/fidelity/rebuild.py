# SPDX-License-Identifier: Apache-2.0
"""The decoded result, made again of the pixels of its sources.

M is the decoder's result, A' and B' are the sources through the autoencoder, A and B the sources. M is
explained by A' and B', where what the autoencoder loses is lost on both sides, and the explanation is applied
to A and B:

    weights    F = B + w (A - B)                    what only chooses: focus
    gains      F = a A + b B + c                    what changes light: exposure, infrared-visible
    both       gains where weights leave more of M unexplained than its error explains
    residual   + (M - F) where neither explains M: what the model restored or drew, such as an overlay

Each step is shrunk by evidence: the Wiener-like factor 1 - error / energy, with the error of the model of the
day as the constant.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from ditfuse_jax.fidelity import gains, weights
from ditfuse_jax.fidelity.windows import blur, detail, reach

LEVELS = 127.5  # 8-bit levels in one unit of pixels in [-1, 1]
COARSE = 8.0  # pixels: what is coarser than this window is brightness, the rest detail
FINE_ERROR, COARSE_ERROR = 4.0, 25.0  # squared 8-bit levels: the model's errors of detail and of brightness
DOUBT = 8.0  # errors that weights may leave before gains come in
DRAWN, AROUND = 4.0, 2.0  # pixels: drawn details, and the window of their energy
UNEXPLAINED = 20.0  # squared 8-bit levels of details that no source explains and that count as drawn
EXPLAINED = UNEXPLAINED**0.5  # 8-bit levels of `invented` up to which the sources explain a pixel
HALO = (
    max(gains.CONTEXT, weights.CONTEXT) + 2 * reach(COARSE) + reach(DRAWN) + reach(AROUND)
)  # pixels that a result depends on, on every side

FOCUS = ("multi-focus",)
LIGHT = ("multi-exposure", "multi-modalities")
CONTROL = ("light++", "light+", "light-", "light--", "contrast+", "contrast-")


class Rebuilt(NamedTuple):
    pixels: jax.Array  # float32 [B, H, W, 3] in [-1, 1], not clipped
    weights: jax.Array  # float32 [B, H, W], 1 where the first source is taken, 0 where the second
    invented: jax.Array  # float32 [B, H, W], 8-bit levels: details of the result that no source explains


class Fit(NamedTuple):
    """An explanation on both sides, in 8-bit levels."""

    shown: jax.Array  # [B, H, W, 3], made of the round trips: what M would be without error
    native: jax.Array  # [B, H, W, 3], made of the originals


def rebuild(
    result: jax.Array, round_trips: jax.Array, originals: jax.Array, *, kind: str | None = None
) -> Rebuilt:
    """The decoded result made of the originals.

    Args:
      result: float32 [B, H, W, 3] in [-1, 1], the decoder's.
      round_trips: float32 [B, 2, H, W, 3], the sources through the autoencoder. originals: the sources.
      kind: the prompt's tag (`prompt.kind_of`), which chooses how far a result may leave its sources; None
        lets the evidence decide.
    """
    result, trips, sources = LEVELS * result, _pair(LEVELS * round_trips), _pair(LEVELS * originals)
    sharp = kind in FOCUS
    logits = weights.by_sharpness(result, trips, sources) if sharp else weights.by_model(result, *trips)
    weight = jax.nn.sigmoid(logits)
    chosen = mixed(weight, trips, sources)
    if kind in FOCUS:
        fit = chosen
    elif kind in LIGHT + CONTROL:
        fit = gained(result, trips, sources, by_contrast=kind in LIGHT)
    else:
        fit = by_evidence(result, chosen, gained(result, trips, sources))
    unexplained = blur(jnp.mean(jnp.square(detail(result - fit.shown, DRAWN)), -1), AROUND)
    invented = jnp.sqrt(jnp.maximum(unexplained, 0.0))
    drawn = 0.0 if kind in FOCUS + LIGHT else shrunk(unexplained, UNEXPLAINED)[..., None]
    return Rebuilt((fit.native + drawn * (result - fit.native)) / LEVELS, weight, invented)


def mixed(weight: jax.Array, trips, sources) -> Fit:
    """One weight a pixel, float32 [B, H, W]."""
    each = weight[..., None]
    return Fit(*(second + each * (first - second) for first, second in (trips, sources)))


def gained(result: jax.Array, trips, sources, *, by_contrast: bool = False) -> Fit:
    """Gain and offset."""
    found = gains.fit(result, *trips, by_contrast=by_contrast)
    return Fit(found.apply(*trips), found.apply(*sources))


def by_evidence(result: jax.Array, chosen: Fit, changed: Fit) -> Fit:
    """`chosen`, and `changed` as far as `chosen` leaves more of the result unexplained than its error."""
    rest = result - chosen.shown
    coarse = blur(rest, COARSE)
    fine = jnp.mean(jnp.square(rest - coarse), -1) / FINE_ERROR
    doubt = blur(fine + jnp.mean(jnp.square(coarse), -1) / COARSE_ERROR, COARSE)
    share = shrunk(doubt, DOUBT)[..., None]
    return Fit(*(a + share * (b - a) for a, b in zip(chosen, changed, strict=True)))


def shrunk(energy: jax.Array, error: float) -> jax.Array:
    """1 - error / energy, at least 0: nothing below the error, nearly all far above it."""
    return jnp.maximum(1.0 - error / jnp.maximum(energy, 1e-6), 0.0)


def _pair(images: jax.Array) -> tuple[jax.Array, jax.Array]:
    return images[:, 0], images[:, 1]
