"""An outage is told, and counted; it does not fill the disk."""

from __future__ import annotations

import json
import logging
import subprocess
import sys

import pytest

from pycdc.observability import logs
from pycdc.observability.repeated_lines import REPEATED, RepeatedLines


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def record(text: str, level: int = logging.ERROR) -> logging.LogRecord:
    return logging.LogRecord("pycdc.librdkafka", level, "", 0, text, None, None)


def test_lines_alike_but_for_numbers_are_held_back_and_counted() -> None:
    clock = Clock()
    repeats = RepeatedLines(clock)
    passed = [repeats.filter(record(f"10.0.0.{n}:9092: connection refused after {n} ms")) for n in range(1000)]
    assert sum(passed) == 5
    assert repeats.overdue() == []
    clock.now = 61
    again = record("10.0.0.1:9092: connection refused after 3 ms")
    assert repeats.filter(again)
    assert getattr(again, REPEATED) == 995
    assert not repeats.filter(record("10.0.0.1:9092: connection refused after 3 ms"))


def test_what_does_not_come_again_is_told_by_the_next_line_and_at_the_end() -> None:
    clock = Clock()
    repeats = RepeatedLines(clock)
    for _ in range(7):
        repeats.filter(record("the one"))
    clock.now = 61
    assert [getattr(one, REPEATED) for one in repeats.overdue()] == [2]
    for _ in range(8):
        repeats.filter(record("the other"))
    assert [(one.getMessage(), getattr(one, REPEATED)) for one in repeats.rest()] == [("the other", 3)]
    assert repeats.rest() == []


def test_other_texts_and_what_is_no_warning_pass() -> None:
    repeats = RepeatedLines(Clock())
    assert all(repeats.filter(record("progress", logging.INFO)) for _ in range(100))
    assert all(repeats.filter(record(f"table {chr(n)} is refused")) for n in range(ord("a"), ord("z")))


def test_memory_is_bounded_whatever_is_logged() -> None:
    repeats = RepeatedLines(Clock())
    for n in range(5000):
        repeats.filter(record("x" * n))
    assert len(repeats._kinds) <= 1000


def test_the_count_is_a_field_of_the_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json")
    for _ in range(9):
        logging.getLogger("pycdc").error("the broker is away")
    logging.getLogger().handlers[0].close()
    written = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line.get("repeated") for line in written] == [None] * 5 + [4]


def test_in_json_whatever_python_says_of_errors_is_json() -> None:
    program = """
import threading, warnings
from pycdc.observability import logs
logs.configure("json")
warnings.warn("old", DeprecationWarning)
warnings.warn("odd")
thread = threading.Thread(target=lambda: 1 / 0)
thread.start(); thread.join()
class Bad:
    def __del__(self): raise ValueError("hunter2canary")
Bad()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line.get("error") for line in lines][-2:] == ["ZeroDivisionError", "ValueError"]
    assert "odd" in done.stderr
    assert "hunter2canary" not in done.stderr
