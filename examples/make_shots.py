# SPDX-License-Identifier: Apache-2.0
"""Makes what cameras give, of the drawn scene in ivif/: `python examples/make_shots.py FOLDER`.

focus/1.jpg 2.jpg 3.jpg       held by hand: sharp near, in the middle and far
brackets/1.jpg 2.jpg 3.jpg    held by hand: two stops under, as it is, two over; a balloon flies by
thermal/visible.png           and thermal.png, counts of 14 bits that use 550 of them, some pixels off
frames/vis/1.png ...          and frames/ir/1.png ...: two cameras on one car, counts as above
"""

import argparse
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from ditfuse_jax.registration import geometry

SCENE = Path(__file__).parent / "ivif"
EDGE = 32  # pixels that are cut off on every side, so that moved pictures have no empty border
HANDS = ((0.0, 0.0, 0.0), (7.0, -4.0, 0.8), (-5.0, 6.0, -0.6))  # pixels right, down, degrees of each shot
STOPS, GAMMA = (-2, 0, 2), 2.2
COUNTS = (7250, 7800)  # of the coldest and the hottest pixel
MOUNT = (6.0, 3.0, 0.3)  # how the thermal camera lies to the other one
FRAMES = 4


def scene(number: int) -> np.ndarray:
    """uint8 [H, W, 3]: 1 visible, 2 infrared."""
    with Image.open(SCENE / f"image{number}.png") as image:
        return np.asarray(image.convert("RGB"))


def held(picture: np.ndarray, right: float, down: float, degrees: float) -> np.ndarray:
    """The picture as a camera that moved saw it, without its borders."""
    size = picture.shape[:2]
    matrix = geometry.turn(degrees, size) @ geometry.shift(right, down)
    moved = (
        geometry.warp(picture, matrix, size, sharp=True) if (right, down, degrees) != (0, 0, 0) else picture
    )
    return np.ascontiguousarray(moved[EDGE:-EDGE, EDGE:-EDGE])


def focus(picture: np.ndarray) -> list[np.ndarray]:
    """Three shots; what lies low in the picture is near."""
    near = np.linspace(0, 1, len(picture), dtype=np.float32)[:, None, None]
    blurred = [cv2.GaussianBlur(picture, (0, 0), sigma) if sigma else picture for sigma in (0, 1.5, 3.0)]
    shots = []
    for sharp in (0.85, 0.5, 0.15):
        level = np.clip(4 * (np.abs(near - sharp) - 0.2), 0, 2)
        weights = [np.clip(1 - np.abs(level - k), 0, 1) for k in range(3)]
        shots.append(sum(w * b for w, b in zip(weights, blurred, strict=True)).round().astype(np.uint8))
    return shots


def exposed(picture: np.ndarray, stop: int) -> np.ndarray:
    light = (picture / 255.0) ** GAMMA * 2.0**stop
    return np.rint(255 * np.clip(light, 0, 1) ** (1 / GAMMA)).astype(np.uint8)


def balloon(picture: np.ndarray, place: int) -> np.ndarray:
    """With a balloon in the sky, further right in every shot."""
    painted = picture.copy()
    cv2.ellipse(painted, (215 + 55 * place, 95), (17, 22), 0, 0, 360, (214, 70, 60), -1, cv2.LINE_AA)
    cv2.line(painted, (215 + 55 * place, 117), (215 + 55 * place, 150), (90, 80, 80), 2, cv2.LINE_AA)
    return painted


def counts(infrared: np.ndarray, warmer: float = 0.0) -> np.ndarray:
    """uint16 [H, W] of a thermal camera; warmer: counts more everywhere."""
    low, high = COUNTS
    return np.rint(low + warmer + infrared[..., 0] * ((high - low) / 255)).astype(np.uint16)


def save(file: Path, picture: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    options = {"quality": 95, "subsampling": 0} if file.suffix == ".jpg" else {}
    Image.fromarray(picture).save(file, **options)


def make(folder: Path) -> None:
    visible, infrared = scene(1), scene(2)
    for number, (shot, hand) in enumerate(zip(focus(visible), HANDS, strict=True), 1):
        save(folder / f"focus/{number}.jpg", held(shot, *hand))
    for number, (stop, hand) in enumerate(zip(STOPS, HANDS, strict=True), 1):
        save(folder / f"brackets/{number}.jpg", exposed(held(balloon(visible, number - 1), *hand), stop))
    save(folder / "thermal/visible.png", held(visible, 0, 0, 0))
    save(folder / "thermal/thermal.png", counts(held(infrared, *MOUNT)))
    for number in range(1, FRAMES + 1):
        pan = 6.0 * (number - 1), 0.0, 0.0
        rows = np.s_[96:288, 128:384]
        save(folder / f"frames/vis/{number}.png", held(visible, *pan)[rows])
        save(
            folder / f"frames/ir/{number}.png", counts(held(infrared, pan[0] + 6, 3, 0.3), 5.0 * number)[rows]
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    make(parser.parse_args().folder)


if __name__ == "__main__":
    main()
