# SPDX-License-Identifier: Apache-2.0
"""What may be done to pictures before they are fused, and the flags of it."""

import dataclasses
import math
from dataclasses import dataclass, field
from pathlib import Path

from ditfuse_jax.config import one_of
from ditfuse_jax.inference.thermal import PALETTES, Range
from ditfuse_jax.registration.motion import MODELS

ALIGN = ("auto", "off", *MODELS)
DEGHOST = ("auto", "off")
STEADY = ("auto", "on", "off")


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """Nothing is done by default. Raises ValueError for a value that is none."""

    align: str = field(
        default="off",
        metadata={
            "metavar": "auto|off|translation|homography|FILE",
            "help": "bring the others over image 1; auto: brackets and stacks, pairs are measured; FILE: of "
            "--save-align",
        },
    )
    crop: bool = field(default=False, metadata={"help": "cut the result to what all pictures show"})
    resize_second: bool = field(
        default=False, metadata={"help": "bring the other pictures to the size of image 1 first"}
    )
    deghost: str = field(
        default="off",
        metadata={
            "choices": DEGHOST,
            "help": "auto: in brackets and stacks what moved is taken from one picture",
        },
    )
    steady: str = field(
        default="off",
        metadata={
            "choices": STEADY,
            "help": "with --image-dir, frames in order of names: less noise where nothing changes; auto: of "
            "a camera that stands still",
        },
    )
    thermal_range: tuple[float, float] | None = field(
        default=None, metadata={"help": "counts of a deep infrared picture that become black and white"}
    )
    palette: str | None = field(
        default=None, metadata={"choices": PALETTES, "help": "colours for what came from the infrared"}
    )

    def __post_init__(self):
        if self.align not in ALIGN and not Path(self.align).suffix:
            one_of("align", self.align, (*ALIGN, "FILE.json"))
        one_of("deghost", self.deghost, DEGHOST)
        one_of("steady", self.steady, STEADY)
        if self.palette is not None:
            one_of("palette", self.palette, PALETTES)
        if self.thermal_range is not None:
            low, high = self.thermal_range
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise ValueError(f"thermal_range {low:g} {high:g}: give two numbers, the lower one first")

    def check_fidelity(self, strength: float) -> None:
        """Raises ValueError where the fidelity leaves nothing to colour by."""
        if self.palette and strength == 0:
            raise ValueError("fidelity 0 fits no weights; add --fidelity 1 for --palette")

    @property
    def limits(self) -> Range | None:
        return None if self.thermal_range is None else Range(*self.thermal_range)

    def names(self) -> tuple[str, ...]:
        return tuple(option.name for option in dataclasses.fields(self))

    def as_text(self) -> dict[str, str]:
        """What differs from doing nothing, for the metadata of a result."""
        told = {name: getattr(self, name) for name in self.names()}
        plain = Preparation()
        changed = {name: value for name, value in told.items() if value != getattr(plain, name)}
        if self.limits is not None:
            changed["thermal_range"] = self.limits
        return {name: str(value) for name, value in changed.items()}


def add_flags(parser) -> None:
    """`--align`, `--crop` and so on, into a parser or a group of one; auto by default where there is auto."""
    options = {option.name: option.metadata for option in dataclasses.fields(Preparation)}
    for name in ("align", "deghost"):
        parser.add_argument(f"--{name}", default="auto", **options[name])
    parser.add_argument("--steady", nargs="?", default="auto", const="on", **options["steady"])
    for name in ("crop", "resize_second"):
        parser.add_argument("--" + name.replace("_", "-"), action="store_true", **options[name])
    parser.add_argument(
        "--thermal-range", nargs=2, type=float, metavar=("LOW", "HIGH"), **options["thermal_range"]
    )
    parser.add_argument("--palette", **options["palette"])


def given(flags) -> Preparation:
    """What the command line asks for."""
    chosen = {name: getattr(flags, name) for name in Preparation().names()}
    limits = chosen.pop("thermal_range")
    return Preparation(**chosen, thermal_range=tuple(limits) if limits else None)
