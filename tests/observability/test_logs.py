from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from pycdc.observability.logger import get_logger
from pycdc.observability.logs import configure


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


@pytest.mark.parametrize("end", ["\n", "\r", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029"])
def test_nothing_that_any_reader_takes_for_a_line_end_is_written_as_it_is(
    capsys: pytest.CaptureFixture[str], end: str
) -> None:
    configure("text")
    get_logger().info("one", fact=f"two{end}level=error")
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (None, ""),
        (True, "true"),
        (1.5, "1.5"),
        ("0/16B3748", "0/16B3748"),
        ("a=b", '"a=b"'),
        ('say "no"', '"say \\"no\\""'),
        ('5"', '"5\\""'),
        ("C:\\data", '"C:\\\\data"'),
        ("Größe", "Größe"),
    ],
)
def test_values_of_text_lines_are_words_or_quoted(
    capsys: pytest.CaptureFixture[str], value: object, written: str
) -> None:
    configure("text")
    get_logger().info("one", value=value)
    assert capsys.readouterr().err.endswith(f"event=one value={written}\n")


def test_values_that_json_does_not_know_are_written_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    configure("json")
    get_logger().info("one", path=Path("a/b"), seconds=2)
    line = json.loads(capsys.readouterr().err)
    assert (line["path"], line["seconds"]) == (str(Path("a/b")), 2)


def test_a_record_names_the_place_that_logged_it(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="pycdc"):
        get_logger().info("here")
    assert caplog.records[0].filename == Path(__file__).name
