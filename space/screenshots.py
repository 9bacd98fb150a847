"""The pictures of docs/space.md: `python space/screenshots.py` (make screenshots).

It needs Chromium; CHROMIUM names the program where it is not /usr/bin/chromium.
"""

import os
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

IMAGES = Path(__file__).parents[1] / "docs" / "images"
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
SIZE = {"width": 1280, "height": 900}
MINUTES = 5 * 60_000  # milliseconds that a picture may take


def take(page: Page, name: str, height: int) -> None:
    """Write a picture of the page, of at most some height."""
    box = page.locator("body").bounding_box() or {"height": height}
    page.set_viewport_size({**SIZE, "height": min(height, int(box["height"]))})
    page.mouse.move(0, 0)
    page.wait_for_timeout(500)
    picture = Image.open(BytesIO(page.screenshot()))
    picture.save(IMAGES / f"space_{name}.webp", quality=80, method=6)
    page.set_viewport_size(SIZE)


def main() -> None:
    """Take a picture of every tab."""
    from interface import start

    address = start(prevent_thread_lock=True, quiet=True)
    with sync_playwright() as tool:
        browser = tool.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport=SIZE)
        page.set_default_timeout(MINUTES)
        page.goto(address)
        page.locator("#rows .task-row").first.wait_for()
        page.locator("#answer textarea").fill("h k d p 3")
        page.get_by_role("button", name="Judge").click()
        page.locator(".verdict").wait_for()
        take(page, "tasks", 1100)

        page.get_by_role("tab", name="Statistics").click()
        page.locator("#plots img").last.wait_for()
        take(page, "statistics", 1000)

        page.get_by_role("tab", name="Results").click()
        page.locator("#report img").last.wait_for()
        take(page, "results", 1300)
        browser.close()


if __name__ == "__main__":
    main()
