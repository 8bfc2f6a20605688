"""Makes the pictures of the page in the folder given: `run.sh --pictures`."""

import io
import os
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from server import Server


def save(page, path):
    """A screenshot in 128 colours: sharp letters, a third of the size."""
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    picture.quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)
    print(path, f"{path.stat().st_size // 1024} KiB")


def main(folder):
    folder.mkdir(parents=True, exist_ok=True)
    server = Server()
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=os.environ["CHROMIUM"], args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1280, "height": 1060})
            page.set_default_timeout(400_000)
            page.goto(server.url)
            page.click("text=Try an example")
            page.click("summary:has-text('More')")
            page.fill("#new-hosts", "2")
            page.click("button:text-is('Encode')")
            page.wait_for_selector(".head:has-text('encoded in')")
            page.click("button:text-is('Ask')")
            page.wait_for_selector(".turn .sources")
            page.mouse.move(0, 0)
            page.wait_for_timeout(500)
            save(page, folder / "page.png")

            page.click("text=Compare settings")
            page.uncheck("#together")
            page.click("text=Ask all")
            page.wait_for_selector("button:text-is('Ask all')")
            page.evaluate("document.activeElement.blur()")
            page.mouse.move(0, 0)
            page.wait_for_timeout(500)
            save(page, folder / "page-compare.png")
            browser.close()
    finally:
        server.stop()


main(Path(sys.argv[1]))
