"""The pictures of a verification's report in docs/verify.md, taken by a headless Chromium.

python -m scripts.docs.report_screenshots
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Literal

from playwright.sync_api import sync_playwright

from pycdc.operations.verify.reports.html_report import html
from pycdc.operations.verify.result import Difference, DifferenceKind, PointInTime, TableResult, Verification

FOLDER = Path(__file__).parents[2] / "docs" / "verify-report"
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
WIDTH, HEIGHT = 1000, 900
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")


def example() -> Verification:
    """Return what a shop's pipeline may have found."""
    offsets = {"shop.public.items[0]": 401_907, "shop.public.stock[0]": 88_411}
    items = TableResult(
        "public.items",
        ("public.items",),
        key=("id",),
        columns=("id", "name", "price"),
        not_compared={"views": "this side owns it"},
        source_rows=401_218,
        target_rows=401_217,
        in_flight=312,
        ranges=4,
        differing_ranges=2,
        differences=[
            Difference("public.items", DifferenceKind.CHANGED, {"id": "1001"}, ("price",)),
            Difference(
                "public.items",
                DifferenceKind.MISSING,
                {"id": "20417"},
                explanation="parked record shop.public.items[0] offset 377120",
            ),
        ],
        differing=Counter({DifferenceKind.CHANGED: 1, DifferenceKind.MISSING: 1}),
        seconds=1.4,
    )
    stock = TableResult(
        "public.stock",
        ("public.stock",),
        key=("place", "item"),
        columns=("place", "item", "amount"),
        source_rows=88_004,
        target_rows=88_004,
        in_flight=97,
        ranges=1,
        seconds=0.4,
    )
    return Verification(
        "shop-apply",
        ("apply.yaml",),
        "2026-11-30T10:00:00+00:00",
        "shop (7312450917)",
        "inventory (7312450988)",
        "hashtext",
        "9f0c1d6a52b7e833",
        2.1,
        points=[PointInTime("0/5A3C1B8", offsets, offsets, offsets, 0.11, 0.08)],
        tables=[items, stock],
    )


def main() -> None:
    program = next(filter(None, map(shutil.which, PROGRAMS)))
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        report = Path(folder) / "report.html"
        report.write_text(html(example()), encoding="utf-8")
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        for scheme in SCHEMES:
            page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme=scheme)
            page.goto(report.as_uri())
            page.screenshot(path=FOLDER / f"report-{scheme}.png", full_page=True)
        browser.close()


if __name__ == "__main__":
    main()
