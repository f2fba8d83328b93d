"""The pictures of the migration's page in docs/migration.md, taken by a headless Chromium.

python -m scripts.docs.migration_screenshots
"""

from __future__ import annotations

import shutil
from pathlib import Path

from playwright.sync_api import Page, sync_playwright
from scripts.docs.migration_example import ExampleMigration
from scripts.docs.report_screenshots import PROGRAMS, SCHEMES

from pycdc.config.runtime import HttpConfig
from pycdc.observability.progress import Progress
from pycdc.observability.server import StatusServer

FOLDER = Path(__file__).parents[2] / "docs" / "migration-page"
WIDTH, HEIGHT = 1280, 900
SECONDS = 125
WORD = "example"
"""The token."""


def shown(page: Page, url: str) -> None:
    """Open the page and let two minutes pass for it."""
    page.clock.install()
    page.goto(f"{url}/migration")
    page.get_by_label("token").fill(WORD)
    page.keyboard.press("Enter")
    for _ in range(SECONDS):
        with page.expect_response("**/migration.json"):
            page.clock.run_for(1000)
    page.locator(".gates li").first.wait_for()
    page.evaluate("document.activeElement.blur()")


def main() -> None:
    program = next(filter(None, map(shutil.which, PROGRAMS)))
    FOLDER.mkdir(exist_ok=True)
    settings = HttpConfig.model_validate({"port": 0, "token": WORD})
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        for scheme in SCHEMES:
            with StatusServer(settings, Progress(), "to-inventory", ExampleMigration()) as server:
                page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme=scheme)
                shown(page, server.url)
                page.screenshot(path=FOLDER / f"migration-{scheme}.png", full_page=True)
                page.close()
        browser.close()


if __name__ == "__main__":
    main()
