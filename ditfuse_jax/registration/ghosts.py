# SPDX-License-Identifier: Apache-2.0
"""What moved between aligned pictures of one scene: found where they disagree, and shown once.

    expected = level of a picture -> median level of the other     exposure matched, whatever the curve
    moved    = |blur(expected - other)| > tolerance                in one direction or the other

The tolerance grows with the spread of the levels, so that clipped and noisy tones accuse nobody; both
directions are looked at, as each picture knows the tones that the other has lost.
"""

import cv2
import numpy as np

EXPOSURE_BLUR, FOCUS_BLUR = 1 / 200, 1 / 40  # of the shorter side: what is compared is coarser than this
LEVELS = 12.0  # 8-bit levels that any two pictures may differ
SPREADS = 4.0  # standard deviations of the levels
SMALLEST = 1 / 1500  # of the picture: less is no moving thing
RARE = 1 / 5000  # of the picture: levels of fewer pixels follow from their neighbours
NEIGHBOURS = 7  # levels that are looked at together
MOST = 3_000_000  # values that a curve is made of
ROWS = 256  # that are joined at once
GROW = 2.0  # blurs around what was found


def moved(reference: np.ndarray, other: np.ndarray, *, focus: bool) -> np.ndarray:
    """bool [H, W]: where two aligned pictures uint8 [H, W, 3] show different things.

    focus: they differ in sharpness, so that only what is coarser than their blur can be compared.
    """
    sigma = max(1.0, min(reference.shape[:2]) * (FOCUS_BLUR if focus else EXPOSURE_BLUR))
    if focus:  # a blurred edge is no other level
        reference, other = (cv2.GaussianBlur(each, (0, 0), sigma) for each in (reference, other))
    apart = np.zeros(reference.shape[:2], bool)
    for channel in range(3):
        a, b = reference[..., channel], other[..., channel]
        apart |= _disagree(a, b, sigma) | _disagree(b, a, sigma)
    return _whole(apart, sigma)


def matched(reference: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The reference as the exposure of `other` would have it, [H, W, 3] in its bits, by a curve per channel.

    Both uint8 or uint16.
    """
    a, b = ((each, np.iinfo(each.dtype).max // 255) for each in (reference, other))
    thin = max(1, int((reference.size / MOST) ** 0.5))
    made = np.empty(reference.shape, other.dtype)
    for c in range(3):
        plain = [(picture[::thin, ::thin, c] // step).astype(np.uint8) for picture, step in (a, b)]
        levels = np.arange(np.iinfo(reference.dtype).max + 1) / a[1]
        table = np.interp(levels, np.arange(256), _curve(*plain)[0] * b[1])
        made[..., c] = np.rint(table).astype(other.dtype)[reference[..., c]]
    return made


def without(picture: np.ndarray, moving: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """A picture [H, W, 3] with `expected`, see `matched`, at `moving` bool [H, W], softly joined."""
    soft = max(1.0, min(moving.shape) * EXPOSURE_BLUR)
    share = cv2.GaussianBlur(moving.astype(np.uint8) * np.uint8(255), (0, 0), soft)
    made = picture.copy()
    for top in range(0, len(made), ROWS):
        rows = np.s_[top : top + ROWS]
        if share[rows].any():
            part = share[rows, :, None] / np.float32(255)
            made[rows] = np.rint(picture[rows] + part * (expected[rows].astype(np.float32) - picture[rows]))
    return made


def _disagree(a: np.ndarray, b: np.ndarray, sigma: float) -> np.ndarray:
    """bool [H, W], of one channel: where b is not what a lets expect.

    Blurred last: clipping and blurring do not commute, and what is half a pixel off cancels out.
    """
    expected, spread = _curve(a, b)
    apart = cv2.GaussianBlur(expected[a] - b, (0, 0), sigma)
    return np.abs(apart) > LEVELS + SPREADS * cv2.GaussianBlur(spread[a], (0, 0), sigma)


def _curve(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of every level of a uint8 [H, W]: the rising median and the spread of b there, float32 [256]."""
    counts = np.bincount(a.ravel().astype(np.int32) * 256 + b.ravel(), minlength=65536).reshape(256, 256)
    total = counts.sum(1)
    seen = np.flatnonzero(total >= min(total.max(), RARE * a.size))
    below = np.cumsum(counts[seen], axis=1) / total[seen, None]
    low, middle, high = (_smooth(np.argmax(below >= share, axis=1)) for share in (0.16, 0.5, 0.84))
    levels = np.arange(256)
    black = [0] if seen[0] else []  # which stays black, where no pixel says so
    median = np.interp(levels, [*black, *seen], [*black, *_rising(middle, total[seen])])
    return median.astype(np.float32), np.interp(levels, seen, (high - low) / 2).astype(np.float32)


def _smooth(values: np.ndarray) -> np.ndarray:
    """Running median [n]: the one level of a thing that moved says nothing; the ends keep theirs."""
    half = NEIGHBOURS // 2
    padded = np.pad(values, half, mode="edge")
    return np.median(np.lib.stride_tricks.sliding_window_view(padded, NEIGHBOURS), axis=1)


def _rising(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The nearest values that never fall, in weighted least squares: neighbours that fall are pooled."""
    pools: list[tuple[float, float, int]] = []  # mean, weight, number
    for value, weight in zip(values, weights, strict=True):
        mean, heavy, count = float(value), float(weight), 1
        while pools and pools[-1][0] > mean:
            before, more, others = pools.pop()
            mean = (mean * heavy + before * more) / (heavy + more)
            heavy, count = heavy + more, count + others
        pools.append((mean, heavy, count))
    return np.repeat([mean for mean, _, _ in pools], [count for _, _, count in pools])


def _whole(apart: np.ndarray, sigma: float) -> np.ndarray:
    """Without specks, and grown over the borders that the blur hid."""
    size = 2 * int(np.ceil(sigma)) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    opened = cv2.morphologyEx(apart.astype(np.uint8), cv2.MORPH_OPEN, kernel)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(opened)
    large = stats[:, cv2.CC_STAT_AREA] >= SMALLEST * apart.size
    large[0] = False  # the ground
    if not large[:count].any():
        return np.zeros(apart.shape, bool)
    grow = 2 * int(np.ceil(GROW * sigma)) + 1
    wide = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (grow, grow))
    return cv2.dilate(large[labels].astype(np.uint8), wide).astype(bool)
