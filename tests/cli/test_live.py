"""The live view, drawn from a scripted progress."""

from __future__ import annotations

import io
import logging

import pytest
from rich.console import Console

from pycdc.cli.live import picture
from pycdc.cli.progress_log import ProgressLog
from pycdc.model.change import NOWHERE, Lsn, Position
from pycdc.model.event import Partition
from pycdc.observability.progress import PartitionPlace, Progress, TableSnapshot
from tests.observability.lagging import Lagging


def drawn(progress: Progress, rate: float = 0.0, tables: int = 10) -> str:
    console = Console(file=io.StringIO(), width=100, height=40)
    console.print(picture(progress, "shop", "pycdc_shop", rate, url="http://127.0.0.1:9464", tables=tables))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_stream_is_shown_with_rate_lag_position_and_slot() -> None:
    progress = Progress(state="streaming", events=1234567, lag=Lagging(0.25, 2048))
    progress.position = Position(Lsn.parse("16/B374D848"))
    progress.tables = {"public.users": 34567, "public.orders": 1200000}
    progress.slot_state, progress.slot_retained = "reserved", 3 * 2**20
    text = drawn(progress, 12345.6)
    for part in (
        "shop streaming",
        "1,234,567   12,346/s",
        "250 ms   2.0 kB",
        "16/B374D848",
        "pycdc_shop   reserved, 3.0 MB held back",
        "http://127.0.0.1:9464/metrics",
    ):
        assert part in text
    assert text.index("public.orders") < text.index("public.users")


def test_the_last_error_is_shown_as_it_is() -> None:
    text = drawn(Progress(state="retrying", reconnects=3, last_error="the server [bold] went away"))
    assert "the server [bold] went away" in text
    assert "rewinds     3" in text


def test_tables_whose_rows_are_parked_are_shown() -> None:
    progress = Progress(state="streaming", refused={"public.users": "why"}, parked_rows={"public.users": 1234})
    assert "public.users: 1,234 rows, schema refused" in drawn(progress)
    progress.refused.clear()
    assert "public.users: 1,234 rows, taken again" in drawn(progress)


def test_a_snapshot_is_shown_by_table() -> None:
    progress = Progress(state="snapshot", position=Position(NOWHERE))
    progress.snapshot = [
        TableSnapshot("public.a", 10, 10, finished=True),
        TableSnapshot("public.b", 500, 1000),
        TableSnapshot("public.c", 2000, 1000),
        TableSnapshot("public.d", 0, 0),
    ]
    lines = {line.split()[1]: line for line in drawn(progress).splitlines() if "public." in line}
    assert "position  none stored yet" in drawn(progress)
    assert "done" in lines["public.a"]
    assert "1,000" in lines["public.b"]
    assert "?" in lines["public.d"]
    assert lines["public.c"].count("━") >= lines["public.b"].count("━")


def test_many_tables_are_cut_off_with_their_sum() -> None:
    progress = Progress(state="streaming", tables={f"public.t{n:02}": n for n in range(1, 21)})
    text = drawn(progress, tables=3)
    assert "public.t18" in text
    assert "public.t17" not in text
    assert "… 17 more" in text
    assert "153" in text


@pytest.fixture
def applying() -> Progress:
    progress = Progress(state="streaming", events=900, reverse_lag=2.0, transactions=12)
    progress.partitions = {Partition("items", n): PartitionPlace(7, 10, 2.0) for n in range(2)}
    progress.applied.update(
        {("public.items", "upsert"): 1400, ("public.items", "delete"): 3, ("public.log", "insert"): 9}
    )
    progress.applying.observe(0.02)
    progress.committing.observe(0.003)
    progress.parked["UniqueViolation"] = 2
    progress.conflicts["public.items", "newer", "kept"] = 5
    return progress


def test_the_way_back_is_shown_by_rows_and_partitions(applying: Progress) -> None:
    applying.halted["items"] = "schema 7 is not known"
    text = drawn(applying)
    assert "2 partitions, 6 records behind" in text
    assert "12   p50 18 ms, p99 25 ms, commit p50 4 ms" in text
    assert "2   UniqueViolation 2" in text
    assert "5   kept 5" in text
    assert "items: schema 7 is not known" in text
    assert ["public.items", "0", "1,400", "3"] in [line.strip("│ ").split() for line in text.splitlines()]
    assert "none stored yet" not in text


def test_the_way_back_is_logged_by_rows_and_partitions(applying: Progress, caplog: pytest.LogCaptureFixture) -> None:
    lines = ProgressLog(applying)
    applying.state = "stopping"
    with caplog.at_level(logging.INFO, logger="pycdc"):
        lines.update()
    (line,) = [record.__dict__ for record in caplog.records]
    error_report = {"lag_records": 6, "rows": 1412, "transactions": 12, "parked": 2, "conflicts": 5}
    assert {name: line[name] for name in error_report} == error_report
    assert "retries" not in line
    assert "slot_retained_bytes" not in line


def test_without_a_terminal_a_line_is_written_when_something_changes(caplog: pytest.LogCaptureFixture) -> None:
    clock = [0.0]
    progress = Progress(state="starting")
    lines = ProgressLog(progress, lambda: clock[0])
    with caplog.at_level(logging.INFO, logger="pycdc"):
        lines.update()
        progress.state = "streaming"
        lines.update()
        progress.events, progress.lag = 500, Lagging(0.0, 7)
        clock[0] = 9.0
        lines.update()
        clock[0] = 10.0
        lines.update()
        clock[0] = 60.0
        lines.update()
        clock[0] = 70.0
        lines.update()
    logs = [record.__dict__ for record in caplog.records]
    assert [line["state"] for line in logs] == ["streaming"] * 3
    assert [line["events"] for line in logs] == [0, 500, 500]
    assert logs[1]["per_second"] == 50
    assert "position" not in logs[1]
