"""The page at `/`, in a real browser: what it shows, to whom, at every width, in light and dark."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pycdc.config.runtime import HttpConfig
from pycdc.model.event import Partition
from pycdc.observability.progress import PartitionPlace, Progress, TableSnapshot
from pycdc.observability.server import StatusServer
from tests.contrast import COLORS, contrast

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

HOSTILE = 'public."<img src=x onerror=alert(1)>"'
TOKEN = "a-token-with-signs&=7/"


def capture() -> Progress:
    progress = Progress(state="streaming", events=500, slot_state="reserved", slot_retained=3 * 1024**2)
    progress.slot_safe, progress.slot_full_in = 1024**3, 7200.0
    progress.last_message = progress.last_delivery = time.monotonic()
    progress.tables |= {"public.orders": 400, HOSTILE: 100}
    table = TableSnapshot("public.orders", estimated=1000)
    table.read(250)
    progress.snapshot.append(table)
    return progress


@contextmanager
def opened(
    browser: Browser, progress: Progress, settings: HttpConfig | None = None, **context: object
) -> Iterator[Page]:
    """The page of a pipeline; the block fails where the page loads anything from elsewhere or reports an error."""
    with StatusServer(settings or HttpConfig(port=0), progress, "shop") as server:
        page = browser.new_page(**context)  # type: ignore[arg-type]
        asked: list[str] = []
        errors: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        url = server.url.replace("0.0.0.0", "127.0.0.1")
        page.goto(url)
        yield page
        page.close()
    assert not errors
    assert not [one for one in asked if not one.startswith(url)]


def rows(page: Page, section: str) -> list[list[str]]:
    return [one.locator("td").all_inner_texts() for one in page.locator(f"#{section} tbody tr").all()]


def test_it_shows_what_the_pipeline_does_as_it_goes_on(browser: Browser) -> None:
    progress = capture()
    with opened(browser, progress) as page:
        page.get_by_role("status").get_by_text("streaming", exact=True).wait_for()
        assert page.title() == "shop: streaming"
        assert page.locator("#slot dd").all_inner_texts() == ["reserved", "3.0 MB", "1.0 GB", "2 h 0 min"]
        assert rows(page, "snapshot") == [["public.orders", "250", ""]]
        assert page.locator("#snapshot progress").evaluate("bar => bar.value") == 0.25
        progress.events += 1000
        progress.tables["public.orders"] += 1000
        page.locator("#tables td", has_text="1,400").wait_for()
        page.locator("#charts .value", has_text=re.compile(r"^[1-9]\d*$")).first.wait_for()
        assert page.locator("#charts path.curve").first.get_attribute("d")
        progress.state = "retrying"
        page.get_by_role("status").get_by_text("retrying", exact=True).wait_for()


def test_names_of_strangers_are_text(browser: Browser) -> None:
    with opened(browser, capture()) as page:
        page.locator("#tables td", has_text=HOSTILE).wait_for()
        assert page.locator("img").count() == 0


def test_it_shows_an_apply_with_what_is_parked_and_its_conflicts(browser: Browser) -> None:
    progress = Progress(state="streaming")
    progress.last_delivery = time.monotonic()
    progress.partitions[Partition("stock.public.items", 0)] = PartitionPlace(100, 120, 90.0)
    progress.parked["UniqueViolation"] = 3
    progress.conflicts["public.items", "update_differs", "apply"] = 7
    with opened(browser, progress) as page:
        page.locator("#conflicts tbody tr").wait_for()
        assert rows(page, "partitions") == [["stock.public.items[0]", "100", "20", "1 min 30 s"]]
        assert rows(page, "parked") == [["UniqueViolation", "3"]]
        assert rows(page, "conflicts") == [["public.items", "update_differs", "apply", "7"]]
        assert not page.locator("#slot").is_visible()


def test_problems_are_named_with_their_remedy_and_go_away(browser: Browser) -> None:
    progress = capture()
    progress.halted["stock.items"] = "the table lacks the column price"
    with opened(browser, progress) as page:
        page.get_by_text("stock.items is not read: the table lacks the column price").wait_for()
        progress.halted.clear()
        page.locator("#problems").wait_for(state="hidden")
        progress.last_delivery -= 1000
        progress.last_message -= 1000
        page.get_by_role("status").get_by_text("streaming, not healthy").wait_for()


def test_a_pipeline_that_is_gone_is_no_longer_shown_as_running(browser: Browser) -> None:
    server = StatusServer(HttpConfig(port=0), capture(), "shop")
    page = browser.new_page()
    page.goto(server.url)
    page.get_by_role("status").get_by_text("streaming").wait_for()
    server.close()
    page.get_by_role("status").get_by_text("no answer").wait_for()
    page.get_by_text("last seen").wait_for()
    page.close()


def test_beyond_loopback_it_shows_nothing_without_the_token_and_takes_it_from_the_keyboard(browser: Browser) -> None:
    settings = HttpConfig.model_validate({"host": "0.0.0.0", "port": 0, "token": TOKEN})
    with opened(browser, capture(), settings) as page:
        page.get_by_label("token").wait_for()
        assert page.locator("#tables").is_hidden()
        page.keyboard.press("Tab")
        page.keyboard.type("wrong")
        page.keyboard.press("Enter")
        page.get_by_label("token").wait_for()
        page.get_by_label("token").fill(TOKEN)
        page.keyboard.press("Enter")
        page.get_by_role("status").get_by_text("streaming").wait_for()
        assert page.get_by_label("token").is_hidden()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_it_fits_and_can_be_read(browser: Browser, tmp_path: Path, width: int, scheme: str) -> None:
    """No sideways scrolling; the text's contrast with its ground is that of WCAG's level AA, 4.5 to 1."""
    with opened(browser, capture(), viewport={"width": width, "height": 900}, color_scheme=scheme) as page:
        page.locator("#tables tbody tr").first.wait_for()
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        for place in ("h1", ".state", "#tables td", "#tables th", "footer a", "#charts h2"):
            assert contrast(*page.locator(place).first.evaluate(COLORS)) >= 4.5, place
        page.screenshot(path=tmp_path / "page.png", full_page=True)
