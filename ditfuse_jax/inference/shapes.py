# SPDX-License-Identifier: Apache-2.0
"""Which shape a picture, or a region of one, goes through the model in: one that it was trained at.

    X X X .      X: the picture, scaled down where no known shape holds it
    X X X .      .: its reflection, which the result is cut free of
    . . . .

A model that learnt few shapes scrambles others in silence: places, and so attention, then stand for nothing
that it has seen. Reflected borders are ordinary content; what is fused there is thrown away.
"""

from ditfuse_jax.config import SamplingConfig, ShapesConfig
from ditfuse_jax.image import MIN_SIDE, Geometry
from ditfuse_jax.inference.tiles import Tiling, tiling


def choose(height: int, width: int, known: ShapesConfig, *, max_side: int) -> Geometry:
    """The way of a picture of `height` x `width` pixels through the model.

    It keeps its size where a known shape holds it and no side exceeds max_side; else it is scaled down as
    little as that takes. Then it is padded to the known shape of the fewest pixels that holds it.

    Raises ValueError where scaling leaves a side under 16 pixels.
    """
    scale = min(1.0, largest_scale(height, width, known, max_side=max_side))
    fused = round(height * scale), round(width * scale)
    if min(fused) < MIN_SIDE:
        needed = -(-MIN_SIDE * max(height, width) // min(height, width))
        raise ValueError(
            f"{width} x {height} pixels would be fused at {fused[1]} x {fused[0]}, a side under {MIN_SIDE}; "
            f"use a max_side of {needed} or more, or crop the long side"
        )
    return Geometry((height, width), fused, smallest_shape(*fused, known))


def largest_scale(height: int, width: int, known: ShapesConfig, *, max_side: int) -> float:
    """The greatest factor at which some known shape holds the picture, and no side exceeds max_side."""
    if known.exact:
        room = max(min(shape[0] / height, shape[1] / width) for shape in known.exact)
    else:
        room = known.max_side / max(height, width)
    return min(room, max_side / max(height, width))


def choose_tiles(height: int, width: int, known: ShapesConfig, settings: SamplingConfig) -> Tiling | None:
    """The native tiles that a picture is fused in, or None where it goes through the model in one piece.

    With `tiles` auto, those are the pictures that would be scaled down, where fidelity is above 0. The shape
    is the known one that needs the fewest tiles, and among these the smallest.
    """
    if settings.tiles == "off":
        return None
    fits = largest_scale(height, width, known, max_side=settings.max_side) >= 1
    if settings.tiles == "auto" and (fits or settings.fidelity == 0):
        return None
    tilings = [
        tiling(height, width, tile=tile, unit=known.step)
        for tile in tile_shapes(height, width, known, settings.max_side)
    ]
    return min(tilings, key=lambda each: (len(each.corners), each.tile[0] * each.tile[1]))


def tile_shapes(height: int, width: int, known: ShapesConfig, max_side: int) -> list[tuple[int, int]]:
    """Known shapes up to max_side, in pixels; where all multiples are known, one about the picture's size."""
    if known.exact:
        small = [shape for shape in known.exact if max(shape) <= max_side]
        return small or [min(known.exact, key=lambda shape: shape[0] * shape[1])]
    room = max(known.step, max_side // known.step * known.step)
    return [tuple(min(room, -(-side // known.step) * known.step) for side in (height, width))]


def smallest_shape(height: int, width: int, known: ShapesConfig) -> tuple[int, int]:
    """The known height, width of the fewest pixels that hold height x width; there must be one."""
    if known.exact:
        holding = [shape for shape in known.exact if shape[0] >= height and shape[1] >= width]
        return min(holding, key=lambda shape: shape[0] * shape[1])
    return tuple(-(-side // known.step) * known.step for side in (height, width))
