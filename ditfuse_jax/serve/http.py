# SPDX-License-Identifier: Apache-2.0
"""The HTTP side: /v1/fuse, /v1/plan, /health, /metrics, and their OpenAPI page at /docs."""

import asyncio
import tempfile
import threading
import time
import traceback
from pathlib import Path, PurePosixPath

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

import ditfuse_jax
from ditfuse_jax.inference.fuse import DiTFuse
from ditfuse_jax.serve import answer, fields, order
from ditfuse_jax.serve.guard import BodyLimit, Offline, TokenGate
from ditfuse_jax.serve.limits import MEGA, WORD_BYTES, Limits
from ditfuse_jax.serve.metrics import Metrics
from ditfuse_jax.serve.order import Picture, TooLarge
from ditfuse_jax.serve.worker import Cancelled, Full, Refused, Ticket, TooLong, Worker

LOOK = 0.2  # seconds between two looks at whether the client is still there
CLIENT_GONE = 499  # nginx's code; nobody reads it
DESCRIPTION = "Registered pictures and one English instruction in, one fused picture out. See docs/serve.md."
CODES = {  # what it means -> the answer's code; the first that fits
    TooLarge: 413,
    TooLong: 504,
    ValueError: 400,
    Full: 429,
    Refused: 503,
    Cancelled: CLIENT_GONE,
}
ANSWERS = {
    200: {"description": "The fused picture", "content": {kind: {} for kind in fields.FORMATS.values()}},
    400: {"description": "A request that cannot be done; `error` says why, and the way out"},
    413: {"description": "Over a limit of the server"},
    429: {"description": "All places of the queue are taken; try again after `Retry-After` seconds"},
    504: {"description": "Not done in the time that one fusion gets"},
}


def build(model: DiTFuse, limits: Limits, *, token: str | None = None) -> tuple[FastAPI, Worker]:
    """The app without the page, and the worker that both use."""
    metrics = Metrics()
    worker = Worker(model, limits, metrics.ended)
    metrics.watch(worker)
    app = FastAPIOffline(
        title="DiTFuse", version=ditfuse_jax.__version__, description=DESCRIPTION, redoc_url=None
    )
    app.add_middleware(Offline)
    app.add_middleware(BodyLimit, limit=limits.body_bytes)
    if token:
        app.add_middleware(TokenGate, token=token)
    add_fuse(app, worker, metrics)
    add_plan(app, model, limits)
    add_states(app, worker, metrics)
    app.add_exception_handler(HTTPException, lambda _, error: said(error.detail, error.status_code))
    return app, worker


def said(sentence: str, code: int) -> JSONResponse:
    headers = {"retry-after": "5"} if code in (429, 503) else None
    return JSONResponse({"error": sentence}, code, headers)


def failure(error: Exception) -> JSONResponse:
    """The answer to what went wrong; the trace of a fault of ours goes to the server's terminal."""
    for kind, code in CODES.items():
        if isinstance(error, kind):
            return said(str(error), code)
    traceback.print_exception(error)
    reason = (str(error) or type(error).__name__).splitlines()[0]
    return said(f"the server failed: {reason}; its log has more", 500)


def add_fuse(app: FastAPI, worker: Worker, metrics: Metrics) -> None:
    limits = worker.limits

    @app.post(
        "/v1/fuse",
        summary="Fuse pictures",
        responses=ANSWERS,
        response_class=Response,
        openapi_extra=fields.schema(fields.FUSE, images=limits.max_images),
    )
    async def fuse(request: Request):
        with tempfile.TemporaryDirectory(prefix="ditfuse-upload-") as folder:
            try:
                asked = await read_order(request, worker, Path(folder))
                ticket = worker.submit(asked)
            except (ValueError, Refused) as error:
                if isinstance(error, Refused):
                    metrics.refused()
                return failure(error)
            try:
                made = await result(ticket, worker, request)
            except Exception as error:  # whatever the worker met is an answer
                return failure(error)
        headers = {f"x-ditfuse-{key}": made.facts[key] for key in ("seed", "explained") if key in made.facts}
        return Response(made.content, media_type=made.kind, headers=headers)


