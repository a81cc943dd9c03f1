# SPDX-License-Identifier: Apache-2.0
"""The page for photographers: what is on it, and what its buttons do."""

from pathlib import Path
from typing import NamedTuple

import gradio as gr
from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool

from ditfuse_jax.serve import choices, visit
from ditfuse_jax.serve.choices import AS_IT_IS, CONTRAST, FORMATS, KINDS, LIGHT, Choices
from ditfuse_jax.serve.limits import Limits
from ditfuse_jax.serve.visit import Moment, Wanted
from ditfuse_jax.serve.visitors import Visitors
from ditfuse_jax.serve.worker import Worker

SWEEP, KEEP = 300, 3600  # seconds: how often old files are looked for, and their age when they are deleted
FONTS = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}  # none is fetched
CSS = "progress { width: 100% } .error { color: #b00020 } footer { display: none !important }"
WELCOME = "Add two photographs or more, or try an example."
FIRST = "Put first: the one with the sharp background, the brighter, or the visible one."
READY = "Ready: press Fuse."


class Controls(NamedTuple):
    files: gr.File
    kind: gr.Radio
    light: gr.Radio
    contrast: gr.Radio
    thing: gr.Textbox
    mark: gr.Textbox
    own: gr.Textbox
    seed: gr.Number
    format: gr.Radio


class Results(NamedTuple):
    status: gr.HTML
    make: gr.Button
    cancel: gr.Button
    first: gr.ImageSlider
    second: gr.ImageSlider
    origin: gr.Image
    invented: gr.Image
    download: gr.DownloadButton


def mount(app: FastAPI, worker: Worker, folder: Path) -> FastAPI:
    """The app with the page at /; uploads and results are below `folder` while a visitor is there."""
    blocks = build(worker, folder)
    files = [str(Path(file).parent) for _, pair in choices.examples().values() for file in pair[:1]]
    return gr.mount_gradio_app(
        app,
        blocks,
        path="/",
        allowed_paths=files,
        max_file_size=f"{worker.limits.max_megabytes}mb",
        footer_links=[],
        show_error=False,
        ssr_mode=False,
        pwa=False,
        enable_monitoring=False,
        mcp_server=False,
        run_history=False,
        theme=gr.themes.Soft(**FONTS),
        css=CSS,
    )


def build(worker: Worker, folder: Path) -> gr.Blocks:
    visitors = Visitors(worker, folder)
    with gr.Blocks(title="DiTFuse", analytics_enabled=False, delete_cache=(SWEEP, KEEP)) as blocks:
        gr.Markdown("# DiTFuse\nPhotographs of one scene become one, made of their own pixels.")
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                controls, strip = add_controls(worker.limits)
                with gr.Row():
                    make = gr.Button("Fuse", variant="primary", elem_id="make")
                    cancel = gr.Button("Cancel", interactive=False, elem_id="cancel")
                status = gr.HTML(visit.said(WELCOME), elem_id="status")
                add_examples(controls)
            with gr.Column(scale=3, min_width=300):
                results = Results(status, make, cancel, *add_results())
        connect(blocks, visitors, controls, strip, results)
    blocks.queue(max_size=worker.limits.queue * 2, default_concurrency_limit=None, api_open=False)
    return blocks


def add_controls(limits: Limits) -> tuple[Controls, gr.Gallery]:
    files = gr.File(
        label=f"Photographs, up to {limits.max_megapixels} megapixels",
        file_count="multiple",
        file_types=["image"],
        allow_reordering=True,
        elem_id="files",
    )
    strip = gr.Gallery(
        show_label=False, columns=3, height=150, interactive=False, visible=False, elem_id="strip"
    )
    kind = gr.Radio(
        list(KINDS), value=next(iter(KINDS)), label="How do they differ?", info=FIRST, elem_id="kind"
    )
    with gr.Accordion("Light, contrast, objects, your own words", open=False):
        light = gr.Radio(list(LIGHT), value=AS_IT_IS, label="Light")
        contrast = gr.Radio(list(CONTRAST), value=AS_IT_IS, label="Contrast")
        text = {"max_length": 500, "max_lines": 3}
        thing = gr.Textbox(label="Only this object", placeholder="car", info="for light or contrast", **text)
        mark = gr.Textbox(label="Mark in blue", placeholder="person, car", **text)
        own = gr.Textbox(label="In your own words", placeholder="keep the sky dark", **text)
    with gr.Accordion("File and variation", open=False):
        seed = gr.Number(0, precision=0, minimum=0, maximum=2**32 - 1, label="Variation", elem_id="seed")
        format = gr.Radio(list(FORMATS), value="PNG", label="File to download")
    return Controls(files, kind, light, contrast, thing, mark, own, seed, format), strip


