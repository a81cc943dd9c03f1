# SPDX-License-Identifier: Apache-2.0
"""Settings of a stream of samples: its sources, sizes and shares; reads no file, needs no OpenCV."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from ditfuse_jax import bounds
from ditfuse_jax.bounds import check_number
from ditfuse_jax.config import PATCH, VAE_FACTOR, one_of
from ditfuse_jax.data import instructions, registry
from ditfuse_jax.text import quoted

FORMATS = ("photos", "pairs", "labelled", "jsonl", "dataset")  # of sources; sources.py reads them
FUSIONS = ("m3", "ivif", "focus", "exposure", "given")
EDITS = ("none", "control", "seg", "compound")
TASKS = ("m3", "ivif", "focus", "exposure", "control", "seg", "compound", "given")  # Batch.task indexes this
OPERATIONS = ("mask", "noise", "blur")  # of M3
IVIF_TARGETS = ("rgb", "luma", "detail")  # of infrared-visible pairs, see infrared.py
EXPOSURE_STOPS = (1.0, 2.5)  # of simulated exposures, away from the photo on either side
ORDERS = ("weighted", "shuffled")
TRAINING = "train.txt"  # a list of stems in a folder; without lists held_out.py splits it
VALIDATION = "val.txt"  # the list that validation reads instead
MOST_SIDE = 8192  # pixels of a bucket
MOST_STOPS = 12  # an 8-bit picture holds no more


@dataclass(frozen=True, kw_only=True)
class M3Config:
    """What is damaged and how. Defaults of the paper; the official script adds salt-and-pepper to noise."""

    blocks: tuple[int, ...] = (32, 64, 128)  # pixels; one size per sample
    operations: tuple[str, ...] = OPERATIONS
    joint_share: float = 0.25  # of the blocks, damaged in both copies; 0: none
    salt_and_pepper: bool = False

    def __post_init__(self):
        bounds.check(self, blocks=(1, 100_000), joint_share=(0, 1))
        if not self.blocks:
            raise ValueError("M3 blocks are empty; give one or more sides in pixels")
        if not self.operations:
            raise ValueError(f"M3 operations are empty; choose among {', '.join(OPERATIONS)}")
        for operation in self.operations:
            one_of("M3 operation", operation, OPERATIONS)


@dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """One ingredient: files, what fuses them, what the instruction then asks."""

    name: str
    path: str  # below the data root; `*` for several folders; NAME/SPLIT of a registered dataset
    format: str = "photos"  # see FORMATS
    names: str | None = TRAINING  # list of stems in each folder; None: every file
    images: str = ""  # JSONL: where its relative paths start, below the data root; "": beside the file
    fuse: str = "m3"  # how two sources and their fusion come about; "given": as a JSONL file says
    edit: str = "none"  # what the instruction asks of the fusion
    weight: float = 1.0  # share of a weighted draw, before normalising
    count: int = 0  # samples per epoch of a shuffled concatenation; 0: one per item

    def __post_init__(self):
        one_of(f"source {self.name}: format", self.format, FORMATS)
        one_of(f"source {self.name}: fuse", self.fuse, FUSIONS)
        one_of(f"source {self.name}: edit", self.edit, EDITS)
        check_number(f"source {self.name}: weight", self.weight, 0, 1e9, whole=False)
        check_number(f"source {self.name}: count", self.count, 0, 10**9, whole=True)
        if (self.fuse == "given") != (self.format == "jsonl"):
            raise ValueError(f'source {self.name}: fuse "given" and format "jsonl" belong together')
        if self.fuse == "given" and self.edit != "none":
            raise ValueError(f"source {self.name}: JSONL says what it asks; edit must be none")

    @property
    def task(self) -> str:
        return self.fuse if self.edit == "none" else self.edit


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """A resolution, drawn by weight for the batches start <= number < stop (0: no end).

    With least_height or least_width each row draws its own size up to the bucket's; the rest is padding that
    neither the autoencoder nor the transformer sees, so many sizes share one compiled step.
    """

    height: int
    width: int
    weight: float = 1.0
    start: int = 0
    stop: int = 0
    least_height: int = 0  # of a row's own size, in steps of 16 pixels; 0: the bucket's height
    least_width: int = 0

    def __post_init__(self):
        side = VAE_FACTOR * PATCH
        sides = dict.fromkeys(("height", "width", "least_height", "least_width"), (0, MOST_SIDE))
        bounds.check(self, weight=(0, 1e9), start=(0, 10**12), stop=(0, 10**12), **sides)
        if self.height < side or self.width < side or self.height % side or self.width % side:
            raise ValueError(f"bucket {self.height}x{self.width} is not in multiples of {side} pixels")
        if self.weight <= 0:
            raise ValueError(
                f"bucket {self.height}x{self.width} has weight {self.weight}; use a positive one"
            )
        for name, least, most in zip(("height", "width"), self.least, (self.height, self.width), strict=True):
            if not 0 < least <= most or least % side:
                raise ValueError(
                    f"bucket {self.height}x{self.width}: least_{name} {least} is not a multiple of {side} "
                    f"from {side} to {most}"
                )

    @property
    def least(self) -> tuple[int, int]:
        """The smallest (height, width) of a row."""
        return self.least_height or self.height, self.least_width or self.width

    @property
    def varied(self) -> bool:
        return self.least != (self.height, self.width)

    def sizes(self) -> list[tuple[int, int]]:
        """Every (height, width) that a row may have."""
        side = VAE_FACTOR * PATCH
        heights, widths = (
            range(low, high + 1, side)
            for low, high in zip(self.least, (self.height, self.width), strict=True)
        )
        return [(height, width) for height in heights for width in widths]

    def __str__(self):
        """`160x256`, or `up to 160x256` where rows draw their own size."""
        return f"{'up to ' if self.varied else ''}{self.height}x{self.width}"

    @property
    def whole(self) -> "Bucket":
        """The same with all rows at its full size."""
        return dataclasses.replace(self, least_height=0, least_width=0)


@dataclass(frozen=True, kw_only=True)
class MixtureConfig:
    """The whole stream. Shares are probabilities per sample."""

    sources: tuple[SourceConfig, ...]
    order: str = "weighted"  # or "shuffled": a concatenation by counts, permuted anew each epoch
    epoch: int = 0  # samples that a weighted draw calls an epoch; 0: as many as there are items
    seed: int = 0
    buckets: tuple[Bucket, ...] = (Bucket(height=256, width=256),)
    max_text_tokens: int = 128  # of a prompt without its image patches, chat wrapper included
    length_multiple: int = 32  # prefix rows are padded to a multiple of it
    m3: M3Config = M3Config()
    ivif_target: str = "rgb"  # the paper; "luma" keeps the visible colour, "detail" the stronger detail too
    object_share: float = 0.5  # control with labels: one named object instead of the whole image
    several_share: float = 0.25  # segmentation: two or three classes instead of one
    absent_share: float = 0.1  # segmentation: a class that is not there
    exposure_stops: tuple[float, float] = EXPOSURE_STOPS  # of either simulated side, away from the photo
    scene_stops: tuple[float, float] = (0.0, 0.0)  # ours: how far a scene's light exceeds what a photo holds
    scene_share: float = 1.0  # ours: how many of the simulated exposures `scene_stops` applies to
    swap_share: float = 0.0  # ours: focus and exposure pairs given in the other order
    generic_share: float = 0.0  # ours: plain fusions of known pairs, asked for as any fusion
    nonsense_share: float = 0.0  # ours: plain fusions asked for by random signs, without tags
    area_power: float = 0.0  # segmentation: a class is named by area ** this; 0: all that are there alike
    untagged_share: float = 0.0  # prompts without [TASK] and <SUBTASK>; 0 in the paper
    condition_dropout: float = 0.01  # instruction -> <cfg>, no images (paper)
    text_dropout: float = 0.0  # instruction dropped, images kept: the image-only branch of guidance
    smallest_window: float = 0.6  # crops are this to 1 of the largest window that fits
    flip: bool = True
    augment: bool = True  # False: the centred window, no mirror
    phrasings: str = "train"  # or "heldout"

    def __post_init__(self):
        one_of("order", self.order, ORDERS)
        one_of("ivif_target", self.ivif_target, IVIF_TARGETS)
        one_of("phrasings", self.phrasings, instructions.SPLITS)
        if not self.sources or not self.buckets:
            raise ValueError("a mixture needs at least one source and one bucket")
        names = [field.name for field in dataclasses.fields(self)]
        shares = {name: (0, 1) for name in names if name.endswith(("_share", "_dropout"))}
        lengths = dict.fromkeys(("max_text_tokens", "length_multiple"), (1, 100_000))
        bounds.check(self, seed=(0, 2**32 - 1), epoch=(0, 10**12), area_power=(0, 10), **lengths, **shares)
        for name in ("exposure_stops", "scene_stops"):
            stops = getattr(self, name)
            if len(stops) != 2 or not 0 <= stops[0] <= stops[1] <= MOST_STOPS:
                raise ValueError(f"{name} {quoted(stops)} are not two rising numbers in [0, {MOST_STOPS}]")
        if not 0 < self.smallest_window <= 1:
            raise ValueError(f"smallest_window {self.smallest_window} is not in (0, 1]")
        if sum(source.weight for source in self.sources) <= 0:
            raise ValueError("all sources have weight 0")

    @property
    def varied(self) -> bool:
        """Whether rows have sizes of their own inside a bucket."""
        return any(bucket.varied for bucket in self.buckets)

    def steps(self, epochs: int, batch_size: int) -> int:
        """Of so many epochs, of a shuffled concatenation that counts its samples."""
        if self.order != "shuffled" or not all(source.count for source in self.sources):
            raise ValueError(
                "only a shuffled mixture whose sources all have a count says how long its epoch is"
            )
        return epochs * sum(source.count for source in self.sources) // batch_size

    def weighted(self, shares: Mapping[str, float]) -> "MixtureConfig":
        """The same with other weights of the sources that `shares` names."""
        sources = (
            dataclasses.replace(each, weight=shares.get(each.name, each.weight)) for each in self.sources
        )
        return dataclasses.replace(self, sources=tuple(sources))

    def validation(self, *, phrasings: str = "train") -> "MixtureConfig":
        """The same tasks on held-out files: centred, full buckets, nothing dropped, tags as in training.

        Those are the stems of VALIDATION (without lists see held_out.py), or the test split of a registered
        dataset; sources with neither are left out. Raises ValueError when that leaves none.
        """
        held_out = tuple(source for source in map(_held_out, self.sources) if source is not None)
        if not held_out:
            raise ValueError(
                f"no source has held-out files; give one names={TRAINING!r}, or set validate_every=0"
            )
        return dataclasses.replace(
            self,
            sources=held_out,
            buckets=tuple(bucket.whole for bucket in self.buckets),
            augment=False,
            condition_dropout=0.0,
            text_dropout=0.0,
            phrasings=phrasings,
        )


def _held_out(source: SourceConfig) -> SourceConfig | None:
    if source.format == "dataset":
        name = source.path.partition("/")[0]
        known = "test" in registry.get(name).splits
        return dataclasses.replace(source, path=f"{name}/test", count=0) if known else None
    if source.format == "jsonl" or source.names is None:
        return None
    return dataclasses.replace(source, names=VALIDATION, count=0)
