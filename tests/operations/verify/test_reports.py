"""Reports: what they hold, what they hide, and that they can be read again."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from pycdc.errors import ConfigError
from pycdc.operations.verify.reports.html_report import html
from pycdc.operations.verify.reports.json_report import SCHEMA, document, read
from pycdc.operations.verify.reports.junit_report import junit
from pycdc.operations.verify.reports.report_folder import write_reports
from pycdc.operations.verify.result import (
    ComparisonMethod,
    Difference,
    DifferenceKind,
    PointInTime,
    TableResult,
    Verification,
)
from tests.json_schema import problems


def verification() -> Verification:
    differences = [
        Difference("public.items", DifferenceKind.MISSING, {"id": "1"}),
        Difference(
            "public.items", DifferenceKind.CHANGED, {"id": "<b>2"}, ("name",), True, {"name": "secret"}, {"name": None}
        ),
        Difference("public.items", DifferenceKind.EXTRA, {"id": "3"}, explanation="parked record items[0] offset 7"),
    ]
    items = TableResult(
        "public.items",
        ("public.items",),
        key=("id",),
        key_fields=("id",),
        columns=("id", "name"),
        not_compared={"total": "the server generates it"},
        source_rows=10,
        target_rows=10,
        in_flight=2,
        ranges=1,
        differing_ranges=1,
        differences=differences,
        differing=Counter({DifferenceKind.MISSING: 1, DifferenceKind.CHANGED: 1, DifferenceKind.EXTRA: 7}),
        notes=["a note"],
        seconds=0.25,
    )
    stock = TableResult(
        "public.stock", ("public.stock",), ComparisonMethod.ROUTED, "function f makes the rows", ("id",), (), ("id",)
    )
    return Verification(
        "shop-apply",
        ("apply.yaml",),
        "2026-11-30T10:00:00+00:00",
        "shop (1/2)",
        "store (1/3)",
        "hashtext",
        "0123456789abcdef",
        1.5,
        points=[PointInTime("0/16B3748", {"items[0]": 1}, {"items[0]": 2}, {"items[0]": 3}, 0.1, 0.2)],
        tables=[items, stock],
    )


def test_the_document_is_as_its_schema_says() -> None:
    schema = json.loads(SCHEMA.read_text())
    found = document(verification())
    assert problems(found, schema) == []
    assert problems({**found, "equal": "no", "more": 1}, schema) == ["$.equal: str", "$: more is not known"]
    del found["tables"][0]["key"]
    assert problems(found, schema) == ["$.tables[0]: no key"]


def test_a_report_is_read_as_it_was_written(tmp_path: Path) -> None:
    paths = write_reports(verification(), tmp_path / "new")
    assert [path.name for path in paths] == ["report.json", "report.html", "junit.xml"]
    assert read(tmp_path / "new") == read(paths[0]) == verification()


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"version": 7}', "null"])
def test_what_is_no_report_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "report.json"
    path.write_text(text)
    with pytest.raises(ConfigError):
        read(path)


def test_a_report_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read(tmp_path / "nowhere")


def test_junit_has_a_case_for_each_table_and_no_values() -> None:
    suite = ElementTree.fromstring(junit(verification()))
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
    failure = suite.find("testcase[@name='public.items']/failure")
    assert failure is not None
    assert failure.get("message") == "1 changed, 7 extra, 1 missing"
    assert failure.text is not None
    assert "secret" not in failure.text
    assert suite.find("testcase[@name='public.stock']/failure") is None
    assert suite.findtext("testcase[@name='public.items']/system-out") == (
        "a note\ntotal not compared: the server generates it"
    )


def test_junit_can_be_read_whatever_tables_are_called() -> None:
    found = verification()
    found.tables = [replace(found.tables[1], table="public.\x01<\ufffe")]
    (case,) = ElementTree.fromstring(junit(found)).iter("testcase")
    assert case.get("name") == r"public.\u0001<\ufffe"


def test_the_page_stands_alone_and_escapes_what_it_shows() -> None:
    page = html(verification())
    assert "&lt;b&gt;2" in page
    assert "<b>2" not in page
    assert "and 6 more" in page
    assert "parked record items[0] offset 7" in page
    assert "prefers-color-scheme: dark" in page
    for outside in ("http://", "https://", "<script", "<link", "<img"):
        assert outside not in page


def test_a_table_that_was_not_compared_is_an_error_in_every_report(tmp_path: Path) -> None:
    found = verification()
    stock = replace(found.tables[1], problem="permission denied")
    found = replace(found, tables=[stock], left_out={"public.more": "no route takes it"})
    assert (found.equal, found.differs) == (False, False)
    suite = ElementTree.fromstring(junit(found))
    assert (suite.get("errors"), suite.get("failures")) == ("1", "0")
    error = suite.find("testcase[@name='public.stock']/error")
    assert error is not None
    assert error.get("message") == "permission denied"
    assert suite.findtext("system-out") == "public.more left out: no route takes it"
    for text in ("1 tables not compared", "permission denied", "left out: public.more", "no route takes it"):
        assert text in html(found)
    assert "equal" not in html(found)
    write_reports(found, tmp_path)
    assert read(tmp_path) == found


def test_a_page_of_two_passes_says_that_it_is_not_exact() -> None:
    found = verification()
    assert "not exact" not in html(found)
    found.exact = False
    assert "not exact" in html(found)
