from __future__ import annotations

import time

import pytest

from pycdc.model.event import Partition
from pycdc.observability.health import judge
from pycdc.observability.outages import Outages
from pycdc.observability.progress import PartitionPlace, Progress
from pycdc.observability.report import report


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_an_outage_is_one_line_at_its_beginning_one_a_minute_and_one_at_its_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "pycdc")
    clock = Clock()
    outages = Outages(clock)
    for _ in range(150):
        outages.begin("the brokers at kafka:9092", "Connection refused", "check that they are up", seconds=3)
        clock.now += 1
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 3
    told = caplog.records[0].__dict__
    assert (told["what"], told["reason"]) == ("the brokers at kafka:9092", "Connection refused")
    assert told["hint"]
    outages.end("the brokers at kafka:9092")
    outages.end("the brokers at kafka:9092")
    assert [record.levelname for record in caplog.records[3:]] == ["INFO"]
    assert caplog.records[3].__dict__["seconds"] == 153
    assert outages.lasting == []


def test_health_and_status_name_what_does_not_answer() -> None:
    now = time.monotonic()
    progress = Progress(state="streaming", last_message=now, last_delivery=now - 61)
    progress.outages.begin("the schema registry at http://r", "HTTP 503", "check that it runs", seconds=61)
    assert judge(progress, 60).reasons == (
        "the sink has made no progress for 61 s: the schema registry at http://r: HTTP 503",
    )
    (outage,) = report(progress)["outages"]
    assert (outage["what"], outage["hint"]) == ("the schema registry at http://r", "check that it runs")
    progress.outages.end("the schema registry at http://r")
    assert "outages" not in report(progress)


def test_a_registry_that_holds_the_reader_up_is_not_taken_for_silent_brokers() -> None:
    now = time.monotonic()
    progress = Progress(state="streaming", last_message=now - 100, last_delivery=now - 100)
    progress.outages.begin("the schema registry at http://r", "HTTP 503", "check that it runs", seconds=100)
    assert "server" not in judge(progress, 60).reasons[0]
    progress.outages.end("the schema registry at http://r")
    progress.outages.begin("the brokers at k", "nothing was heard", "check them", source=True, seconds=100)
    assert judge(progress, 60).reasons == ("no message from the server for 100 s: the brokers at k: nothing was heard",)


def test_a_start_that_waits_for_a_server_is_unhealthy_after_a_while() -> None:
    progress = Progress(state="starting")
    progress.outages.begin("the brokers at k", "nothing was heard", "check them", seconds=30)
    assert judge(progress, 60).healthy
    assert judge(progress, 20).reasons == ("has waited 30 s for the brokers at k: nothing was heard",)


def test_a_partition_that_had_caught_up_is_behind_from_when_nobody_knows_any_more() -> None:
    now = time.monotonic()
    progress = Progress(state="streaming")
    place = progress.partitions[Partition("items", 0)] = PartitionPlace(7, 7, 0.0, now)
    assert (progress.lag_seconds, progress.place_behind(place)) == (0.0, 0)
    progress.partitions[Partition("items", 0)] = place = PartitionPlace(7, 7, 0.0, now - 30)
    assert progress.lag_seconds == pytest.approx(30, abs=5)
    assert progress.place_behind(place) is None
    progress.partitions[Partition("items", 0)] = place = PartitionPlace(7, 9, 4.0, now - 30)
    assert progress.lag_seconds == pytest.approx(34, abs=5)
    assert progress.place_behind(place) == 2


def test_a_partition_is_not_caught_up_while_the_pipeline_tries_again() -> None:
    progress = Progress(state="retrying")
    place = progress.partitions[Partition("items", 0)] = PartitionPlace(7, 7, 0.0, time.monotonic() - 1)
    assert progress.lag_seconds == pytest.approx(1, abs=0.9)
    assert progress.place_behind(place) is None


def test_a_partition_is_not_caught_up_while_something_does_not_answer() -> None:
    progress = Progress(state="streaming")
    progress.partitions[Partition("items", 0)] = PartitionPlace(7, 7, 0.0, time.monotonic() - 1)
    progress.outages.begin("the schema registry at http://r", "HTTP 503", "check that it runs")
    assert progress.lag_seconds == pytest.approx(1, abs=0.9)
    progress.outages.end("the schema registry at http://r")
    assert progress.lag_seconds == 0
