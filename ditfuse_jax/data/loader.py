# SPDX-License-Identifier: Apache-2.0
"""Batches by number, through Grain, with the same content for any number of workers and hosts.

The whole position of a stream is the number of its next batch, so resuming is `make_loader(...,
start_batch=k)`.
Grain's own state is not used: it differs between zero and several workers.
"""

import multiprocessing
import os
import signal
import threading
import warnings
import weakref
from collections.abc import Iterator
from typing import NamedTuple

import cv2
import grain
import numpy as np
from absl import flags

from ditfuse_jax import prompt
from ditfuse_jax.data import prompts, samples
from ditfuse_jax.data.config import Bucket
from ditfuse_jax.data.mixture import Mixture
from ditfuse_jax.prompt import Prompt

ENDLESS = 2**31 - 1  # batches; more than anybody trains
BUFFER = 2  # batches that each worker holds ready


class Batch(NamedTuple):
    """What a training step needs; H, W and S are those of the batch's bucket.

    The images of a row fill the upper left `size` of their arrays; zeros follow.
    """

    prompt: Prompt  # [B, S], slots [B, 2, 2]
    sources: np.ndarray  # uint8 [B, 2, H, W, 3]; zeros where a slot is (0, 0)
    target: np.ndarray  # uint8 [B, H, W, 3]
    task: np.ndarray  # int32 [B], index into mixture.TASKS
    index: np.ndarray  # int64 [B], place in the endless stream; see `samples.describe`
    size: np.ndarray  # int32 [B, 2], height and width of each row's images
    branches: tuple[Prompt, ...] = ()  # where asked for: the rows as uncond and as img_cond see them


class Row(NamedTuple):
    """One sample on its way into a batch."""

    prompt: Prompt  # B = 1, unpadded
    sample: samples.Sample
    index: int
    bucket: Bucket
    length: int  # of the padded prefix row
    warnings: tuple[str, ...]
    branches: tuple[Prompt, ...] = ()


class Rows:
    """Random access to this host's samples: batch after batch, in each its own block of rows."""

    def __init__(
        self,
        mixture: Mixture,
        tokenizer,
        *,
        batch_size: int,
        host: int = 0,
        num_hosts: int = 1,
        branches: bool = False,
    ):
        self.mixture, self.tokenizer, self.branches = mixture, tokenizer, branches
        self.batch_size, self.rows, self.host = batch_size, batch_size // num_hosts, host

    def __len__(self) -> int:
        return ENDLESS * self.rows

    def __getitem__(self, place: int) -> Row:
        batch, row = divmod(place, self.rows)
        position = batch * self.batch_size + self.host * self.rows + row
        bucket, cfg = self.mixture.bucket(batch), self.mixture.config
        own = self.mixture.size(bucket, position)
        made = samples.make(self.mixture, position, own)
        row_tokens = prompts.tokens(made.sample, own, cfg, self.tokenizer)
        length = prompts.prefix_length(bucket, cfg)
        counts = (prompts.patch_count(own),) * made.sample.num_sources
        texts = (prompt.NEGATIVE_PROMPT, prompt.IMAGE_ONLY_PROMPT) if self.branches else ()
        others = tuple(prompt.encode(text, counts, self.tokenizer) for text in texts)
        return Row(row_tokens, made.sample, position, bucket, length, made.warnings, others)


class Tokenizer:
    """Text -> ids as the wrapped tokenizer does; workers unpickle it without importing transformers."""

    def __init__(self, wrapped):
        self.backend = wrapped.backend_tokenizer

    def __call__(self, text: str):
        return Ids(self.backend.encode(text).ids)


class Ids(NamedTuple):
    input_ids: list[int]


