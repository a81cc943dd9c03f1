# SPDX-License-Identifier: Apache-2.0
"""The page in a real browser, offline, with a tiny model: upload, fuse, download, mistakes, two users."""

import json
import re
import shutil
import subprocess
import sys
import urllib.request

import numpy as np
import pytest
from PIL import Image

from conftest import PATIENCE
from runs import PROJECT, environment

CHROMIUM = shutil.which("chromium")
if CHROMIUM is None:
    pytest.skip("no Chromium: apt-get install chromium", allow_module_level=True)
pytest.importorskip("gradio", reason="the extra app is not installed")
from playwright.sync_api import expect, sync_playwright  # noqa: E402

SOON = PATIENCE * 1000 / 4  # milliseconds


@pytest.fixture(scope="module")
def checkpoint(folder):
    config = json.loads((folder / "config.json").read_text())
    config["sampling"] |= {"steps": 20, "guidance": 1.0, "image_guidance": 1.0}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def serve(*arguments) -> subprocess.Popen:
    command = [sys.executable, "-m", "ditfuse_jax.cli", "serve", "--no-compile-cache", *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, env=environment(), cwd=PROJECT, **pipes)


@pytest.fixture(scope="module")
def address(checkpoint):
    server = serve("--port", 0, "--checkpoint", checkpoint)
    lines = []
    for line in server.stdout:
        lines.append(line)
        if found := re.match(r"page +(http://\S+/)", line):
            break
    else:
        pytest.fail("".join(lines))
    yield found[1]
    server.terminate()
    rest, _ = server.communicate(timeout=PATIENCE)
    assert (server.returncode, rest.splitlines()[-1:]) == (0, ["ended       what ran is finished"])
    assert "Traceback" not in rest


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def asked():
    """Every address that a page asked for."""
    return []


@pytest.fixture
def visit(browser, address, asked):
    contexts = []

    def open_page(**options):
        contexts.append(browser.new_context(**options))
        page = contexts[-1].new_page()
        page.set_default_timeout(SOON)
        expect.set_options(timeout=SOON)
        page.on("request", lambda request: asked.append(request.url))
        page.goto(address)
        return page

    yield open_page
    for context in contexts:
        context.close()


def pictures(folder, height=32, width=48):
    files = []
    for seed in range(2):
        pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
        files.append(folder / f"photo{seed}.png")
        Image.fromarray(pixels).save(files[-1])
    return files


def status(page, words: str) -> None:
    expect(page.locator("#status")).to_contain_text(words)


def give(page, files) -> None:
    page.set_input_files("#files input[type=file]", files)


def drag(page, slider) -> None:
    """To the left; it follows."""
    slider.scroll_into_view_if_needed()
    before = slider.bounding_box()
    x, y = before["x"] + before["width"] / 2, before["y"] + before["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x - 60, y, steps=4)
    page.mouse.up()
    assert slider.bounding_box()["x"] < before["x"] - 30


def test_from_upload_to_download(visit, address, asked, tmp_path):
    page = visit(viewport={"width": 390, "height": 844})  # a phone
    status(page, "Add two photographs")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    give(page, pictures(tmp_path)[:1])
    status(page, "Add one more photograph")
    page.reload()
    give(page, pictures(tmp_path))
    status(page, "Ready: press Fuse.")
    page.click("#make")
    status(page, "Done.")
    expect(page.locator("#first img").first).to_be_visible()
    assert page.locator("#first img").count() == 2  # before and after
    drag(page, page.locator("#first [role=slider], #first .handle, #first .outer").first)
    with page.expect_download() as download:
        page.click("#download")
    with Image.open(download.value.path()) as made:
        assert (made.format, made.size) == ("PNG", (48, 32))
        assert made.text["prompt"].startswith("[FUSION]")
    assert len(asked) > 10
    assert all(url.startswith((address, "data:", "blob:")) for url in asked)


def test_a_wrong_file_is_named(visit, tmp_path):
    page = visit()
    wrong = tmp_path / "letter.png"
    wrong.write_text("no picture")
    give(page, [wrong, *pictures(tmp_path)[:1]])
    status(page, "letter.png: not an image that can be read; give a PNG")


def test_two_users_at_once_and_one_who_cancels(visit, address, tmp_path):
    files = pictures(tmp_path, 160, 160)  # a new size, so long enough to be caught
    first, second, third = visit(), visit(), visit()
    for page in (first, second, third):
        give(page, files)
        status(page, "Ready")
    for page in (first, second, third):
        page.click("#make")
    third.click("#cancel")
    status(third, "Cancelled.")
    for page in (first, second):
        status(page, "Done.")
    first.close()
    counted = urllib.request.urlopen(f"{address}metrics").read().decode()
    assert 'ditfuse_fusions_total{outcome="cancelled"} 1.0' in counted


def test_a_taken_port_is_said(address, checkpoint):
    port = re.search(r":(\d+)/", address)[1]
    server = serve("--port", port, "--checkpoint", checkpoint)
    told, _ = server.communicate(timeout=PATIENCE)
    assert server.returncode == 2
    assert f"port {port} of 127.0.0.1 is taken, perhaps by another ditfuse serve; choose --port" in told
