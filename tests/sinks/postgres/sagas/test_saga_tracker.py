"""The tracker on a database: processes of one pipeline at the same saga, and what its configuration refuses."""

from __future__ import annotations

import threading
from typing import Any

import psycopg
import pytest

from pycdc.config.postgres_sink import PostgresSinkConfig
from pycdc.model.event import Event, Partition
from pycdc.sinks.postgres.bookkeeping.apply_offsets import ApplyOffsets
from pycdc.sinks.postgres.sagas.saga_tracker import SagaTracker
from tests.reading import wait_for

SAGA = {"topics": ["order*"], "start": "Placed", "success": "Confirmed"}
WAITS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


def event(kind: str, offset: int = 0, topic: str = "orders") -> Event:
    headers = (("correlation_id", b"s-1"), ("type", kind.encode()))
    return Event(Partition(topic, 0), offset, 1_796_036_400_000 + offset, headers=headers)


def settings(dsn: str = "postgresql://x", **options: Any) -> PostgresSinkConfig:
    return PostgresSinkConfig.model_validate({"dsn": dsn, "sagas": {"order": {**SAGA, **options}}})


@pytest.mark.pg("newest")
def test_two_processes_that_bring_events_of_one_saga_see_what_the_other_one_brought(database: str) -> None:
    config = settings(database)
    with (
        psycopg.connect(database) as first,
        psycopg.connect(database) as second,
        psycopg.connect(database, autocommit=True) as looking,
    ):
        ApplyOffsets.of(config, "back").ensure_tables(first)
        SagaTracker(config, "back").track(first, [event("Placed")])
        other = threading.Thread(
            target=SagaTracker(config, "back").track,
            args=(second, [event("Confirmed", topic="orders2"), event("Strange"), event("Confirmed", topic="x")]),
        )
        other.start()
        wait_for(lambda: looking.execute(WAITS).fetchone() == (1,))
        first.commit()
        other.join()
        second.commit()
        assert looking.execute("SELECT id, state FROM pycdc.sagas").fetchall() == [("s-1", "succeeded")]
        totals = looking.execute("SELECT state, count FROM pycdc.saga_totals ORDER BY 1").fetchall()
        assert totals == [("running", 0), ("succeeded", 1)]


@pytest.mark.parametrize(
    ("options", "fact"),
    [
        ({"success": "Placed"}, "one type of event in two places"),
        ({"compensations": {"Paid": "Refunded"}}, "undoes Paid, which is none of its steps"),
        ({"on_timeout": {"message": "o", "aggregatetype": "a", "type": "t"}}, "on_timeout without a time limit"),
        ({"time_limit": 1, "on_timeout": {"aggregatetype": "a", "type": "t"}}, "exactly one of message, table"),
    ],
)
def test_a_saga_that_cannot_be_followed_is_refused(options: dict[str, Any], fact: str) -> None:
    with pytest.raises(ValueError, match=fact):
        settings(**options)


def test_a_sink_has_routes_or_sagas() -> None:
    with pytest.raises(ValueError, match="neither routes nor sagas"):
        PostgresSinkConfig.model_validate({"dsn": "postgresql://x"})
