# SPDX-License-Identifier: Apache-2.0
"""Two sources and their fused target: of real pairs, or simulated from a photo.

Order, everywhere: source 1 is the visible / far / over-exposed image, source 2 the infrared / near /
under-exposed one.
"""

from typing import NamedTuple

import cv2
import numpy as np

from ditfuse_jax.data.config import EXPOSURE_STOPS
from ditfuse_jax.image import luma

BLUR_RADIUS = (0.006, 0.02)  # of the defocus disc, in short sides: 1.5 to 5 px at 256
DEPTH_SOFTNESS = (
    0.03,
    0.5,
)  # width of the step between near and far, in standard deviations of the depth field
GLOW = (0.0, 0.08)  # blur of the light beyond the photo's, sigma in short sides
CURVE_STRENGTH = (0.0, 0.6)  # of the S in the camera curve; 0: plain gamma
CURVE_GAMMA = 2.2
READ_NOISE = (0.0005, 0.003)  # of the under-exposed shot, in linear light of full scale
SHOT_NOISE = (0.0, 0.0004)  # variance per linear light, of the under-exposed shot


class Fused(NamedTuple):
    """Two sources and what they should become, uint8 [H, W, 3] each."""

    first: np.ndarray
    second: np.ndarray
    target: np.ndarray


def mean_target(visible: np.ndarray, infrared: np.ndarray, *, kind: str) -> np.ndarray:
    """`rgb`: the mean of both (the paper). `luma`: their mean luminance under the colour of the visible one.

    Adding one number to R, G and B changes the luminance and keeps Cb and Cr of BT.601: no conversion needed.
    """
    if kind == "rgb":
        mean = (visible.astype(np.uint16) + infrared + 1) >> 1
        return mean.astype(np.uint8)
    if kind != "luma":
        raise ValueError(f"target {kind!r} is no mean; use rgb or luma")
    shift = (luma(infrared) - luma(visible)) / 2
    return np.rint(visible + shift[..., None]).clip(0, 255).astype(np.uint8)


def defocus(rng: np.random.Generator, image: np.ndarray) -> Fused:
    """Source 1 is sharp where the scene is far, source 2 where it is near; no pixel is blurred in both.

    The blur of each grows with the distance from its sharp side up to its own disc radius.
    """
    near = depth(rng, image)
    side = min(image.shape[:2])
    radii = rng.uniform(*BLUR_RADIUS, size=2) * side
    first = blur_by(image, np.clip(2 * near - 1, 0, 1), radii[0])
    second = blur_by(image, np.clip(1 - 2 * near, 0, 1), radii[1])
    return Fused(first, second, image)


