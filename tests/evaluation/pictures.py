# SPDX-License-Identifier: Apache-2.0
"""Small pictures with structure, so that every metric has something to see."""

import cv2
import numpy as np
from PIL import Image


def triple(height: int, width: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """first, second, fused: grey float64 [H, W] of integers in 0 to 255, related but not equal."""
    rng = np.random.default_rng(seed)
    scene = cv2.GaussianBlur(rng.integers(0, 256, (height, width)).astype(np.float64), (0, 0), 1.2)
    first = 128 + 3 * (scene - scene.mean())
    second = 110 - 1.5 * (scene - scene.mean()) + 30 * rng.standard_normal((height, width))
    fused = 0.6 * first + 0.4 * second + 4 * rng.standard_normal((height, width))
    return tuple(np.rint(image).clip(0, 255) for image in (first, second, fused))


def coloured(height: int, width: int, *, seed: int = 0) -> np.ndarray:
    """uint8 [H, W, 3]"""
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 0.8)


def write(file, image: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(file)


def write_mask(file, mask: np.ndarray) -> None:
    """Bool [H, W] as a segmenter writes it: 8 bit, 255 where marked."""
    write(file, np.where(mask, np.uint8(255), np.uint8(0)))


def folders(root, *, stems=("a", "b", "c"), size=(48, 64)) -> dict:
    """Sources, their mean and a truth below `root`; the folders by name."""
    for seed, stem in enumerate(stems):
        truth = coloured(*size, seed=seed)
        first, second = (cv2.GaussianBlur(truth, (0, 0), 1.5) for _ in range(2))
        half = size[1] // 2
        first[:, :half], second[:, half:] = truth[:, :half], truth[:, half:]
        mean = ((first.astype(int) + second) // 2).astype(np.uint8)
        for name, image in (("one", first), ("two", second), ("mean_of_both", mean), ("truth", truth)):
            write(root / name / f"{stem}.png", image)
    return {name: root / name for name in ("one", "two", "mean_of_both", "truth")}
