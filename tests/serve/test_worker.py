# SPDX-License-Identifier: Apache-2.0
"""The worker's order of work, with a model that waits until it is told: bounds, batches, the end."""

import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from ditfuse_jax.serve.limits import Limits
from ditfuse_jax.serve.order import Order, Picture
from ditfuse_jax.serve.worker import Cancelled, Full, Refused, TooLong, Worker

PATIENCE = 60


class Held:
    """A model whose steps wait for `gate`; notes the batches it made."""

    def __init__(self):
        self.gate, self.begun, self.batches = threading.Event(), threading.Event(), []

    def plan(self, *_, **__):
        return SimpleNamespace(calls=2, seconds=1.0)

    def fuse_batch(self, pictures, prompts, *, seed, on_step, steps):
        self.batches.append(list(prompts))
        self.begun.set()
        assert self.gate.wait(PATIENCE)
        for step in range(1, steps + 1):
            on_step(step)
        if "bad" in prompts:
            raise ValueError(f"{pictures[0][0]}: is bad")
        if "fault" in prompts:
            raise RuntimeError("no memory")
        return list(zip(prompts, seed, strict=True))


def order(prompt: str, *, size=(32, 48), alone=False, seed=0) -> Order:
    pictures = (Picture(Path("/kept/image1"), "theirs.png"), Picture(Path("/kept/image2"), "b.png"))
    return Order(pictures, prompt, seed, (("steps", 2),), size, alone, finish=lambda result: result)


@pytest.fixture
def model():
    return Held()


@pytest.fixture
def worker(model):
    ends = []
    worker = Worker(model, Limits(queue=6), lambda outcome, _, size: ends.append((outcome, size)))
    worker.ends = ends
    yield worker
    model.gate.set()
    worker.stop()
    worker.join(PATIENCE)
    assert not worker.alive


def started(worker, model):
    """A first order that the model holds on to."""
    first = worker.submit(order("first", size=(16, 16)))
    assert model.begun.wait(PATIENCE)
    return first


def test_equal_shapes_go_together_in_powers_of_two_and_tiles_alone(worker, model):
    started(worker, model)
    prompts = ["a", "b", "other", "c", "tiles", "d"]
    kinds = {"other": {"size": (48, 32)}, "tiles": {"size": (99, 99), "alone": True}}
    tickets = [worker.submit(order(p, seed=i, **kinds.get(p, {}))) for i, p in enumerate(prompts)]
    assert worker.before(tickets[2]) == 3
    model.gate.set()
    assert [ticket.future.result(PATIENCE) for ticket in tickets] == [(p, i) for i, p in enumerate(prompts)]
    assert model.batches == [["first"], ["a", "b", "c", "d"], ["other"], ["tiles"]]
    assert (tickets[0].step, tickets[0].steps) == (2, 2)


def test_the_queue_is_bounded_and_a_cancelled_place_is_free(worker, model):
    started(worker, model)
    tickets = [worker.submit(order("x")) for _ in range(6)]
    with pytest.raises(Full, match="6 pictures are waiting already; try again later"):
        worker.submit(order("x"))
    worker.cancel(tickets[0])
    with pytest.raises(Cancelled):
        tickets[0].future.result(PATIENCE)
    worker.submit(order("x"))


def test_what_runs_is_cancelled_after_its_step(worker, model):
    first = started(worker, model)
    second = worker.submit(order("second"))
    worker.cancel(first)
    model.gate.set()
    with pytest.raises(Cancelled):
        first.future.result(PATIENCE)
    assert second.future.result(PATIENCE) == ("second", 0)
    assert ("cancelled", 1) in worker.ends


def test_a_bad_order_fails_alone_and_in_the_names_of_its_client(worker, model):
    started(worker, model)
    tickets = [worker.submit(order(prompt)) for prompt in ("bad", "good")]
    fault = worker.submit(order("fault", size=(64, 64)))
    model.gate.set()
    with pytest.raises(ValueError, match=r"^theirs\.png: is bad$"):
        tickets[0].future.result(PATIENCE)
    assert tickets[1].future.result(PATIENCE) == ("good", 0)
    with pytest.raises(RuntimeError, match="no memory"):
        fault.future.result(PATIENCE)
    assert worker.submit(order("later")).future.result(PATIENCE) == ("later", 0)


def test_an_order_has_its_time(model):
    limits = Limits()
    object.__setattr__(limits, "max_seconds", -1)  # over at the first look
    worker = Worker(model, limits)
    with pytest.raises(TooLong, match="not done after -1 seconds"):
        worker.submit(order("x")).future.result(PATIENCE)
    worker.stop()


def test_the_end_finishes_what_runs_and_refuses_the_rest(worker, model):
    first = started(worker, model)
    waiting = worker.submit(order("x"))
    worker.stop()
    with pytest.raises(Refused, match="is ending"):
        waiting.future.result(PATIENCE)
    with pytest.raises(Refused, match="about to end"):
        worker.submit(order("x"))
    assert worker.alive
    model.gate.set()
    assert first.future.result(PATIENCE) == ("first", 0)


def test_limits_check_themselves():
    with pytest.raises(ValueError, match="--max-images 1 is too small; use 2 or more"):
        Limits(max_images=1)
