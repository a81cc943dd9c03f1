# SPDX-License-Identifier: Apache-2.0
"""One press of Fuse on the page: from the controls to the moments that the visitor sees."""

import asyncio
import html
import traceback
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from starlette.concurrency import run_in_threadpool

from ditfuse_jax import image
from ditfuse_jax.inference.plan import duration
from ditfuse_jax.serve import choices, order, views
from ditfuse_jax.serve.limits import Limits
from ditfuse_jax.serve.order import Picture
from ditfuse_jax.serve.views import Shown
from ditfuse_jax.serve.visitors import Visitors
from ditfuse_jax.serve.worker import Cancelled, Refused, Ticket, Worker

LOOK = 0.3  # seconds between two looks at a job
THUMBNAIL = 240  # pixels


class Wanted(NamedTuple):
    """What the controls say."""

    files: Sequence[str] | None  # below the folder of uploads
    chosen: choices.Choices
    seed: int
    format: str


class Moment(NamedTuple):
    status: str  # HTML
    busy: bool
    shown: Shown | None = None


async def moments(wanted: Wanted, visitors: Visitors, visitor: str) -> AsyncIterator[Moment]:
    """Until the picture is there, or one sentence says why not. Ends the job when nobody listens any more."""
    worker, ticket = visitors.worker, None
    try:
        asked = await run_in_threadpool(order_of, wanted, visitors)
        ticket = worker.submit(asked)
        visitors.waits(visitor, ticket)
        while not ticket.future.done():
            yield Moment(progress(ticket, worker), busy=True)
            await asyncio.sleep(LOOK)
            if ticket.gone:
                raise Cancelled
        shown = ticket.future.result()
        visitors.gets(visitor, shown.file)
        yield Moment(said(summary(shown)), busy=False, shown=shown)
    except (ValueError, Refused) as error:
        yield Moment(failed(str(error)), busy=False)
    except Cancelled:
        yield Moment(said("Cancelled."), busy=False)
    except Exception as error:  # a fault of ours, or no memory: the page says so, the server goes on
        traceback.print_exception(error)
        yield Moment(failed(f"The server failed: {error}"), busy=False)
    finally:
        if ticket and not ticket.future.done():
            worker.cancel(ticket)


def order_of(wanted: Wanted, visitors: Visitors) -> order.Order:
    """ValueError for what cannot be done."""
    worker, pictures = visitors.worker, named(wanted.files)
    prompt = order.words(choices.fields_of(wanted.chosen))
    facts = order.metadata(worker.model, prompt, wanted.seed, {})
    kind = choices.FORMATS[wanted.format]
    files = [picture.file for picture in pictures]
    return order.check_order(
        worker.model,
        worker.limits,
        pictures=pictures,
        prompt=prompt,
        seed=wanted.seed,
        options={},
        finish=views.viewer(files, visitors.folder, kind, facts),
    )


def named(files: Sequence[str] | None) -> list[Picture]:
    return [Picture(Path(file), Path(file).name) for file in files or ()]


def thumbnails(pictures: Sequence[Picture], limits: Limits) -> list[tuple[np.ndarray, str]]:
    """Small copies with their numbers; ValueError for files that are no pictures or over a limit."""
    found = []
    for number, picture in enumerate(pictures[: limits.max_images], 1):
        try:
            order.check_pixels(*image.read_size(picture.file), picture.name, limits)
            small = views.shrink(image.read(picture.file), THUMBNAIL)
        except ValueError as error:
            raise ValueError(order.told(error, pictures)) from error
        found.append((small, str(number)))
    return found


def progress(ticket: Ticket, worker: Worker) -> str:
    """A line and a bar."""
    if not ticket.running:
        ahead = worker.before(ticket)
        return said(f"Waiting: {ahead} before you." if ahead else "Starting.")
    if not ticket.step:
        about = f", about {duration(ticket.seconds)}" if ticket.steps else ""
        return said(f"Working{about}; the first picture of a size takes longer.") + "<progress></progress>"
    left = ticket.seconds * max(0, ticket.steps - ticket.step) / ticket.steps
    bar = f'<progress value="{ticket.step}" max="{ticket.steps}"></progress>'
    return said(f"Working: about {duration(left)} left.") + bar


def summary(shown: Shown) -> str:
    if shown.explained is None:
        return "Done."
    return f"Done. Your pictures explain {shown.explained:.0%} of the result."


def said(sentence: str) -> str:
    return f'<div role="status">{html.escape(sentence)}</div>'


def failed(sentence: str) -> str:
    return f'<div role="alert" class="error">{html.escape(sentence)}</div>'