class Loader(Iterator[Batch]):
    """Endless batches from `start_batch` on. `position` is the next one's number; `close` ends workers."""

    def __init__(self, rows: Rows, *, start_batch: int, workers: int):
        self.position = start_batch
        dataset = grain.MapDataset.source(rows)[start_batch * rows.rows :].batch(rows.rows, batch_fn=collate)
        # A worker is a process of its own, so it needs no threads; without workers one thread reads ahead.
        reading = grain.ReadOptions(
            num_threads=0 if workers else 1, prefetch_buffer_size=0 if workers else BUFFER
        )
        stream = dataset.to_iter_dataset(reading)
        if workers:
            _parse_flags()
            options = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=BUFFER)
            stream = stream.mp_prefetch(options, worker_init_fn=_start_worker)
        # The one reference to the iterator: a program that ends without closing must close and drop it while
        # the interpreter is whole.
        self._iterator = [iter(stream)]
        self._close = weakref.finalize(self, _close, self._iterator)

    def __next__(self) -> Batch:
        if not self._iterator:
            raise ValueError("this loader was closed; make another with start_batch=loader.position")
        batch, notes = next(self._iterator[0])
        self.position += 1
        for note in notes:
            warnings.warn(note, stacklevel=2)
        # Workers hand over shared memory that dies with its wrapper; JAX on a CPU might keep a bare pointer.
        prompts = [Prompt(*map(np.array, each)) for each in (batch.prompt, *batch.branches)]
        return Batch(prompts[0], *map(np.array, batch[1:-1]), tuple(prompts[1:]))

    def close(self) -> None:
        self._close()

    def __enter__(self) -> "Loader":
        return self

    def __exit__(self, *_):
        self.close()


def make_loader(
    mixture: Mixture,
    tokenizer,
    *,
    batch_size: int,
    start_batch: int = 0,
    workers: int = 0,
    host: int = 0,
    num_hosts: int = 1,
    branches: bool = False,
) -> Loader:
    """An endless iterator of this host's part of every batch, starting at batch number `start_batch`.

    Args:
      mixture: of `mixture.resolve`.
      tokenizer: of `prompt.load_tokenizer`.
      batch_size: over all hosts; host h takes rows [h * b, (h + 1) * b) with b = batch_size / num_hosts.
      workers: processes that make batches; 0 makes them in a thread of this one.
      branches: also the prompts of the other two guidance branches, see `Batch`.

    Raises ValueError when the hosts do not divide the batch.
    """
    if batch_size < 1 or batch_size % num_hosts:
        raise ValueError(f"batch size {batch_size} is not a positive multiple of {num_hosts} hosts")
    if not 0 <= host < num_hosts:
        raise ValueError(f"host {host} is not in [0, {num_hosts})")
    if start_batch < 0 or workers < 0:
        raise ValueError(f"start_batch {start_batch} and workers {workers} must not be negative")
    place = {"batch_size": batch_size, "host": host, "num_hosts": num_hosts, "branches": branches}
    rows = Rows(mixture, Tokenizer(tokenizer), **place)
    return Loader(rows, start_batch=start_batch, workers=workers)


def collate(rows: list[Row]) -> tuple[Batch, tuple[str, ...]]:
    """Rows of one bucket to a batch, and the warnings that came up."""
    batch = Batch(
        prompt.collate([row.prompt for row in rows], length=rows[0].length),
        np.stack([padded(row.sample.sources, row.bucket) for row in rows]),
        np.stack([padded(row.sample.target, row.bucket) for row in rows]),
        np.array([row.sample.task for row in rows], np.int32),
        np.array([row.index for row in rows], np.int64),
        np.array([row.sample.target.shape[:2] for row in rows], np.int32),
        tuple(
            prompt.collate(list(each), length=rows[0].length)
            for each in zip(*(row.branches for row in rows), strict=True)
        ),
    )
    return batch, tuple(note for row in rows for note in row.warnings)


def padded(images: np.ndarray, bucket: Bucket) -> np.ndarray:
    """Images [..., h, w, 3] in the upper left of zeros of the bucket's size."""
    below, right = bucket.height - images.shape[-3], bucket.width - images.shape[-2]
    return np.pad(images, [(0, 0)] * (images.ndim - 3) + [(0, below), (0, right), (0, 0)])


def _close(iterator: list) -> None:
    iterator.pop().close()


def _parse_flags() -> None:
    """Grain's workers read absl flags, which a program without absl.app never parsed."""
    if not flags.FLAGS.is_parsed():
        flags.FLAGS(["ditfuse_jax"], known_only=True)


def _start_worker(worker: int, num_workers: int) -> None:
    cv2.setNumThreads(0)  # one process, one core
    for number in (signal.SIGINT, signal.SIGTERM):  # may reach the whole group; the main process ends us
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Grain's workers would wait for ever on a main process that was killed."""
    multiprocessing.parent_process().join()
    os._exit(1)
