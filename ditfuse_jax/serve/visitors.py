# SPDX-License-Identifier: Apache-2.0
"""Who has the page open: the job and the files of each visitor, gone when the visitor is."""

import contextlib
import threading
from collections.abc import Iterable
from pathlib import Path

from ditfuse_jax.serve.worker import Ticket, Worker


class Visitors:
    """Files are those below `folder` alone; one that two visitors sent is kept until both have left."""

    def __init__(self, worker: Worker, folder: Path):
        self.worker, self.folder = worker, folder
        self._tickets: dict[str, Ticket] = {}
        self._files: dict[str, set[Path]] = {}
        self._results: dict[str, Path] = {}
        self._lock = threading.Lock()

    def has(self, visitor: str, files: Iterable[Path]) -> None:
        """Notes uploads and results of a visitor."""
        ours = {file for file in files if file.is_relative_to(self.folder)}
        with self._lock:
            self._files.setdefault(visitor, set()).update(ours)

    def gets(self, visitor: str, result: Path) -> None:
        """Notes the result, and deletes the one before it."""
        self.has(visitor, [result])
        with self._lock:
            before, self._results[visitor] = self._results.get(visitor), result
        if before:
            _delete(before)

    def waits(self, visitor: str, ticket: Ticket) -> None:
        with self._lock:
            self._tickets[visitor] = ticket

    def cancel(self, visitor: str) -> None:
        with self._lock:
            ticket = self._tickets.pop(visitor, None)
        if ticket:
            self.worker.cancel(ticket)

    def left(self, visitor: str) -> None:
        """Frees the job, deletes the files."""
        self.cancel(visitor)
        with self._lock:
            files = self._files.pop(visitor, set())
            files -= set().union(*self._files.values())
            self._results.pop(visitor, None)
        for file in files:
            _delete(file)


def _delete(file: Path) -> None:
    file.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # its folder, unless something else is in it
        file.parent.rmdir()