async def read_order(request: Request, worker: Worker, folder: Path) -> order.Order:
    """The order of a multipart request; its pictures are in `folder` under names of ours."""
    limits = worker.limits
    try:
        async with (
            asyncio.timeout(limits.max_seconds),
            request.form(
                max_files=limits.max_images, max_fields=len(fields.FUSE), max_part_size=WORD_BYTES
            ) as form,
        ):
            given = texts(form)
            pictures = [
                await run_in_threadpool(keep, upload, folder / f"image{number}", limits)
                for number, upload in enumerate(uploads(form), 1)
            ]
    except TimeoutError as error:
        raise TooLong(f"the upload took more than {limits.max_seconds} seconds; try again") from error
    return await run_in_threadpool(order_of, given, pictures, worker)


def uploads(form: FormData) -> list[UploadFile]:
    """The files of the form; ValueError where a file has another name than images, or images is text."""
    files = [(name, value) for name, value in form.multi_items() if isinstance(value, UploadFile)]
    for name, _ in files:
        if name != "images":
            raise ValueError(f"file field {name!r}; pictures go into the field images, once for each")
    return [value for _, value in files]


def texts(form: FormData) -> dict[str, str]:
    """Every field of text, each once."""
    found: dict[str, str] = {}
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            continue
        if name == "images":
            raise ValueError("images is text, not a file; send the pictures themselves as multipart files")
        if name in found:
            raise ValueError(f"field {name!r} is there twice; send it once")
        found[name] = value
    return found


def keep(upload: UploadFile, file: Path, limits: Limits) -> Picture:
    """The uploaded bytes in a file of ours. The client's name is for messages alone, and cut short."""
    name = PurePosixPath((upload.filename or "").replace("\\", "/")).name[:80] or file.name
    left = limits.max_megabytes * MEGA
    with file.open("xb") as copy:
        while part := upload.file.read(MEGA):
            left -= len(part)
            if left < 0:
                most = limits.max_megabytes
                raise TooLarge(f"{name}: over {most} megabytes, the most that this server takes")
            copy.write(part)
    return Picture(file, name)


def order_of(given: dict[str, str], pictures: list[Picture], worker: Worker) -> order.Order:
    values = fields.values(given, fields.FUSE)
    options = {name: values[name] for name in fields.OPTIONS if name in values}
    prompt, seed = order.words(values), values.get("seed", 0)
    facts = order.metadata(worker.model, prompt, seed, options)
    return order.check_order(
        worker.model,
        worker.limits,
        pictures=pictures,
        prompt=prompt,
        seed=seed,
        options=options,
        finish=answer.encoder(values.get("format", "png"), facts),
    )


async def result(ticket: Ticket, worker: Worker, request: Request) -> answer.Answer:
    """What the worker makes; cancels it when the client closes the connection."""
    future = asyncio.wrap_future(ticket.future)
    while not (await asyncio.wait([future], timeout=LOOK))[0]:
        if await request.is_disconnected():
            worker.cancel(ticket)
    return future.result()


def add_plan(app: FastAPI, model: DiTFuse, limits: Limits) -> None:
    planner, one = order.planner(model), threading.Lock()

    def plan_of(given: dict[str, str]) -> dict:
        values = fields.values(given, fields.PLAN)
        if missing := [name for name in ("height", "width") if name not in values]:
            raise ValueError(f"{missing[0]} is missing; give height and width of the pictures in pixels")
        options = {name: values[name] for name in fields.OPTIONS if name in values}
        size = values["height"], values["width"]
        with one:
            return order.planned(planner, limits, size, order.words(values), options)

    @app.post("/v1/plan", summary="What a fusion will cost", openapi_extra=fields.schema(fields.PLAN))
    async def plan(request: Request):
        try:
            async with request.form(max_files=0, max_fields=len(fields.PLAN)) as form:
                given = texts(form)
            return JSONResponse(await run_in_threadpool(plan_of, given))
        except ValueError as error:
            return failure(error)


def add_states(app: FastAPI, worker: Worker, metrics: Metrics) -> None:
    started = time.monotonic()

    @app.get("/health", summary="Whether it takes work")
    def health():
        status = "stopping" if worker.stopping else "ok" if worker.alive else "failed"
        state = {
            "status": status,
            "checkpoint": worker.model.checkpoint_id,
            "version": ditfuse_jax.__version__,
            "waiting": worker.num_waiting,
            "running": worker.num_running,
            "seconds": round(time.monotonic() - started, 1),
        }
        return JSONResponse(state, 200 if status == "ok" else 503)

    @app.get("/metrics", summary="Counters for Prometheus")
    def counters():
        return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)
