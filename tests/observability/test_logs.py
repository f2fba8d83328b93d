from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest

from pycdc.observability.logger import get_logger
from pycdc.observability.logs import configure


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def test_text_lines_are_key_value(capsys: pytest.CaptureFixture[str]) -> None:
    configure("text")
    get_logger().info("read a table", table="public.users", rows=3, names=["a", "b"])
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("timestamp=")
    assert captured.err.endswith('level=info event="read a table" table=public.users rows=3 names="a, b"\n')


def test_json_lines_are_json(capsys: pytest.CaptureFixture[str]) -> None:
    configure("json")
    get_logger().warning("rewinding", fact="über\nzwei Zeilen")
    line = json.loads(capsys.readouterr().err)
    assert (line["event"], line["level"], line["fact"]) == ("rewinding", "warning", "über\nzwei Zeilen")


def test_lines_of_other_libraries_look_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    configure("json")
    logging.getLogger("pycdc.sinks.kafka").warning("broker %s is away", "b:9092")
    assert json.loads(capsys.readouterr().err)["event"] == "broker b:9092 is away"


def test_a_line_stays_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure("text")
    get_logger().info("two\nlines", fact="a\nlevel=error event=forged")
    assert capsys.readouterr().err.count("\n") == 1


def test_what_is_below_the_level_is_not_written(capsys: pytest.CaptureFixture[str]) -> None:
    configure("text", logging.WARNING)
    get_logger().info("quiet")
    logging.getLogger("httpx").info("quiet too")
    assert capsys.readouterr().err == ""


def test_tracebacks_do_not_show_local_variables(capsys: pytest.CaptureFixture[str]) -> None:
    configure("json")
    canary = "hunter2canary"[::-1]
    try:
        raise ValueError(f"{len(canary)} characters")
    except ValueError:
        get_logger().exception("failed")
    written = capsys.readouterr().err
    assert "13 characters" in written
    assert canary not in written


def test_a_program_that_embeds_pycdc_gets_ordinary_log_records(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="pycdc"):
        get_logger().info("100 % read", table="public.users", rows=3)
    (record,) = caplog.records
    assert record.name == "pycdc"
    assert record.getMessage() == "100 % read table=public.users rows=3"
    assert record.__dict__["rows"] == 3
