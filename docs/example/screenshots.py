"""Pictures of the example report: its first screen, wide and narrow, light and dark.

    python docs/example/screenshots.py

Needs Playwright and a Chromium (CHROMIUM names another one than /usr/bin/chromium).
"""

from __future__ import annotations

import os
from pathlib import Path

from playwright.sync_api import sync_playwright

HERE = Path(__file__).resolve().parent
SIZES = {"wide": (1600, 1480), "narrow": (400, 1700)}


def main() -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=os.environ.get("CHROMIUM", "/usr/bin/chromium"),
            args=["--headless", "--no-sandbox", "--disable-gpu"],
        )
        for name, (width, height) in SIZES.items():
            for theme in ("light", "dark"):
                page = browser.new_page(
                    viewport={"width": width, "height": height},
                    color_scheme=theme,  # type: ignore[arg-type]
                )
                page.goto((HERE / "report.html").as_uri())
                page.wait_for_timeout(500)
                page.screenshot(path=HERE / f"{name}-{theme}.png")
        browser.close()


if __name__ == "__main__":
    main()
