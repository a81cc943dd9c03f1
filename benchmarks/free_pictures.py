# SPDX-License-Identifier: Apache-2.0
"""A data root of pictures that may be shown anywhere: what the sheets of docs/results.md are made of.

    python benchmarks/free_pictures.py --out runs/free [--data DIR]

Infrared-visible pairs are the street of examples/render_scene.py, drawn anew by chance: at dusk as it is,
over-exposed, in fog, at night. Multi-focus and multi-exposure pairs are simulated from PHOTOS, held-out
photographs that are in the public domain or free for any use. The pairs of the sets themselves are for
research: sheets of them are made by the same commands and are not kept here.
"""

import argparse
from pathlib import Path

import numpy as np
from demo_cases import street_module

from ditfuse_jax import image
from ditfuse_jax.data import pairs, sources
from ditfuse_jax.data.config import VALIDATION

PHOTOS = {  # held out; where they are from, by photos.csv of the data root
    "feedme__0000654": "https://www.pexels.com/photo/287354",
    "feedme__0001177": "https://www.pexels.com/photo/263116",
    "kodak__01": "Kodak PhotoCD, released for unrestricted use",
    "kodak__08": "Kodak PhotoCD, released for unrestricted use",
}
OVER, NIGHT = 3.0, -3.5  # stops away from dusk
HAZE, AIR = 0.9, (0.32, 0.33, 0.36)  # share of the light at the horizon that the fog scatters; linear RGB
SIMULATED = {  # folder -> (sides, how a photo becomes a pair)
    "mff/simulated": (("a", "b"), pairs.defocus),
    "mef/simulated": (("over", "under"), pairs.expose),
}


def over_exposed(street, scene) -> None:
    """Brighter than the camera holds, with headlamps that shine into it."""
    scene.glow((326, 282), 46, (0.5, 0.46, 0.36))
    scene.visible *= 2.0**OVER


def fog(street, scene) -> None:
    """Thickest at the horizon, thinner on the ground before the camera; infrared light passes."""
    y, _ = street.grid()
    near = np.clip((y - street.HORIZON) / (street.HEIGHT - street.HORIZON), 0, 1)
    share = (HAZE * (1 - 0.5 * near))[..., None]
    scene.visible = (1 - share) * scene.visible + share * np.float32(AIR)


def night(street, scene) -> None:
    scene.visible *= 2.0**NIGHT


LIGHTS = {"over-exposure": over_exposed, "fog": fog, "low-light": night}


def streets(out: Path) -> None:
    """ivif/drawn/{vis,ir}: one street a light, and groups.toml that names them for figure 7."""
    street, groups = street_module(), ""
    for number, (name, light) in enumerate({"dusk": None, **LIGHTS}.items()):
        rng = np.random.default_rng([0, number])
        scene = street.street(rng)
        if light:
            light(street, scene)
            groups += f'[{name}]\n"ivif/drawn" = ["{name}"]\n\n'
        for side, picture in (("vis", street.visible_image), ("ir", street.infrared_image)):
            image.write(
                out / "ivif/drawn" / side / f"{name}.png", picture(scene, rng), metadata={}, overwrite=True
            )
    (out / "ivif/drawn" / VALIDATION).write_text("".join(f"{name}\n" for name in ("dusk", *LIGHTS)))
    (out / "groups.toml").write_text(groups)


def photographs(root: Path, out: Path) -> None:
    """photos/ as they are, and the pairs of SIMULATED. Raises ValueError where the list lacks one."""
    held_out = sources.find("photos", "photos", root, VALIDATION).items
    files = {item.images[0].stem: item.images[0] for item in held_out}
    if lacking := [stem for stem in PHOTOS if stem not in files]:
        raise ValueError(f"{root / 'photos' / VALIDATION} has no {', '.join(lacking)}; name another --data")
    for number, stem in enumerate(PHOTOS):
        photo = image.read(files[stem])
        image.write(out / "photos" / f"{stem}.png", photo, metadata={}, overwrite=True)
        for folder, (sides, simulate) in SIMULATED.items():
            made = simulate(np.random.default_rng([0, number]), photo)
            for side, picture in zip(sides, made[:2], strict=True):
                image.write(out / folder / side / f"{stem}.png", picture, metadata={}, overwrite=True)
    for folder in ("photos", *SIMULATED):
        (out / folder / VALIDATION).write_text("".join(f"{stem}\n" for stem in PHOTOS))


def make(root: Path, out: Path) -> None:
    """The whole data root `out`. Raises ValueError where a photograph is not there."""
    streets(out)
    photographs(root, out)


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="the data root that is made")
    parser.add_argument("--data", type=Path, help="data root with photos/")
    args = parser.parse_args(words)
    make(sources.data_root(args.data), args.out)


if __name__ == "__main__":
    main()
