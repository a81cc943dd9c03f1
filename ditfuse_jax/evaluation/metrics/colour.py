# SPDX-License-Identifier: Apache-2.0
"""Colour: the grey image that all other metrics see, CIEDE2000, colourfulness."""

import numpy as np

LUMA = np.array([0.299, 0.587, 0.114])  # BT.601
RULE = "grey: BT.601 luma rounded to integers"  # what tables state


def grey(image: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] -> float64 [H, W] of integers in 0 to 255, as MATLAB's rgb2gray (0.2989 there)."""
    return np.rint(image.astype(np.float64) @ LUMA)


def ciede2000(image: np.ndarray, reference: np.ndarray) -> float:
    """Mean CIEDE2000 difference of two sRGB images, uint8 [H, W, 3] each; LOWER is better.

    About 1 is just visible. By scikit-image (`rgb2lab` with D65, `deltaE_ciede2000`; Sharma, Wu and Dalal
    2005). The reference is the truth, or the source whose colour counts: the visible image. Trap: it holds
    lightness too, which a fusion is asked to change; compare methods with it, do not ask for 0. An
    over-exposed image is no reference.
    """
    from skimage.color import deltaE_ciede2000, rgb2lab  # extra `eval`

    return float(deltaE_ciede2000(rgb2lab(reference), rgb2lab(image)).mean())


def colourfulness(image: np.ndarray) -> float:
    """Hasler and Suesstrunk 2003 of uint8 [H, W, 3]: sigma + 0.3 mu of R - G and (R + G) / 2 - B.

    0 for grey, about 15 slightly, 45 fairly, 80 and more very colourful. No direction: invented colour raises
    it. Say it beside the sources' own.
    """
    red, green, blue = np.moveaxis(image.astype(np.float64), -1, 0)
    red_green, yellow_blue = red - green, (red + green) / 2 - blue
    spread = np.hypot(red_green.std(), yellow_blue.std())
    return float(spread + 0.3 * np.hypot(red_green.mean(), yellow_blue.mean()))
