# SPDX-License-Identifier: Apache-2.0
"""Draws a street at dusk for a colour and a thermal camera: `python examples/render_scene.py FOLDER`.

One layout, two materials: every object has a reflectance (what visible light shows) and a temperature (what
the infrared camera shows). Texture, lettering and window light are in the visible picture only; people, the
engine, tyres and the chimney are warm in the infrared one; smoke hides a man from the colour camera alone.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

WIDTH, HEIGHT, SCALE = 512, 384, 2  # drawn SCALE times larger, then reduced, which smooths the edges
HORIZON, VANISHING = 176, 292.0  # row of the horizon, column where the street ends
SEED = 7
RUBBER, SKIN = (0.02, 0.02, 0.025), (0.44, 0.265, 0.18)  # linear RGB


class Scene:
    """Two canvases that are painted together: visible, linear RGB in [0, 1]; heat in [0, 1]."""

    def __init__(self):
        shape = (HEIGHT * SCALE, WIDTH * SCALE)
        self.visible = np.zeros((*shape, 3), np.float32)
        self.heat = np.zeros(shape, np.float32)

    def fill(self, mask, colour, heat) -> None:
        """mask [H, W] in [0, 1]; colour and heat: a value, or a picture of them."""
        rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
        if not len(rows):
            return
        area = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]  # most objects are small
        colour, heat = np.asarray(colour, np.float32), np.asarray(heat, np.float32)
        colour, heat = colour[area] if colour.ndim == 3 else colour, heat[area] if heat.ndim == 2 else heat
        self.visible[area] += mask[area][..., None] * (colour - self.visible[area])
        self.heat[area] += mask[area] * (heat - self.heat[area])

    def glow(self, centre, radius, colour) -> None:
        """Light around a lamp or window; the thermal camera does not see it."""
        y, x = grid()
        falloff = np.exp(-(((x - centre[0]) / radius) ** 2 + ((y - centre[1]) / radius) ** 2))
        self.visible += falloff[..., None] * np.asarray(colour, np.float32)


def grid():
    """Pixel coordinates y, x of the enlarged canvas, in pixels of the result."""
    return np.mgrid[: HEIGHT * SCALE, : WIDTH * SCALE].astype(np.float32) / SCALE


def polygon(*points) -> np.ndarray:
    mask = np.zeros((HEIGHT * SCALE, WIDTH * SCALE), np.uint8)
    cv2.fillPoly(mask, [np.int32(np.array(points) * SCALE)], 255, cv2.LINE_AA)
    return mask.astype(np.float32) / 255


def box(left, top, right, bottom) -> np.ndarray:
    return polygon((left, top), (right, top), (right, bottom), (left, bottom))


def ellipse(x, y, rx, ry, angle=0.0) -> np.ndarray:
    mask = np.zeros((HEIGHT * SCALE, WIDTH * SCALE), np.uint8)
    axes = (max(1, round(rx * SCALE)), max(1, round(ry * SCALE)))
    cv2.ellipse(mask, (round(x * SCALE), round(y * SCALE)), axes, angle, 0, 360, 255, -1, cv2.LINE_AA)
    return mask.astype(np.float32) / 255


def limb(points, width) -> np.ndarray:
    """A thick rounded line through points."""
    mask = np.zeros((HEIGHT * SCALE, WIDTH * SCALE), np.uint8)
    line = np.int32(np.array(points) * SCALE)
    cv2.polylines(mask, [line], False, 255, max(1, round(width * SCALE)), cv2.LINE_AA)
    return mask.astype(np.float32) / 255


def clouds(rng, shape, cells, octaves=4) -> np.ndarray:
    """Smooth noise with mean 0 and standard deviation 1; `cells` of the coarsest octave per side."""
    field = np.zeros(shape, np.float32)
    for i in range(octaves):
        count = (cells[0] * 2**i, cells[1] * 2**i)
        coarse = rng.standard_normal(count).astype(np.float32)
        field += cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC) / 1.8**i
    return (field - field.mean()) / field.std()


def sky(scene, rng) -> None:
    y, _ = grid()
    height = np.clip(y / HORIZON, 0, 1)
    dusk = np.array([0.055, 0.085, 0.19]) + height[..., None] ** 2.2 * np.array([0.36, 0.16, 0.02])
    cover = np.clip(clouds(rng, y.shape, (5, 3)) * 0.5, 0, 1) * (1 - 0.5 * height)
    dusk = dusk + cover[..., None] * np.array([0.09, 0.06, 0.07])
    scene.fill(np.ones_like(y), dusk, 0.05 + 0.05 * height + 0.03 * cover)
    hills = 18 + 7 * clouds(rng, (1, WIDTH * SCALE), (1, 4), 3)[0]
    mask = (y > HORIZON - hills[None]).astype(np.float32)
    scene.fill(mask, (0.045, 0.05, 0.075), 0.2)


def ground(scene, rng) -> None:
    """Grass and a street of asphalt that runs to the vanishing point, with kerbs, wheel tracks and dashes."""
    y, x = grid()
    below = (y >= HORIZON).astype(np.float32)
    depth = 1 / np.maximum(y - HORIZON + 3, 1)  # grows towards the horizon
    fine = clouds(rng, y.shape, (192, 192), 2)
    blades = clouds(rng, y.shape, (60, 220), 3) * np.clip((y - HORIZON) / 90, 0.15, 1)
    grass = np.array([0.045, 0.075, 0.025]) * (1 + 0.38 * blades + 0.15 * fine)[..., None]
    scene.fill(below, grass, 0.24 + 0.008 * blades)
    across = np.abs((x - VANISHING) * depth + 0.28)  # 0 on the centre line, 1.35 at the kerb
    road = below * np.clip((1.35 - across) * 0.3 / depth, 0, 1)
    wear = 0.6 * np.exp(-(((across - 0.65) / 0.16) ** 2))
    patches = clouds(rng, y.shape, (10, 6), 4)
    asphalt = np.array([0.088, 0.088, 0.1]) * (1 + 0.11 * fine + 0.1 * patches + 0.25 * wear)[..., None]
    scene.fill(road, asphalt, 0.36 + 0.035 * wear + 0.008 * patches)
    scene.fill(below * (np.abs(across - 1.37) < 0.05), (0.2, 0.19, 0.18), 0.31)
    dash = (y > HORIZON + 8) * (across < 0.03) * (np.sin(260 * depth**0.55) > 0)
    scene.fill(dash.astype(np.float32), (0.46, 0.45, 0.4), 0.34)


def brickwork(rng) -> np.ndarray:
    """Rows of bricks with light mortar, a factor on the wall colour, [H, W]."""
    y, x = grid()
    row = np.floor(y / 4.0)
    offset = (row % 2) * 5
    column = np.floor((x + offset) / 10.0)
    tone = rng.uniform(0.75, 1.2, (200, 200)).astype(np.float32)
    bricks = tone[row.astype(int) % 200, column.astype(int) % 200]
    mortar = ((y % 4.0) < 0.7) | (((x + offset) % 10.0) < 0.7)
    return np.where(mortar, 1.5, bricks)


def house(scene, rng) -> None:
    """A brick house: tiled roof, lit and dark windows, a door, a sign, a warm chimney."""
    y, x = grid()
    wall = box(18, 76, 196, 226)
    factor = brickwork(rng)
    scene.fill(wall, np.array([0.2, 0.085, 0.06]) * factor[..., None], 0.3 + 0.0006 * (226 - y))
    roof = polygon((6, 80), (40, 28), (184, 28), (210, 80))
    tiles = 1 + 0.25 * ((y % 6) < 1.4) + 0.1 * np.sign(np.sin(x * 1.1 + 2 * np.floor(y / 6)))
    scene.fill(roof, np.array([0.075, 0.06, 0.07]) * tiles[..., None], 0.17)
    scene.fill(box(140, 8, 158, 42), np.array([0.16, 0.07, 0.05]) * factor[..., None], 0.62)
    scene.fill(box(138, 5, 160, 11), (0.12, 0.11, 0.11), 0.72)
    for left, top, lit in (
        (34, 96, True),
        (84, 96, False),
        (150, 96, True),
        (34, 158, False),
        (150, 158, True),
    ):
        window(scene, left, top, lit)
    scene.fill(box(88, 160, 120, 226), (0.15, 0.13, 0.1), 0.36)
    scene.fill(box(91, 164, 117, 224), (0.05, 0.11, 0.09), 0.4)
    scene.fill(box(95, 169, 113, 188), (0.22, 0.19, 0.1), 0.46)
    scene.fill(ellipse(113, 198, 1.6, 1.6), (0.6, 0.5, 0.2), 0.35)
    scene.fill(box(72, 138, 136, 153), (0.72, 0.68, 0.55), 0.29)
    lettering(scene, "BAKERY", (78, 150), 0.42, (0.1, 0.03, 0.03))


def window(scene, left, top, lit) -> None:
    """A window with frame and cross; for the thermal camera glass is cold and the frame leaks heat."""
    scene.fill(box(left - 3, top - 3, left + 33, top + 37), (0.34, 0.32, 0.28), 0.4)
    y, _ = grid()
    warm = np.array([0.95, 0.62, 0.24]) * (0.75 + 0.012 * (y - top))[..., None]
    scene.fill(
        box(left, top, left + 30, top + 34), warm if lit else (0.03, 0.04, 0.06), 0.44 if lit else 0.27
    )
    if lit:
        scene.fill(box(left + 20, top + 2, left + 30, top + 32), (0.55, 0.22, 0.12), 0.44)  # a curtain
        scene.glow((left + 15, top + 17), 34, (0.05, 0.03, 0.01))
    scene.fill(box(left + 14, top, left + 16, top + 34), (0.34, 0.32, 0.28), 0.38)
    scene.fill(box(left, top + 13, left + 30, top + 15), (0.34, 0.32, 0.28), 0.38)
    scene.fill(box(left - 5, top + 37, left + 35, top + 40), (0.3, 0.29, 0.28), 0.36)


def lettering(scene, text, position, size, colour) -> None:
    """Paint has the temperature of what it is painted on, so letters exist in visible light only."""
    mask = np.zeros((HEIGHT * SCALE, WIDTH * SCALE), np.uint8)
    at = (position[0] * SCALE, position[1] * SCALE)
    cv2.putText(mask, text, at, cv2.FONT_HERSHEY_DUPLEX, size * SCALE, 255, SCALE + 1, cv2.LINE_AA)
    scene.visible += (mask / 255.0)[..., None] * (np.asarray(colour, np.float32) - scene.visible)


def fence(scene) -> None:
    for post in range(198, 268, 8):
        scene.fill(box(post, 178, post + 4.5, 212), (0.2, 0.15, 0.1), 0.27)
    for rail in (184, 200):
        scene.fill(box(196, rail, 268, rail + 3), (0.17, 0.13, 0.09), 0.26)


def tree(scene, rng, x, base, height) -> None:
    """Branches, then many small leaf clusters, lit a little from the left."""
    trunk = [(x, base), (x - 2, base - height * 0.45), (x + 2, base - height * 0.7)]
    scene.fill(limb(trunk, height * 0.05), (0.07, 0.05, 0.035), 0.33)
    for side in (-1, 1):
        branch = [(x - 1, base - height * 0.4), (x + side * height * 0.2, base - height * 0.66)]
        scene.fill(limb(branch, height * 0.025), (0.06, 0.045, 0.03), 0.31)
    for _ in range(260):
        angle, reach = rng.uniform(0, 2 * np.pi), np.sqrt(rng.uniform(0, 1))
        cx = x + reach * np.cos(angle) * height * 0.33
        cy = base - height * 0.7 + reach * np.sin(angle) * height * 0.3
        light = 0.6 + 0.35 * (x - cx) / (height * 0.33) + 0.4 * (base - height * 0.7 - cy) / (height * 0.3)
        colour = np.array([0.05, 0.09, 0.035]) * max(0.35, light + rng.uniform(-0.3, 0.3))
        radii = rng.uniform(0.02, 0.045) * height, rng.uniform(0.012, 0.03) * height
        scene.fill(ellipse(cx, cy, *radii, rng.uniform(0, 180)), colour, 0.265 + rng.uniform(-0.012, 0.012))


def lamp(scene) -> None:
    scene.fill(box(424, 60, 428, 246), (0.09, 0.09, 0.1), 0.3)
    scene.fill(limb([(426, 62), (420, 54), (398, 52)], 3), (0.09, 0.09, 0.1), 0.3)
    scene.fill(polygon((386, 51), (406, 51), (402, 58), (390, 58)), (1.0, 0.86, 0.55), 0.82)
    scene.glow((396, 57), 15, (0.75, 0.55, 0.26))
    scene.glow((396, 70), 62, (0.1, 0.07, 0.03))
    scene.glow((392, 262), 60, (0.06, 0.045, 0.022))


def car(scene) -> None:
    """A blue car with a running engine on the right side of the street, seen from its flank."""
    shadow = cv2.GaussianBlur(ellipse(410, 317, 86, 9), (0, 0), 2.7 * SCALE)
    scene.visible *= 1 - 0.65 * shadow[..., None]
    coachwork(scene)
    scene.fill(limb([(408, 265), (408, 301)], 0.8), RUBBER, 0.33)
    scene.fill(limb([(395, 273), (402, 273)], 1.6), (0.4, 0.42, 0.45), 0.34)
    scene.fill(box(324, 298, 489, 305), RUBBER, 0.38)
    scene.fill(ellipse(330, 281, 4, 4.5), (1.0, 0.95, 0.75), 0.5)
    scene.glow((324, 284), 20, (0.55, 0.48, 0.32))
    scene.fill(box(484, 274, 490, 282), (0.75, 0.04, 0.03), 0.4)
    for x in (354, 458):
        wheel(scene, x, 305)
    scene.fill(ellipse(495, 303, 5, 2.5), RUBBER, 0.9)  # exhaust gas


def coachwork(scene) -> None:
    """Painted metal with a band of sky light on it, warm over the engine; glass stops heat."""
    y, x = grid()
    front, back = (
        ((326, 276), (344, 268), (362, 264), (384, 244)),
        ((432, 243), (458, 263), (484, 268), (490, 280)),
    )
    body = polygon(*front, *back, (489, 304), (324, 304))
    sheen = 1 + 1.1 * np.exp(-(((y - 270) / 4) ** 2)) - 0.35 * np.clip((y - 285) / 20, 0, 1)
    engine = np.exp(-(((x - 348) / 26) ** 2) - ((y - 276) / 16) ** 2)
    scene.fill(body, np.array([0.04, 0.1, 0.24]) * sheen[..., None], 0.34 + 0.5 * engine)
    for left in (
        ((374, 263), (389, 248), (406, 247), (406, 263)),
        ((411, 263), (411, 247), (429, 247), (449, 263)),
    ):
        scene.fill(polygon(*left), (0.1, 0.13, 0.18), 0.24)
        (ax, ay), (bx, by) = left[:2]
        scene.fill(limb([(ax + 8, ay - 2), (bx + 7, by + 3)], 2.2), (0.3, 0.33, 0.4), 0.24)


def wheel(scene, x, y) -> None:
    """Brakes warm the rim."""
    scene.fill(ellipse(x, y, 16.5, 16.5), RUBBER, 0.56)
    scene.fill(ellipse(x, y, 10, 10), (0.26, 0.27, 0.29), 0.68)
    for spoke in range(5):
        tip = (x + 9 * np.cos(spoke * 0.4 * np.pi), y + 9 * np.sin(spoke * 0.4 * np.pi))
        scene.fill(limb([(x, y), tip], 1.8), (0.06, 0.06, 0.07), 0.72)


def person(scene, x, base, height, *, coat, trousers, stride) -> None:
    """A walking figure; skin is hottest, clothes are warm, hair and shoes cooler."""
    h, hip, shoulder = height, base - 0.47 * height, base - 0.8 * height
    for side in (-1, 1):
        limbs(scene, x, base, h, side, stride=stride, coat=coat, trousers=trousers)
    top, bottom = ((x - 0.115 * h, shoulder), (x + 0.115 * h, shoulder)), hip + 0.05 * h
    scene.fill(polygon(*top, (x + 0.09 * h, bottom), (x - 0.09 * h, bottom)), coat, 0.72)
    scene.fill(ellipse(x, shoulder, 0.115 * h, 0.04 * h), coat, 0.74)
    scene.fill(limb([(x, shoulder), (x, base - 0.87 * h)], 0.05 * h), SKIN, 0.93)
    scene.fill(ellipse(x, base - 0.92 * h, 0.06 * h, 0.075 * h), SKIN, 0.97)
    scene.fill(ellipse(x - 0.008 * h, base - 0.955 * h, 0.062 * h, 0.045 * h), (0.05, 0.03, 0.02), 0.7)


def limbs(scene, x, base, h, side, *, stride, coat, trousers) -> None:
    """Leg and arm of one side (-1 left, 1 right)."""
    step = side * stride * 0.13 * h
    foot, knee = (x + step, base - 0.02 * h), (x + 0.62 * step, base - 0.25 * h)
    scene.fill(limb([(x + side * 0.02 * h, base - 0.47 * h), knee, foot], 0.085 * h), trousers, 0.62)
    scene.fill(ellipse(foot[0] + 0.025 * h, base, 0.05 * h, 0.02 * h), (0.03, 0.025, 0.02), 0.45)
    elbow, hand = (x + side * 0.12 * h, base - 0.63 * h), (x + side * 0.07 * h, base - 0.47 * h)
    sleeve = [(x + side * 0.09 * h, base - 0.78 * h), elbow, hand]
    scene.fill(limb(sleeve, 0.06 * h), np.multiply(coat, 0.8), 0.66)
    scene.fill(ellipse(*hand, 0.03 * h, 0.03 * h), SKIN, 0.88)


def smoke(scene, rng) -> None:
    """A bank of smoke that scatters visible light; long-wave infrared passes almost untouched."""
    y, x = grid()
    field = clouds(rng, y.shape, (7, 5), 5)
    reach = np.exp(-(((x - 246) / 44) ** 2) - (((y - 236) / 46) ** 2) * np.where(y < 236, 0.55, 1.4))
    density = np.clip(1.65 * reach + 0.26 * field * np.sqrt(reach), 0, 1) ** 0.8
    grey = np.array([0.3, 0.29, 0.3]) * (1 + 0.1 * field - 0.0016 * (y - 200))[..., None]
    scene.fill(0.985 * density, grey, scene.heat * 0.93 + 0.02)


def visible_image(scene, rng, scale: int = 1) -> np.ndarray:
    """Linear light -> uint8 [H, W, 3] with lens softness, sensor noise and a camera gamma.

    scale: 1, or up to SCALE for a larger picture.
    """
    size = (WIDTH * scale, HEIGHT * scale)
    small = cv2.resize(scene.visible, size, interpolation=cv2.INTER_AREA).clip(0, 1)
    small = cv2.GaussianBlur(small, (0, 0), 0.45)
    small += rng.standard_normal(small.shape).astype(np.float32) * (0.002 + 0.012 * small)
    return np.rint(255 * small.clip(0, 1) ** (1 / 2.2)).astype(np.uint8)


def infrared_image(scene, rng) -> np.ndarray:
    """Heat -> uint8 [H, W, 3], grey: softer optics, fixed-pattern columns, white is hot."""
    small = cv2.resize(scene.heat, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), 1.0)
    small = small + rng.standard_normal((1, WIDTH)) * 0.003 + rng.standard_normal(small.shape) * 0.006
    grey = np.rint(255 * small.clip(0, 1)).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def render(seed: int = SEED) -> tuple[np.ndarray, np.ndarray]:
    """The registered pair: visible and infrared, each uint8 [HEIGHT, WIDTH, 3]."""
    rng = np.random.default_rng(seed)
    scene = street(rng)
    return visible_image(scene, rng), infrared_image(scene, rng)


def street(rng: np.random.Generator) -> Scene:
    """The painted canvases."""
    scene = Scene()
    sky(scene, rng)
    tree(scene, rng, 352, 196, 92)
    tree(scene, rng, 318, 190, 60)
    ground(scene, rng)
    tree(scene, rng, 486, 240, 190)
    house(scene, rng)
    fence(scene)
    person(scene, 246, 262, 74, coat=(0.1, 0.12, 0.08), trousers=(0.05, 0.05, 0.07), stride=0.7)
    smoke(scene, rng)
    lamp(scene)
    car(scene)
    person(scene, 306, 226, 40, coat=(0.03, 0.035, 0.05), trousers=(0.03, 0.03, 0.035), stride=0.9)
    person(scene, 132, 336, 118, coat=(0.035, 0.03, 0.03), trousers=(0.025, 0.03, 0.045), stride=1.0)
    return scene


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("folder", type=Path, help="gets image1.png (visible) and image2.png (infrared)")
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for name, image in zip(("image1.png", "image2.png"), render(), strict=True):
        Image.fromarray(image).save(folder / name, optimize=True)


if __name__ == "__main__":
    main()
