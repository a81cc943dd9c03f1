# SPDX-License-Identifier: Apache-2.0
"""Which item each draw takes, of which size: a pure function of (seed, epoch, index, attempt)."""

import dataclasses
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ditfuse_jax.config import PATCH, VAE_FACTOR
from ditfuse_jax.data import sources
from ditfuse_jax.data.config import Bucket, MixtureConfig, SourceConfig

_PERMUTATION, _BUCKET, _SIZE = 1, 2, 3  # fifth seed words: four-word seeds are the samples'


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

    @property
    def stems(self) -> list[str]:
        """The names of the items, each once: of a folder's files without their ending."""
        found = (item.images or (item.target,) for listing in self.listings for item in listing.items)
        return list(dict.fromkeys(files[0].stem for files in found))

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