def add_examples(controls: Controls) -> None:
    if found := choices.examples():
        gr.Markdown("Try an example:")
        with gr.Row():
            for kind, (name, pair) in found.items():
                gr.Button(name, size="sm", elem_classes="example").click(
                    lambda kind=kind, pair=pair: (pair, kind),
                    outputs=[controls.files, controls.kind],
                    api_visibility="private",
                )


def add_results() -> tuple:
    look = {"format": "jpeg", "interactive": False, "show_label": False}
    with gr.Tab("Picture 1"):
        first = gr.ImageSlider(elem_id="first", max_height=700, **look)
        gr.Markdown("Left: picture 1. Right: the result. Drag the line.")
    with gr.Tab("Picture 2"):
        second = gr.ImageSlider(elem_id="second", max_height=700, **look)
        gr.Markdown("Left: picture 2. Right: the result. Drag the line.")
    with gr.Tab("Sources"):
        origin = gr.Image(elem_id="origin", **look)
        gr.Markdown("Orange: from picture 1. Blue: from the last picture.")
    with gr.Tab("Doubts"):
        invented = gr.Image(elem_id="invented", **look)
        gr.Markdown("Red: details that none of the pictures shows. Look twice before you trust them.")
    download = gr.DownloadButton("Download at full size", interactive=False, elem_id="download")
    return first, second, origin, invented, download


def connect(blocks: gr.Blocks, visitors: Visitors, controls: Controls, strip, results: Results) -> None:
    """What happens when something is pressed; none of it can be called from outside the page."""
    private = {"api_visibility": "private", "show_progress": "hidden"}

    async def received(files: list[str] | None, request: gr.Request):
        pictures = visit.named(files)
        visitors.has(request.session_hash, [picture.file for picture in pictures])
        try:
            shown = await run_in_threadpool(visit.thumbnails, pictures, visitors.worker.limits)
        except ValueError as error:
            return gr.update(visible=False), visit.failed(str(error))
        told = (WELCOME, "Add one more photograph of the same scene.", READY)[min(2, len(pictures))]
        return gr.update(value=shown, visible=bool(shown)), visit.said(told)

    async def make(request: gr.Request, *values):
        asked = Controls(*values)
        chosen = Choices(asked.kind, asked.light, asked.contrast, asked.thing, asked.mark, asked.own)
        wanted = Wanted(asked.files, chosen, int(asked.seed or 0), asked.format)
        async for moment in visit.moments(wanted, visitors, request.session_hash):
            yield changes(results, moment)

    def cancel(request: gr.Request):
        visitors.cancel(request.session_hash)

    def leave(request: gr.Request):
        visitors.left(request.session_hash)

    controls.files.change(received, controls.files, [strip, results.status], **private)
    results.make.click(make, list(controls), list(results), concurrency_limit=None, **private)
    results.cancel.click(cancel, queue=False, **private)
    blocks.unload(leave)


def changes(results: Results, moment: Moment) -> dict:
    """What a moment changes on the page."""
    found = {
        results.status: moment.status,
        results.make: gr.update(interactive=not moment.busy),
        results.cancel: gr.update(interactive=moment.busy),
    }
    if (shown := moment.shown) is None:
        return found
    return found | {
        results.first: (shown.sources[0], shown.fused),
        results.second: (shown.sources[1], shown.fused),
        results.origin: shown.origin,
        results.invented: shown.invented,
        results.download: gr.update(value=str(shown.file), interactive=True),
    }
