# SPDX-License-Identifier: Apache-2.0
"""What the paper's figures 7 to 12, 14 and 17 to 20 show, as data."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ditfuse_jax.evaluation.probes import PROBES
from ditfuse_jax.task import request

GROUPS = "groups"  # scenes by name, of groups.toml or --groups
THINGS = ("car", "person", "building", "tree")  # of the segmentations


@dataclass(frozen=True, kw_only=True)
class Figure:
    """Columns are the sources, what the prompts make, then, with `methods`, other ways to fuse."""

    title: str
    scenes: str  # of cases.KINDS, or GROUPS
    prompts: Mapping[str, str] = field(default_factory=dict)  # caption -> whole prompt
    methods: bool = False  # fusion without a network, and folders of --fused
    residuals: bool = False  # below each result its difference from either source
    segments: str = ""  # the class of --masks folders that stands beside
    square: bool = False  # cut to --side, as the prompts are measured


def _control(base: str) -> dict[str, str]:
    tasks = ("light--", "light-", "light+", "light++", "contrast-", "contrast+")
    return {"base": request(task=base)} | {task: request(task=task) for task in tasks}


def _marks(things: tuple[str, ...]) -> dict[str, str]:
    return {f"seg {thing}": request(segment=(thing,)) for thing in things}


def _object(thing: str) -> dict[str, str]:
    return {
        "base": request(task="ivif"),
        f"light+, {thing}": request(task="light+", thing=thing),
        "light++": request(task="light++"),
        **_marks((thing,)),
    }


def _probe(name: str) -> dict:
    probe = PROBES[name]
    return {"scenes": probe.scenes, "prompts": probe.prompts, "title": probe.title, "square": True}


FIGURES = {
    "7": Figure(
        title="Infrared-visible: over-exposure, fog, low light",
        scenes=GROUPS,
        prompts={"ditfuse": request(task="ivif")},
        methods=True,
    ),
    "8": Figure(
        title="Multi-focus, with residual maps",
        scenes="mff",
        prompts={"ditfuse": request(task="mff")},
        methods=True,
        residuals=True,
    ),
    "9": Figure(title="Multi-exposure", scenes="mef", prompts={"ditfuse": request(task="mef")}, methods=True),
    "10": Figure(title="Light and contrast by their tags", scenes="ivif", prompts=_control("ivif")),
    "11": Figure(title="One thing, the whole, and its mark", scenes="streets", prompts=_object("car")),
    "12": Figure(
        title="Segmentations",
        scenes="streets",
        prompts={"base": request(task="fuse")} | _marks(THINGS),
    ),
    "14": Figure(
        title="Segmentation beside other segmenters",
        scenes="streets",
        prompts={"base": request(task="fuse")} | _marks(("car",)),
        segments="car",
    ),
    "17": Figure(**_probe("tag")),
    "18": Figure(**_probe("words")),
    "19": Figure(**_probe("noise")),
    "20": Figure(**_probe("irregular")),
}
