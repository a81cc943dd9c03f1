# SPDX-License-Identifier: Apache-2.0
"""What the stream is made of: named sources with weights or counts, and which item each draw takes.

A draw is a pure function of (seed, epoch, index, attempt).
"""

import dataclasses
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ditfuse_jax.config import PATCH, VAE_FACTOR, one_of
from ditfuse_jax.data import infrared, instructions, pairs, registry, sources
from ditfuse_jax.data.m3 import M3Config

FUSIONS = ("m3", "ivif", "focus", "exposure", "given")
EDITS = ("none", "control", "seg", "compound")
TASKS = ("m3", "ivif", "focus", "exposure", "control", "seg", "compound", "given")  # Batch.task indexes this
MOST_STOPS = 12  # an 8-bit picture holds no more
ORDERS = ("weighted", "shuffled")
VALIDATION = "val.txt"  # the list of stems that validation reads instead of train.txt
_PERMUTATION, _BUCKET, _SIZE = 1, 2, 3  # fifth seed words: four-word seeds are the samples'


@dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """One ingredient: files, what fuses them, what the instruction then asks."""

    name: str
    path: str  # below the data root; `*` for several folders; NAME/SPLIT of a registered dataset
    format: str = "photos"  # see sources.FORMATS
    names: str | None = "train.txt"  # list of stems in each folder; None: every file
    images: str = ""  # JSONL: where its relative paths start, below the data root; "": beside the file
    fuse: str = "m3"  # how two sources and their fusion come about; "given": as a JSONL file says
    edit: str = "none"  # what the instruction asks of the fusion
    weight: float = 1.0  # share of a weighted draw, before normalising
    count: int = 0  # samples per epoch of a shuffled concatenation; 0: one per item

    def __post_init__(self):
        one_of(f"source {self.name}: format", self.format, sources.FORMATS)
        one_of(f"source {self.name}: fuse", self.fuse, FUSIONS)
        one_of(f"source {self.name}: edit", self.edit, EDITS)
        if self.weight < 0 or self.count < 0:
            raise ValueError(
                f"source {self.name}: weight {self.weight} and count {self.count} must not be negative"
            )
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
    exposure_stops: tuple[float, float] = (
        pairs.EXPOSURE_STOPS
    )  # of either simulated side, away from the photo
    scene_stops: tuple[float, float] = (0.0, 0.0)  # ours: how far a scene's light exceeds what a photo holds
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
        one_of("ivif_target", self.ivif_target, infrared.TARGETS)
        one_of("phrasings", self.phrasings, instructions.SPLITS)
        if not self.sources or not self.buckets:
            raise ValueError("a mixture needs at least one source and one bucket")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed {self.seed} is not in [0, 2**32)")
        for name in (f.name for f in dataclasses.fields(self) if f.name.endswith(("_share", "_dropout"))):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} {getattr(self, name)} is not in [0, 1]")
        for name in ("exposure_stops", "scene_stops"):
            low, high = getattr(self, name)
            if not 0 <= low <= high <= MOST_STOPS:
                raise ValueError(f"{name} {low}, {high} are not two rising numbers in [0, {MOST_STOPS}]")
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

    def validation(self, *, phrasings: str = "train") -> "MixtureConfig":
        """The same tasks on held-out files: centred, full buckets, nothing dropped, tags as in training.

        Those are the stems of VALIDATION, or the test split of a registered dataset; sources with neither are
        left out. Raises ValueError when that leaves none.
        """
        held_out = tuple(source for source in map(_held_out, self.sources) if source is not None)
        if not held_out:
            raise ValueError(f"no source has held-out files; list some in {VALIDATION} or do not validate")
        return dataclasses.replace(
            self,
            sources=held_out,
            buckets=tuple(bucket.whole for bucket in self.buckets),
            augment=False,
            condition_dropout=0.0,
            text_dropout=0.0,
            phrasings=phrasings,
        )

    @classmethod
    def paper(cls, **changes) -> "MixtureConfig":
        """Section III-B: 316,392 samples an epoch, 13,692 of them fusion, as a shuffled concatenation.

        The split of both parts is our assumption: M3 and segmentation once over COCO train2017 (118,287
        photos, the
        folder that the official script names), control the rest, fusion in equal thirds.
        """
        ingredients = {
            "m3": (_photos(fuse="m3"), 118_287),
            "seg": (_labelled(edit="seg"), 118_287),
            "control": (_labelled(edit="control"), 66_126),
            "ivif": (_infrared(), 4_564),
            "focus": (_photos(fuse="focus"), 4_564),
            "exposure": (_photos(fuse="exposure"), 4_564),
        }
        counted = tuple(SourceConfig(name=n, count=c, **files) for n, (files, c) in ingredients.items())
        return cls(**({"sources": counted, "order": "shuffled"} | changes))

    @classmethod
    def demo(cls, **changes) -> "MixtureConfig":
        """All task families for the small model: colour kept, 30 % of the prompts untagged, both dropouts."""
        ingredients = {
            "m3": (_photos(fuse="m3"), 0.24),
            "ivif": (_infrared(), 0.16),
            "focus": (_photos(fuse="focus"), 0.12),
            "exposure": (_photos(fuse="exposure"), 0.12),
            "control_ivif": (_infrared(edit="control"), 0.07),
            "control_m3": (_photos(fuse="m3", edit="control"), 0.05),
            "control_object": (_labelled(edit="control"), 0.05),
            "seg": (_labelled(edit="seg"), 0.14),
            "compound": (_labelled(edit="compound"), 0.05),
        }
        weighted = tuple(SourceConfig(name=n, weight=w, **files) for n, (files, w) in ingredients.items())
        settings = {
            "sources": weighted,
            "ivif_target": "luma",
            "object_share": 0.75,  # whole images have sources of their own
            "untagged_share": 0.3,
            "condition_dropout": 0.1,
            "text_dropout": 0.1,
        }
        return cls(**(settings | changes))

    @classmethod
    def smoke(cls, **changes) -> "MixtureConfig":
        """The demo's tasks at 64 px."""
        return cls.demo(**({"buckets": (Bucket(height=64, width=64),)} | changes))


