# SPDX-License-Identifier: Apache-2.0
"""HTTP with a tiny model: pictures in and out, one sentence for each mistake, limits, token, counters."""

import asyncio
import io
import json
import zipfile

import numpy as np
import pytest
from PIL import Image

from ditfuse_jax import image as im
from ditfuse_jax.inference.fuse import DiTFuse
from ditfuse_jax.serve.limits import Limits

pytest.importorskip("fastapi_offline", reason="the extra app is not installed")
from starlette.testclient import TestClient  # noqa: E402

from ditfuse_jax.serve import http  # noqa: E402
from ditfuse_jax.serve.worker import Full  # noqa: E402

pytestmark = pytest.mark.usefixtures("small_blocks")

FAST = {"steps": "2", "guidance": "1", "image_guidance": "1"}


@pytest.fixture(scope="module")
def model(folder):
    return DiTFuse.load(folder)


@pytest.fixture(scope="module")
def served(model):
    limits = Limits(max_megapixels=1, max_megabytes=1, max_images=3, max_seconds=300)
    app, worker = http.build(model, limits)
    with TestClient(app) as client:
        client.worker = worker
        yield client
    worker.stop()
    worker.join(60)


def picture(height=32, width=48, seed=0) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


def post(served, *contents: bytes, names=("a.png", "b.png", "c.png", "d.png"), **fields):
    files = [("images", (name, content)) for name, content in zip(names, contents, strict=False)]
    return served.post("/v1/fuse", files=files, data=FAST | fields)


def test_a_picture_comes_back_as_the_library_makes_it(served, model):
    pair = [picture(), picture(seed=1)]
    answer = post(served, *pair, task="light+", object="cone", seed="5")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
    assert answer.headers["x-ditfuse-seed"] == "5"
    with Image.open(io.BytesIO(answer.content)) as made:
        text, pixels = made.text, np.asarray(made)
    assert text["prompt"].endswith("Brighten the cone slightly.")
    assert text["software"] == "ditfuse-jax"
    sources = [np.asarray(Image.open(io.BytesIO(content))) for content in pair]
    options = {"steps": 2, "guidance": 1.0, "image_guidance": 1.0}
    expected = model.fuse(sources, task="light+", object="cone", seed=5, **options).image
    np.testing.assert_array_equal(pixels, expected)


def test_a_stack_is_one_picture(served):
    answer = post(served, *(picture(seed=number) for number in range(3)), task="mff", fidelity="1")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
    with Image.open(io.BytesIO(answer.content)) as made:
        assert made.size == (48, 32)
    answer = post(served, *(picture(seed=number) for number in range(3)), task="ivif", fidelity="1")
    assert answer.status_code == 400
    assert "takes one visible and one infrared image" in answer.json()["error"]


@pytest.mark.parametrize(("kind", "stored"), [("tiff", "TIFF"), ("jpeg", "JPEG")])
def test_other_formats(served, kind, stored):
    answer = post(served, picture(), picture(seed=1), format=kind)
    assert answer.headers["content-type"] == f"image/{kind}"
    with Image.open(io.BytesIO(answer.content)) as made:
        assert (made.format, made.size) == (stored, (48, 32))


def test_a_zip_holds_picture_maps_and_facts(served):
    answer = post(served, picture(), picture(seed=1), format="zip", fidelity="1")
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert sorted(archive.namelist()) == ["fused.png", "invented.png", "result.json", "weights.png"]
        facts = json.loads(archive.read("result.json"))
        with Image.open(archive.open("weights.png")) as weights:
            assert (weights.size, weights.mode) == ((48, 32), "L")
    assert 0 <= float(facts["explained"]) <= 1
    assert facts["fidelity"] == "1.0"


BAD = [
    ([], {}, 400, "0 pictures to fuse; give two or more"),
    ([picture()], {}, 400, "1 pictures to fuse"),
    ([picture()] * 4, {}, 400, "Too many files. Maximum number of files is 3."),
    (
        [picture(), picture(48, 32)],
        {},
        400,
        "different sizes: a.png 48 x 32 and b.png 32 x 48; crop or resize",
    ),
    ([picture(), b"no picture"], {}, 400, "b.png: not an image that can be read; give a PNG"),
    ([picture(), picture()[:400]], {}, 400, "b.png: truncated or damaged"),
    ([picture(8, 8)] * 2, {}, 400, "a.png: 8 x 8 pixels, a side is under 16; give a larger image"),
    ([picture()] * 2, {"task": "light"}, 400, "task 'light' is not one of ivif, "),
    ([picture()] * 2, {"object": "cone"}, 400, "--object goes with a light or contrast task"),
    ([picture()] * 2, {"stepz": "4"}, 400, "unknown field 'stepz' (did you mean steps?)"),
    ([picture()] * 2, {"steps": "many"}, 400, "steps 'many' is not of type integer"),
    ([picture()] * 2, {"steps": "0"}, 400, "steps 0 is not a whole number from 1"),
    ([picture()] * 2, {"seed": "-1"}, 400, "seed -1 is not a whole number from 0 to 18,446,744"),
    ([picture()] * 2, {"images": "/etc/passwd"}, 400, "images is text, not a file; send the pictures"),
    ([b"\0" * 1_000_001, picture()], {}, 413, "a.png: over 1 megabytes, the most that this server takes"),
    ([picture()] * 2, {"prompt": "x" * 20_001}, 400, "Part exceeded maximum size of 19KB"),
    ([b"\0" * 3_000_000, b"\0" * 1_500_000], {}, 413, "the request is over 4 megabytes"),
]


