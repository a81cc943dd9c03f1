# SPDX-License-Identifier: Apache-2.0
"""What an infrared-visible pair should become: the means of the paper's kind, and a target of ours.

The mean halves every contrast that only one camera sees, so warm people come out half grey. `detail_target`
keeps the stronger detail of either luminance under the visible colour. It was chosen by VIF, Qabf and SCD on
validation pairs: docs/demo_choices.md.
"""

import cv2
import numpy as np

from ditfuse_jax.data import pyramid
from ditfuse_jax.data.pairs import mean_target
from ditfuse_jax.image import luma

ACTIVITY = 2.0  # pixels of each band: sigma of the window in which the stronger source is found
BASE_GAIN = 0.75  # of either side's large shapes; 0.5 is their mean, which loses contrast


def target(visible: np.ndarray, infrared: np.ndarray, *, kind: str) -> np.ndarray:
    """uint8 [H, W, 3] of one of config.IVIF_TARGETS; ValueError for another."""
    return detail_target(visible, infrared) if kind == "detail" else mean_target(visible, infrared, kind=kind)


def detail_target(visible: np.ndarray, infrared: np.ndarray) -> np.ndarray:
    """Of every band of the two luminances the stronger one, under the colour of the visible image.

    A Laplacian pyramid (Burt and Adelson 1983) with two changes: strength is the local mean of the absolute
    band, so that neighbouring pixels come from one source; what remains is
    mean + BASE_GAIN * (both deviations from their means), so that large warm objects keep their contrast.
    """
    one, two = luma(visible), luma(infrared)
    *bands, (low_one, low_two) = zip(pyramid.bands(one), pyramid.bands(two), strict=True)
    fused = base(low_one, low_two)
    for first, second in reversed(bands):
        fused = pyramid.up(fused, first) + np.where(activity(first) >= activity(second), first, second)
    shift = fused.clip(0, 255) - one  # the same in R, G and B: Cb and Cr of BT.601 stay
    return np.rint(visible + shift[..., None]).clip(0, 255).astype(np.uint8)


def base(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """The large shapes of both, float32 [h, w]."""
    mean_one, mean_two = one.mean(), two.mean()
    return (mean_one + mean_two) / 2 + BASE_GAIN * ((one - mean_one) + (two - mean_two))


def activity(band: np.ndarray) -> np.ndarray:
    return cv2.GaussianBlur(np.abs(band), (0, 0), ACTIVITY)