def _held_out(source: SourceConfig) -> SourceConfig | None:
    if source.format == "dataset":
        name = source.path.partition("/")[0]
        known = "test" in registry.get(name).splits
        return dataclasses.replace(source, path=f"{name}/test", count=0) if known else None
    if source.format == "jsonl" or source.names is None:
        return None
    return dataclasses.replace(source, names=VALIDATION, count=0)


def _photos(**task) -> dict:
    return {"path": "photos", "format": "photos"} | task


def _labelled(**task) -> dict:
    return {"path": "seg", "format": "labelled"} | task


def _infrared(**task) -> dict:
    return {"path": "ivif/*", "format": "pairs", "fuse": "ivif"} | task


class Draw(NamedTuple):
    """Which item, and the generator that makes the rest of the sample."""

    source: int
    item: int
    rng: np.random.Generator


@dataclass(frozen=True)
class Mixture:
    """A config whose sources were found on disk."""

    config: MixtureConfig
    listings: tuple[sources.Listing, ...]

    @functools.cached_property
    def counts(self) -> np.ndarray:
        """Samples per source and epoch in a concatenation, int64 [n]."""
        found = zip(self.config.sources, self.listings, strict=True)
        return np.array([source.count or len(listing.items) for source, listing in found], np.int64)

    @functools.cached_property
    def shares(self) -> np.ndarray:
        """Expected share of each source, float64 [n]."""
        shuffled = self.config.order == "shuffled"
        parts = self.counts if shuffled else np.array([source.weight for source in self.config.sources])
        return parts / parts.sum()

    @property
    def samples_per_epoch(self) -> int:
        if self.config.order == "shuffled":
            return int(self.counts.sum())
        return self.config.epoch or sum(len(listing.items) for listing in self.listings)

    def draw(self, position: int, attempt: int = 0) -> Draw:
        """The draw of a place in the endless stream: epoch = position // samples per epoch."""
        epoch, index = divmod(position, self.samples_per_epoch)
        rng = np.random.default_rng([self.config.seed, epoch, index, attempt])
        if self.config.order == "shuffled":
            place = int(_permutation(self.config.seed, epoch, self.samples_per_epoch)[index])
            ends = np.cumsum(self.counts)
            source = int(np.searchsorted(ends, place, side="right"))
            # Where there are more files than counted, each epoch goes on where the last one ended.
            item = place - int(ends[source] - self.counts[source]) + epoch * int(self.counts[source])
        else:
            source = int(np.searchsorted(np.cumsum(self.shares), rng.random(), side="right"))
            source = min(source, len(self.listings) - 1)  # the shares may sum to a hair under 1
            item = int(rng.integers(len(self.listings[source].items)))
        size = len(self.listings[source].items)
        # A concatenation's replacement stays in its source; a weighted draw is new altogether.
        item = int(rng.integers(size)) if attempt and self.config.order == "shuffled" else item % size
        return Draw(source, item, rng)

    def bucket(self, batch: int) -> Bucket:
        """The resolution of a batch. Raises ValueError when no bucket is meant for it."""
        open_now = [b for b in self.config.buckets if b.start <= batch and (not b.stop or batch < b.stop)]
        if not open_now:
            raise ValueError(f"no bucket is open for batch {batch}; let the last one have stop 0")
        weights = np.array([b.weight for b in open_now])
        rng = np.random.default_rng([self.config.seed, 0, batch, 0, _BUCKET])
        return open_now[int(rng.choice(len(open_now), p=weights / weights.sum()))]

    def size(self, bucket: Bucket, position: int) -> Bucket:
        """The bucket of one place's own size, which is `bucket` itself unless it is varied."""
        if not bucket.varied:
            return bucket
        rng = np.random.default_rng([self.config.seed, 0, position, 0, _SIZE])
        side, most = VAE_FACTOR * PATCH, (bucket.height, bucket.width)
        height, width = (
            side * int(rng.integers(low // side, high // side + 1))
            for low, high in zip(bucket.least, most, strict=True)
        )
        return dataclasses.replace(bucket.whole, height=height, width=width)


@functools.lru_cache(maxsize=2)
def _permutation(seed: int, epoch: int, size: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch, 0, 0, _PERMUTATION]).permutation(size)


def resolve(config: MixtureConfig, root: Path) -> Mixture:
    """Finds the files of every source. Raises ValueError naming what is empty, missing or unfit."""
    listings = tuple(sources.find(s.format, s.path, root, s.names, images=s.images) for s in config.sources)
    for source, listing in zip(config.sources, listings, strict=True):
        _check_fit(source, listing)
    return Mixture(config, listings)


def _check_fit(source: SourceConfig, listing: sources.Listing) -> None:
    """A task needs one image or two, a target, or labels."""
    item = listing.items[0]
    if source.fuse == "m3" and len(item.images) != 1:
        raise ValueError(f"source {source.name}: M3 is made of single photos; {source.path} holds pairs")
    if source.fuse == "ivif" and len(item.images) != 2:
        raise ValueError(f"source {source.name}: ivif needs pairs; {source.path} holds single images")
    if source.fuse in ("focus", "exposure") and len(item.images) == 2 and item.target is None:
        raise ValueError(
            f"source {source.name}: the pairs of {source.path} have no target to train on; "
            "simulate them from photos, or add a target folder"
        )
    if source.edit in ("seg", "compound") and item.labels is None:
        raise ValueError(f"source {source.name}: {source.edit} needs labels; {source.path} has none")