@pytest.mark.parametrize(("contents", "fields", "code", "sentence"), BAD)
def test_every_mistake_is_one_sentence(served, contents, fields, code, sentence):
    answer = post(served, *contents, **fields)
    assert sentence in answer.json()["error"]
    assert answer.status_code == code
    assert "/tmp" not in answer.text


def test_pixels_are_counted_before_they_are_decoded(served):
    content = io.BytesIO()
    Image.new("1", (1100, 1000)).save(content, "PNG")
    answer = post(served, content.getvalue(), picture())
    assert answer.status_code == 413
    assert answer.json()["error"] == "a.png: 1 megapixels, more than 1; scale the picture down first"


def test_a_name_is_never_a_path(served):
    answer = post(served, b"no picture", picture(), names=("../../etc/passwd", "b.png"))
    assert answer.json()["error"].startswith("passwd: not an image")


def test_a_length_that_is_not_stated_is_counted(served):
    def endless():
        yield b'--b\r\nContent-Disposition: form-data; name="images"; filename="a.png"\r\n\r\n'
        for _ in range(5):
            yield b"\0" * 1_000_000

    headers = {"content-type": "multipart/form-data; boundary=b"}
    answer = served.post("/v1/fuse", content=endless(), headers=headers)
    assert answer.status_code == 413
    assert "the request is over 4 megabytes" in answer.json()["error"]


def test_a_full_queue_is_429_and_a_fault_is_500(served, monkeypatch, capsys):
    def full(_):
        raise Full("16 pictures are waiting already; try again later")

    with monkeypatch.context() as patch:
        patch.setattr(served.worker, "submit", full)
        answer = post(served, picture(), picture())
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "5")
    monkeypatch.setattr(DiTFuse, "fuse_batch", lambda *_, **__: 1 / 0)
    answer = post(served, picture(), picture())
    assert (answer.status_code, answer.json()["error"]) == (
        500,
        "the server failed: division by zero; its log has more",
    )
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_the_plan_of_a_size(served):
    answer = served.post("/v1/plan", data=FAST | {"height": "32", "width": "48", "task": "mff"})
    assert answer.json()["fused"] == [32, 48]
    assert answer.json()["settings"]["steps"] == 2
    for fields, sentence in (
        ({"height": "32"}, "width is missing"),
        ({"height": "9", "width": "9"}, "the pictures: 9 x 9 pixels, a side is under 16"),
        ({"height": "9000", "width": "9000"}, "the pictures: 81 megapixels, more than 1"),
    ):
        assert sentence in served.post("/v1/plan", data=fields).json()["error"]


def test_health_metrics_and_the_openapi_page(served):
    health = served.get("/health").json()
    assert health["status"] == "ok"
    assert health["checkpoint"].startswith("tiny-")
    post(served, picture(), picture(seed=1))
    counted = served.get("/metrics").text
    assert "ditfuse_waiting 0.0" in counted
    assert 'ditfuse_fusions_total{outcome="done"}' in counted
    body = served.get("/openapi.json").json()["paths"]["/v1/fuse"]["post"]["requestBody"]
    properties = body["content"]["multipart/form-data"]["schema"]["properties"]
    assert properties["images"]["maxItems"] == 3
    assert {"task", "prompt", "seed", "format", "steps", "fidelity"} <= properties.keys()
    page = served.get("/docs")
    assert "https://" not in page.text
    assert "default-src 'self'" in page.headers["content-security-policy"]


def test_a_client_that_closes_frees_its_job(served, monkeypatch):
    """The connection ends before the worker does: the ticket is cancelled."""
    cancelled = []

    class Gone:
        async def is_disconnected(self):
            return True

    def note(ticket):
        cancelled.append(ticket)
        ticket.future.set_exception(http.Cancelled("cancelled"))

    monkeypatch.setattr(served.worker, "cancel", note)
    ticket = http.Ticket(None)
    with pytest.raises(http.Cancelled):
        asyncio.run(http.result(ticket, served.worker, Gone()))
    assert cancelled == [ticket]


def test_a_token_is_asked_of_everybody(model):
    app, worker = http.build(model, Limits(), token="secret")
    with TestClient(app) as client:
        assert client.get("/health").status_code == 200
        refused = client.get("/metrics")
        assert (refused.status_code, "a token is needed" in refused.json()["error"]) == (401, True)
        assert client.get("/metrics", headers={"authorization": "Bearer wrong"}).status_code == 401
        assert client.get("/metrics?token=wrong").status_code == 401
        assert client.get("/metrics", headers={"authorization": "Bearer secret"}).status_code == 200
        assert client.get("/metrics?token=secret").status_code == 200  # sets the cookie, and comes back
        assert client.get("/metrics").status_code == 200
    worker.stop()
    worker.join(60)


def test_16_bits_in_come_back_at_16_bits(served, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 65536, (32, 48, 3)).astype(np.uint16)
    im.write(tmp_path / "deep.png", pixels, metadata={})
    content = (tmp_path / "deep.png").read_bytes()
    for form, bits in (("png", 16), ("tiff", 16), ("jpeg", 8)):
        answer = post(served, content, content, task="mff", fidelity="1", format=form)
        assert answer.status_code == 200
        (tmp_path / f"made.{form}").write_bytes(answer.content)
        found = im.read_picture(tmp_path / f"made.{form}")
        assert found.bits == bits
        if bits == 16:
            assert np.abs(found.pixels.astype(int) - pixels).max() <= 1
