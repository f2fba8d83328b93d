"""What `pycdc status` and doctor show of a pipeline that writes into tables, from what the servers told."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from pycdc.cli.apply_status import show
from pycdc.config.pipeline import ApplyPipeline
from pycdc.model.event import Partition
from pycdc.operations.apply_status import ApplyState, PartitionState, as_dict
from pycdc.operations.doctor.partitions import place_findings
from pycdc.sinks.postgres.bookkeeping.inspection import PipelineState, StoredOffset

CONFIG = ApplyPipeline.model_validate(
    {
        "name": "back",
        "source": {"kafka": {"brokers": "b", "topics": ["items", "kept"]}},
        "sink": {"postgres": {"dsn": "dbname=x", "routes": [{"topic": "*", "table": "items"}]}},
    }
)


def found(**left_out: dict[str, int]) -> ApplyState:
    now = datetime.now(UTC)
    offsets = [
        StoredOffset(Partition(topic, number), 10, 1, now, left_out=reasons)
        for topic, reasons in left_out.items()
        for number in range(2)
    ]
    places = [PartitionState(one.partition, one, None, None) for one in offsets]
    return ApplyState(PipelineState(tuple(offsets), {}, 0, 0), places)


def test_events_that_no_route_wrote_are_told_by_topic_and_reason(capsys: pytest.CaptureFixture[str]) -> None:
    error_report = found(items={"when": 6000, "ops": 2}, kept={})
    assert as_dict(CONFIG, error_report)["left_out"] == {"items": {"ops": 4, "when": 12000}}
    show(CONFIG, error_report)
    assert "left out         items: 12,004 events (ops 4, when 12,000)\n" in capsys.readouterr().out
    (finding,) = [one for one in place_findings(error_report) if "no route wrote" in one.title]
    assert (finding.title, finding.detail) == ("items: events that no route wrote, so far", "ops 4, when 12000")


def test_where_all_was_written_nothing_is_said_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    show(CONFIG, found(items={}))
    assert "left out" not in capsys.readouterr().out
    assert not [one for one in place_findings(found(items={})) if "no route wrote" in one.title]