def depth(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """A plausible nearness map, float32 [H, W] in [0, 1], about as much near as far.

    Smooth noise, a slope (the foreground is mostly below) and, since objects have outlines, the blurred
    picture itself.
    """
    height, width = image.shape[:2]
    side = min(height, width)
    field = _standard(
        cv2.resize(rng.standard_normal((5, 5), np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    )
    ground = np.linspace(-1, 1, height, dtype=np.float32)[:, None] * rng.uniform(-0.3, 1.0)
    outline = _standard(luma(cv2.GaussianBlur(image, (0, 0), side * rng.uniform(0.01, 0.04))))
    field = _standard(field + ground + outline * rng.uniform(-0.8, 0.8))
    step = rng.uniform(*DEPTH_SOFTNESS)
    slope = ((field - rng.uniform(-0.4, 0.4)) / step).clip(-30, 30)  # exp overflows float32 at 88
    return 1 / (1 + np.exp(-slope, dtype=np.float32))


def _standard(field: np.ndarray) -> np.ndarray:
    return ((field - field.mean()) / max(float(field.std()), 1e-6)).astype(np.float32)


def blur_by(image: np.ndarray, amount: np.ndarray, radius: float) -> np.ndarray:
    """Disc blur of radius amount [H, W] * radius: of sharp, half and full, the nearer two are mixed."""
    half, full = (cv2.filter2D(image, -1, disc(radius * share)).astype(np.float32) for share in (0.5, 1.0))
    weight = amount[..., None]
    low = image + np.clip(2 * weight, 0, 1) * (half - image)
    mixed = low + np.clip(2 * weight - 1, 0, 1) * (full - low)
    return np.rint(mixed).clip(0, 255).astype(np.uint8)


def disc(radius: float) -> np.ndarray:
    """The kernel of a defocused point, float32 [k, k], sum 1, edge smoothed over one pixel."""
    reach = int(np.ceil(radius))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    kernel = np.clip(radius + 0.5 - np.hypot(x, y), 0, 1).astype(np.float32)
    return kernel / kernel.sum()


def expose(
    rng: np.random.Generator,
    image: np.ndarray,
    *,
    stops: tuple[float, float] = EXPOSURE_STOPS,
    scene: tuple[float, float] = (0.0, 0.0),
) -> Fused:
    """Source 1 over-exposed and clipped, source 2 dark with noise, both through one camera curve.

    Args:
      stops: range of either side's distance from the photo.
      scene: range of the stops by which the light of the scene differs more than in the photo (ours). Each
        place stays as far from the photo as `stops` says in one source and lies further away in the other, as
        in a real bracket.
    """
    over, under = rng.uniform(*stops, size=2)
    strength = float(rng.uniform(*CURVE_STRENGTH))
    light = _linear(strength)  # of each of the 256 levels
    if scene[1]:
        glow = rng.uniform(*scene) * brightness(rng, image)[..., None]
        photo = cv2.LUT(image, light.astype(np.float32))
        first = _to_uint8(_curve_of_root(strength)[_at(photo * 2 ** (over + glow))])
        dark = photo * np.exp2(glow - glow.max() - under, dtype=np.float32)
    else:
        first = cv2.LUT(image, _to_uint8(camera_curve(light * 2**over, strength)))
        dark = cv2.LUT(image, (light * 2**-under).astype(np.float32))
    sigma = np.sqrt(rng.uniform(*READ_NOISE) ** 2 + rng.uniform(*SHOT_NOISE) * dark, dtype=np.float32)
    dark += sigma * rng.standard_normal(image.shape, np.float32)
    return Fused(first, _to_uint8(_curve_of_root(strength)[_at(dark)]), image)


def brightness(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """How bright the scene is at each place, float32 [H, W] in [0, 1]: the luminance, blurred or not."""
    side = min(image.shape[:2])
    field = cv2.GaussianBlur(luma(image), (0, 0), side * rng.uniform(*GLOW) + 0.3)
    low, high = np.percentile(field, (5, 95))
    return ((field - low) / max(high - low, 1.0)).clip(0, 1)


def _at(light: np.ndarray) -> np.ndarray:
    """Where linear light lies in `_curve_of_root`'s table."""
    return (np.sqrt(light.clip(0, 1)) * _STEPS + 0.5).astype(np.int32)


# of the table that stands for the curve, over the root of the light: over light it is too steep at 0
_STEPS = 4095


def camera_curve(light: np.ndarray, strength: float) -> np.ndarray:
    """Linear light -> signal, both in [0, 1]; clips. A gamma mixed with a smooth S of `strength`."""
    y = np.clip(light, 0, 1) ** (1 / CURVE_GAMMA)
    return (1 - strength) * y + strength * y * y * (3 - 2 * y)


def _linear(strength: float) -> np.ndarray:
    """The curve's inverse at the 256 levels, float64 [256]."""
    return np.interp(np.arange(256) / 255, _curve_of_root(strength), np.linspace(0, 1, _STEPS + 1)) ** 2


def _curve_of_root(strength: float) -> np.ndarray:
    return camera_curve(np.linspace(0, 1, _STEPS + 1) ** 2, strength)


def _to_uint8(signal: np.ndarray) -> np.ndarray:
    return np.rint(255 * signal).clip(0, 255).astype(np.uint8)
