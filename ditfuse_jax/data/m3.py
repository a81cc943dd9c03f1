# SPDX-License-Identifier: Apache-2.0
"""M3 (paper III-B2): one photo becomes two copies, damaged block by block.

A quarter of the blocks is damaged in both copies, each other block in exactly one. The target is the photo.
Operations and strengths are those of the official script (make_M3_data.py), on one random generator.
"""

from typing import NamedTuple

import cv2
import numpy as np

from ditfuse_jax.data.config import M3Config

REFERENCE_SIDE = 256  # pixels; crops with a shorter side get smaller blocks in proportion
SMALLEST_BLOCK = 4
KERNELS = (3, 5, 7, 9, 11)  # of all blurs
BLUR_SIGMA = (0.8, 3.0)  # Gaussian blur, pixels
NOISE_SIGMA = (10.0, 35.0)  # Gaussian noise, of 255
SALT_AND_PEPPER = (0.01, 0.03)  # share of pixels


class Plan(NamedTuple):
    """What happens to each of n blocks."""

    boxes: np.ndarray  # int32 [n, 4]: top, left, bottom, right; clipped at the edges
    operations: np.ndarray  # int32 [n], index into the config's operations
    damaged: np.ndarray  # bool [2, n]: which copies


def plan(rng: np.random.Generator, height: int, width: int, cfg: M3Config) -> Plan:
    """Draws block size, operations, and which copies each block is damaged in."""
    block = int(rng.choice(cfg.blocks)) * min(1.0, min(height, width) / REFERENCE_SIDE)
    boxes = grid(height, width, max(SMALLEST_BLOCK, round(block)))
    count = len(boxes)
    joint = joint_count(count, cfg.joint_share)
    first = rng.random(count) < 0.5
    damaged = np.stack([first, ~first])
    damaged[:, rng.choice(count, joint, replace=False)] = True
    return Plan(boxes, rng.integers(len(cfg.operations), size=count, dtype=np.int32), damaged)


def joint_count(count: int, share: float) -> int:
    """Blocks damaged in both copies: max(1, n // 4) at the paper's share of 0.25, none at 0."""
    return 0 if share == 0 else max(1, int(count * share))


def grid(height: int, width: int, block: int) -> np.ndarray:
    """Blocks from the top-left corner, row by row, the last ones clipped: int32 [n, 4]."""
    top, left = np.meshgrid(np.arange(0, height, block), np.arange(0, width, block), indexing="ij")
    bottom, right = np.minimum(top + block, height), np.minimum(left + block, width)
    return np.stack([top, left, bottom, right], -1).reshape(-1, 4).astype(np.int32)


def degrade(rng: np.random.Generator, image: np.ndarray, cfg: M3Config) -> tuple[np.ndarray, np.ndarray]:
    """Two damaged copies of image, uint8 [H, W, 3] each."""
    boxes, operations, damaged = plan(rng, *image.shape[:2], cfg)
    copies = (image.copy(), image.copy())
    for box, operation, sides in zip(boxes.tolist(), operations.tolist(), damaged.T.tolist(), strict=True):
        for copy, hit in zip(copies, sides, strict=True):
            if hit:
                region = copy[box[0] : box[2], box[1] : box[3]]
                region[:] = damage(rng, region, cfg.operations[operation], cfg)
    return copies


def damage(rng: np.random.Generator, region: np.ndarray, operation: str, cfg: M3Config) -> np.ndarray:
    """One damaged copy of a block, uint8 [h, w, 3], with its own parameters and noise."""
    if operation == "mask":
        return uniform_noise(rng, region.shape)
    if operation == "blur":
        return blur(rng, region)
    if cfg.salt_and_pepper and rng.random() < 0.5:
        return salt_and_pepper(rng, region)
    return gaussian_noise(rng, region)


def uniform_noise(rng: np.random.Generator, shape) -> np.ndarray:
    return rng.integers(0, 256, shape, np.uint8)


def gaussian_noise(rng: np.random.Generator, region: np.ndarray) -> np.ndarray:
    noise = rng.standard_normal(region.shape, np.float32)
    noise *= np.float32(rng.uniform(*NOISE_SIGMA))
    noise += region
    return np.clip(noise, 0, 255, out=noise).astype(np.uint8)  # truncated, as the official script does


def salt_and_pepper(rng: np.random.Generator, region: np.ndarray) -> np.ndarray:
    """White, then black pixels; places may coincide."""
    height, width = region.shape[:2]
    count = int(rng.uniform(*SALT_AND_PEPPER) * height * width / 2)
    noisy = region.copy()
    for value in (255, 0):
        noisy[rng.integers(height, size=count), rng.integers(width, size=count)] = value
    return noisy


def blur(rng: np.random.Generator, region: np.ndarray) -> np.ndarray:
    """Gaussian, box or median, of the block alone: its surroundings do not leak in."""
    kernel = KERNELS[rng.integers(len(KERNELS))]
    region = np.ascontiguousarray(region)
    kind = rng.integers(3)
    if kind == 0:
        sigma = rng.uniform(*BLUR_SIGMA)
        return cv2.GaussianBlur(region, (kernel, kernel), sigmaX=sigma, sigmaY=sigma)
    return cv2.blur(region, (kernel, kernel)) if kind == 1 else cv2.medianBlur(region, kernel)


class Irregular(NamedTuple):
    """Free-form damage (paper Fig. 20), for evaluation."""

    first: np.ndarray  # uint8 [H, W, 3]
    second: np.ndarray
    missing: np.ndarray  # bool [2, H, W]: where each source lost its pixels


def irregular(rng: np.random.Generator, image: np.ndarray) -> Irregular:
    """Regions missing in one source, in the other, and in both, filled with uniform noise.

    The paper does not say what fills them. Each kind is one to three brush strokes and covers roughly a tenth
    of the image.
    """
    shape = image.shape[:2]
    first, second, both = (_strokes(rng, shape) for _ in range(3))
    missing = np.stack([(first & ~second) | both, (second & ~first) | both])
    noise = (uniform_noise(rng, image.shape) for _ in range(2))
    damaged = [np.where(hole[..., None], fill, image) for hole, fill in zip(missing, noise, strict=True)]
    return Irregular(*damaged, missing)


def _strokes(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Bool [H, W]: wandering thick lines."""
    canvas = np.zeros(shape, np.uint8)
    side = min(shape)
    for _ in range(rng.integers(1, 4)):
        point = rng.uniform(0, 1, 2) * (shape[1], shape[0])
        angle = rng.uniform(0, 2 * np.pi)
        for _ in range(rng.integers(3, 8)):
            angle += rng.normal(0, 0.8)
            step = point + rng.uniform(0.05, 0.2) * side * np.array([np.cos(angle), np.sin(angle)])
            thick = max(2, int(rng.uniform(0.04, 0.12) * side))
            cv2.line(canvas, tuple(point.astype(int).tolist()), tuple(step.astype(int).tolist()), 1, thick)
            point = step
    return canvas.astype(bool)
