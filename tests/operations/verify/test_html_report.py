"""The HTML report in a real browser: it stands alone, fits, can be read, and what it shows of strangers is text."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pycdc.operations.verify.reports.html_report import html
from pycdc.operations.verify.result import Difference, DifferenceKind, TableResult
from tests.contrast import COLORS, contrast
from tests.operations.verify.test_reports import verification

if TYPE_CHECKING:
    from playwright.sync_api import Browser

HOSTILE = 'x"><img src=http://127.0.0.1:9/ onerror=alert(1)><script>alert(2)</script>\u202e\n' + "w" * 300
PLACES = ("h1", "h2", "dt", "dd", "th", "td", "code", ".bad", ".good", ".quiet")


def hostile() -> str:
    texts = {HOSTILE: HOSTILE}
    differences = [Difference(HOSTILE, DifferenceKind.CHANGED, texts, (HOSTILE,), True, texts, texts, HOSTILE)]
    table = TableResult(
        HOSTILE,
        (HOSTILE,),
        why_routed=HOSTILE,
        key=(HOSTILE,),
        columns=(HOSTILE,),
        not_compared=texts,
        differences=differences,
        differing=Counter({DifferenceKind.CHANGED: 1}),
        notes=[HOSTILE],
        problem=HOSTILE,
    )
    found = verification()
    return html(replace(found, pipeline=HOSTILE, source=HOSTILE, left_out=texts, tables=[table, *found.tables]))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_it_fits_can_be_read_and_runs_nothing_of_what_strangers_named(
    browser: Browser, tmp_path: Path, width: int, scheme: str
) -> None:
    """No sideways scrolling; the text's contrast with its ground is that of WCAG's level AA, 4.5 to 1."""
    path = tmp_path / "report.html"
    path.write_text(hostile())
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("dialog", lambda dialog: asked.append(dialog.message))
    page.goto(path.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert page.locator("script, img, link, iframe").count() == 0
    assert "onerror=alert(1)" in page.locator("h1").inner_text()
    for place in PLACES:
        for one in page.locator(place).all():
            assert contrast(*one.evaluate(COLORS)) >= 4.5, place
    page.screenshot(path=tmp_path / "page.png", full_page=True)
    page.close()
    assert asked == [path.as_uri()]
