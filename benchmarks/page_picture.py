# SPDX-License-Identifier: Apache-2.0
"""The README's picture of the page: python benchmarks/page_picture.py docs/page.jpg

Starts `ditfuse serve`, lets Chromium fuse the focus example on a desk's screen and on a phone's, and puts
the two screenshots side by side. Needs the extras app and test, and Chromium.
"""

import argparse
import io
import shutil
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import expect, sync_playwright
from serve_load import start

SCREENS = ({"width": 1200, "height": 900}, {"width": 414, "height": 900})
GAP = 20  # pixels
PATIENCE = 120_000  # milliseconds


def screenshot(browser, address: str, screen: dict, tab: str) -> np.ndarray:
    page = browser.new_page(viewport=screen)
    page.set_default_timeout(PATIENCE)
    expect.set_options(timeout=PATIENCE)
    page.goto(address)
    page.click(".example >> nth=0")
    expect(page.locator("#status")).to_contain_text("Ready")
    page.click("#make")
    expect(page.locator("#status")).to_contain_text("Done")
    page.get_by_role("tab", name=tab).first.click()
    page.locator("[role=tablist]").first.scroll_into_view_if_needed()
    page.wait_for_timeout(1500)  # pictures fade in
    content = page.screenshot()
    page.close()
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    server, address = start(None)
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox"]
            )
            desk = screenshot(browser, address, SCREENS[0], "Picture 1")
            phone = screenshot(browser, address, SCREENS[1], "Picture 2")
            browser.close()
    finally:
        server.terminate()
        server.wait(60)
    gap = np.full((desk.shape[0], GAP, 3), 255, np.uint8)
    Image.fromarray(np.concatenate([desk, gap, phone], axis=1)).save(out, quality=88)


if __name__ == "__main__":
    sys.exit(main())
