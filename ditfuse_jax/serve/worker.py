# SPDX-License-Identifier: Apache-2.0
"""The one thread that owns the model: makes orders one after another, equal shapes together.

submit -> [waiting, at most `queue`] -> next group -> fuse_batch -> finish -> the ticket's future
                cancel: leaves               cancel: stops after the step
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future

from ditfuse_jax.inference.fuse import DiTFuse
from ditfuse_jax.serve.limits import Limits
from ditfuse_jax.serve.order import Order, told


class Refused(Exception):
    """No place is free, or the server is about to end; a later try may succeed."""


class Full(Refused):
    """All places of the queue are taken."""


class Cancelled(Exception):
    """Nobody waits for the result any more."""


class TooLong(ValueError):
    """The order ran for longer than one may."""


class Ticket:
    """A submitted order: how far it is, and its result to come."""

    def __init__(self, order: Order):
        self.order = order
        self.future: Future = Future()  # of what order.finish returns
        self.step, self.steps = 0, 0  # done, and in all once it runs
        self.seconds = 0.0  # that it will take, roughly
        self.gone = False  # nobody waits

    @property
    def running(self) -> bool:
        return self.future.running()


class Worker:
    """Starts its thread at once.

    on_end: called as on_end(outcome, seconds, size) after every batch; outcome: done, failed or cancelled.
    """

    def __init__(
        self,
        model: DiTFuse,
        limits: Limits,
        on_end: Callable[[str, float, int], None] = lambda *_: None,
    ):
        self.model, self.limits, self.on_end = model, limits, on_end
        self._waiting: deque[Ticket] = deque()
        self._running: list[Ticket] = []
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name="worker", daemon=True)
        self._thread.start()

    def submit(self, order: Order) -> Ticket:
        """Raises Full where no place is free, Refused when the server is about to end."""
        with self._changed:
            if self._stopping:
                raise Refused("the server is about to end; try again later")
            if len(self._waiting) >= self.limits.queue:
                raise Full(f"{len(self._waiting)} pictures are waiting already; try again later")
            ticket = Ticket(order)
            self._waiting.append(ticket)
            self._changed.notify_all()
        return ticket

    def cancel(self, ticket: Ticket) -> None:
        """Frees the place at once; what runs ends after its step, unless others share its batch."""
        with self._changed:
            ticket.gone = True
            if ticket in self._waiting:
                self._waiting.remove(ticket)
                ticket.future.set_exception(Cancelled("cancelled"))
                self.on_end("cancelled", 0.0, 1)

    def before(self, ticket: Ticket) -> int:
        """How many are made before this one."""
        with self._changed:
            ahead = self._waiting.index(ticket) if ticket in self._waiting else 0
            return ahead + (0 if ticket.running else len(self._running))

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    @property
    def num_running(self) -> int:
        return len(self._running)

    @property
    def stopping(self) -> bool:
        return self._stopping

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def stop(self) -> None:
        """Takes no more orders and refuses those that wait; what runs is finished, then the thread ends."""
        with self._changed:
            self._stopping = True
            while self._waiting:
                self._waiting.popleft().future.set_exception(Refused("the server is ending; try again later"))
            self._changed.notify_all()

    def join(self, seconds: float | None = None) -> None:
        self._thread.join(seconds)

    def _work(self) -> None:
        while batch := self._next():
            self._make(batch)
            with self._changed:
                self._running = []

    def _next(self) -> list[Ticket]:
        """Waits for orders; the first, and those behind it that can share its batch: 1, 2, 4, ... in all, so
        that few programs are compiled. Empty when it is time to end.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._stopping)
            if not self._waiting:
                return []
            first = self._waiting[0].order
            alike = [each for each in self._waiting if each.order.group == first.group]
            room = 1 if first.alone else min(len(alike), self.limits.batch)
            batch = alike[: 2 ** (room.bit_length() - 1)]
            for ticket in batch:
                self._waiting.remove(ticket)
                ticket.future.set_running_or_notify_cancel()
            self._running = batch
            return batch

    def _make(self, batch: list[Ticket]) -> None:
        started = time.monotonic()
        try:
            results = self._fuse(batch, started)
        except Cancelled as error:
            self._end(batch, "cancelled", error, started)
        except (ValueError, OSError) as error:
            if len(batch) == 1:
                kind = TooLong if isinstance(error, TooLong) else ValueError
                self._end(batch, "failed", kind(told(error, batch[0].order.pictures)), started)
                return
            for ticket in batch:  # one of them is to blame; the others are made
                self._make([ticket])
        except Exception as error:  # out of memory, a fault of ours: this order ends, the server goes on
            self._end(batch, "failed", error, started)
        else:
            for ticket, result in zip(batch, results, strict=True):
                ticket.future.set_result(result)
            self.on_end("done", time.monotonic() - started, len(batch))

    def _end(self, batch: list[Ticket], outcome: str, error: Exception, started: float) -> None:
        for ticket in batch:
            ticket.future.set_exception(error)
        self.on_end(outcome, time.monotonic() - started, len(batch))

    def _fuse(self, batch: list[Ticket], started: float) -> list:
        orders, options = [ticket.order for ticket in batch], dict(batch[0].order.options)

        def on_step(step, _latents=None):
            for ticket in batch:
                ticket.step = step
            if all(ticket.gone for ticket in batch):
                raise Cancelled("cancelled")
            if time.monotonic() - started > self.limits.max_seconds:
                raise TooLong(
                    f"not done after {self.limits.max_seconds} seconds, the most that this server gives one "
                    "fusion; send smaller pictures or ask for fewer steps"
                )

        on_step(0)
        pictures = [[picture.file for picture in order.pictures] for order in orders]
        self._plan(batch, options)
        made = self.model.fuse_batch(
            pictures,
            [order.prompt for order in orders],
            seed=[order.seed for order in orders],
            on_step=on_step,
            **options,
        )
        return [order.finish(result) for order, result in zip(orders, made, strict=True)]

    def _plan(self, batch: list[Ticket], options: dict) -> None:
        """Tells the tickets how long they will take."""
        order = batch[0].order
        plan = self.model.plan(*order.size, order.prompt, **options)
        decisions = len(order.pictures) - 1
        for ticket in batch:
            ticket.steps, ticket.seconds = decisions * plan.calls, decisions * plan.seconds * len(batch)
