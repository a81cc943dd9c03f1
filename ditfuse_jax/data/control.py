# SPDX-License-Identifier: Apache-2.0
"""Targets of the control task: how much each tag changes brightness or contrast (paper Fig. 2 and 11).

The paper gives no strengths. Ours: brightness is a gamma curve, which never clips and moves dark pictures
visibly; one step is half a power of two of the exponent, two steps a whole one. Contrast scales the distance
of all channels from the mean luminance; more contrast is a curve that reaches black and white only where the
picture does, so nothing clips.
"""

import cv2
import numpy as np

from ditfuse_jax.image import luma

GAMMA = {"light++": 0.5, "light+": 2**-0.5, "light-": 2**0.5, "light--": 2.0}  # out = in ** gamma, in [0, 1]
CONTRAST = {"contrast+": 1.5, "contrast-": 0.6}  # slope of the curve at the mean
CONTROLS = (*GAMMA, *CONTRAST)
EDGE = 1 / 128  # softness of an object's edge: sigma of a Gaussian, in short sides of the image


def adjust(image: np.ndarray, subtask: str, *, mean: float | None = None) -> np.ndarray:
    """The whole image, uint8 [H, W, 3], changed as `subtask` says; `mean` luminance defaults to its own."""
    level = np.arange(256) / 255
    if subtask in GAMMA:
        curve = 255 * level ** GAMMA[subtask]
    elif subtask in CONTRAST:
        mean = float(luma(image).mean()) if mean is None else mean
        curve = (steepened if subtask == "contrast+" else flattened)(level, mean / 255, CONTRAST[subtask])
        curve = 255 * curve
    else:
        raise ValueError(f"control {subtask!r} is not one of {', '.join(CONTROLS)}")
    return cv2.LUT(image, np.rint(curve).clip(0, 255).astype(np.uint8))


def flattened(level: np.ndarray, mean: float, slope: float) -> np.ndarray:
    """Levels in [0, 1] nearer to the mean: mean + slope * (level - mean)."""
    return mean + slope * (level - mean)


def steepened(level: np.ndarray, mean: float, slope: float) -> np.ndarray:
    """An S through (0, 0), (mean, mean) and (1, 1), rising everywhere, with `slope` at the mean."""
    mean = min(max(mean, 1 / 255), 254 / 255)
    dark = mean * (level / mean) ** slope
    bright = 1 - (1 - mean) * ((1 - level) / (1 - mean)) ** slope
    return np.where(level < mean, dark, bright)


def adjust_object(image: np.ndarray, subtask: str, mask: np.ndarray) -> np.ndarray:
    """Only where bool mask [H, W] is true, with a soft edge; contrast turns about the object's own mean."""
    mean = float(luma(image)[mask].mean()) if mask.any() else 0.0
    return blend(image, adjust(image, subtask, mean=mean), soften(mask))


def soften(mask: np.ndarray) -> np.ndarray:
    """Bool mask [H, W] -> weights float32 [H, W] in [0, 1], 0.5 on the edge."""
    sigma = max(0.5, EDGE * min(mask.shape))
    return cv2.GaussianBlur(mask.astype(np.float32), (0, 0), sigma)


def blend(image: np.ndarray, other: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """image + weight * (other - image), uint8 [H, W, 3]; weight float32 [H, W]."""
    mixed = image + weight[..., None] * (other.astype(np.float32) - image)
    return np.rint(mixed).clip(0, 255).astype(np.uint8)
