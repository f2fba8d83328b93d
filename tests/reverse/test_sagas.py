"""Sagas, followed by their events: killed at every point, against a model that shares nothing with the tracker."""

from __future__ import annotations

import json
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner
from confluent_kafka import Producer

from pycdc.cli import main
from tests.faults.process import SAGA_POINTS
from tests.reverse.conftest import Rig
from tests.running import Running, TopicReader

pytestmark = pytest.mark.pg("newest")

LIMIT = 600
LONG_AGO = 3600
OUTCOMES: dict[str, tuple[str, tuple[str, ...]]] = {
    "succeeded": ("succeeded", ("Placed", "Reserved", "Paid", "Confirmed")),
    "compensated": ("compensated", ("Placed", "Reserved", "Paid", "Refused", "Refunded", "Released")),
    "compensated early": ("compensated", ("Placed", "Refused")),
    "inconsistent": ("inconsistent", ("Placed", "Reserved", "Released", "Confirmed")),
    "running": ("running", ("Placed", "Reserved")),
    "late": ("running", ("Placed",)),
    "late, compensating": ("compensating", ("Placed", "Reserved", "Paid", "Released")),
}
"""The state that a saga must end in, and its events."""


@dataclass
class Told:
    """What was sent, and what must be known of it in the end."""

    states: dict[str, str] = field(default_factory=dict)
    late: set[str] = field(default_factory=set)
    events: int = 0


class Shop:
    """Sends the events of sagas to two topics of two partitions: in no order, and some of them twice."""

    def __init__(self, rig: Rig) -> None:
        self.topics = [f"{rig.name}.order", f"{rig.name}.payment"]
        for topic in self.topics:
            rig.kafka.create_topic(topic, partitions=2)
        self._producer = Producer({"bootstrap.servers": rig.kafka.bootstrap, "linger.ms": 5})
        self._random = random.Random(rig.name)
        self.told = Told()

    def send(self, outcomes: dict[str, int]) -> None:
        """Send sagas of each outcome, so many."""
        events = []
        for outcome, count in outcomes.items():
            for _ in range(count):
                number = f"saga-{len(self.told.states)}"
                state, kinds = OUTCOMES[outcome]
                self.told.states[number] = state
                if outcome.startswith("late"):
                    self.told.late.add(number)
                events += [(number, kind, outcome.startswith("late")) for kind in kinds]
        events += self._random.sample(events, len(events) // 5)
        self._random.shuffle(events)
        for number, kind, late in events:
            self.event(number, kind, LONG_AGO if late else 0)
        self.flush()

    def event(self, number: str, kind: str, ago: int = 0) -> None:
        headers = {"id": f"{number}/{kind}", "type": kind, "correlation_id": number}
        where = {"topic": self._random.choice(self.topics), "partition": self._random.randrange(2)}
        at = int((time.time() - ago) * 1000)
        self._producer.produce(**where, key=number, value=b"{}", headers=headers, timestamp=at)
        self.told.events += 1

    def flush(self) -> None:
        assert self._producer.flush(20) == 0

    def saga(self, **options: Any) -> dict[str, Any]:
        return {
            "topics": self.topics,
            "start": "Placed",
            "steps": ["Reserved", "Paid"],
            "success": "Confirmed",
            "failure": ["Refused"],
            "compensations": {"Reserved": "Released", "Paid": "Refunded"},
            "time_limit": LIMIT,
            "on_timeout": {"message": "outbox", "aggregatetype": "order", "type": "CancelOrder"},
            **options,
        }


def document(rig: Rig, shop: Shop, **options: Any) -> dict[str, Any]:
    source = {"topics": shop.topics, "max_batch_events": 25, "options": {"group.instance.id": "one"}}
    sink = {"routes": [], "sagas": {"order": shop.saga(**options)}}
    return rig.document(source=source, sink=sink)


@pytest.fixture
def shop(rig: Rig) -> Shop:
    return Shop(rig)


def commands(dsn: str, slot: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The logical messages of a slot, read from pgoutput's bytes: prefix and content."""
    options = "'proto_version', '1', 'publication_names', 'none', 'messages', 'true'"
    query = f"SELECT data FROM pg_logical_slot_peek_binary_changes('{slot}', NULL, NULL, {options})"
    with psycopg.connect(dsn) as connection:
        for (data,) in connection.execute(query.encode()).fetchall():
            if data[:1] == b"M":
                prefix, _, rest = bytes(data[10:]).partition(b"\0")
                yield prefix.decode(), json.loads(rest[4:])


def look_again(pipeline: Running) -> None:
    """Until time limits were looked at twice more: what was sent once must not be sent again."""
    progress = pipeline.pipeline.progress
    first = progress.sagas
    pipeline.until(lambda: progress.sagas is not first)
    second = progress.sagas
    pipeline.until(lambda: progress.sagas is not second)


def test_no_saga_is_lost_or_counted_twice_wherever_the_process_is_killed(rig: Rig, shop: Shop) -> None:
    rig.sql("SELECT pg_create_logical_replication_slot('oracle', 'pgoutput')")
    rig.sql("CREATE PUBLICATION none")
    config = document(rig, shop)
    for point in SAGA_POINTS:
        shop.send(dict.fromkeys(OUTCOMES, 2))
        victim = rig.start(config, point, "1")
        assert victim.wait() == -signal.SIGKILL, victim.log
    with Running(config) as heir:
        heir.until(lambda: rig.offsets() == shop.told.events)
        late = "SELECT count(*) FROM pycdc.sagas WHERE timed_out_at IS NOT NULL"
        heir.until(lambda: rig.sql(late) == [(len(shop.told.late),)])
        look_again(heir)
    told = shop.told
    assert dict(rig.sql("SELECT id, state FROM pycdc.sagas")) == told.states
    totals = dict(rig.sql("SELECT state, count FROM pycdc.saga_totals WHERE count <> 0"))
    assert totals == {**Counter(told.states.values()), "timed_out": len(told.late)}
    sent = [content for prefix, content in commands(rig.dsn, "oracle") if prefix == "outbox"]
    assert sorted(command["aggregateid"] for command in sent) == sorted(told.late)
    assert len({command["id"] for command in sent}) == len(sent)
    assert {command["type"] for command in sent} == {"CancelOrder"}


def test_a_time_limit_sends_a_command_through_the_capture_and_the_saga_ends_well_or_not(rig: Rig, shop: Shop) -> None:
    topic = f"{rig.name}.command"
    capture = {
        "name": f"{rig.name}-out",
        "source": {"postgres": {"dsn": rig.dsn, "tables": ["public.items"]}},
        "sink": {"kafka": {"brokers": rig.kafka.bootstrap, "format": "json"}},
        "outbox": {"messages": "outbox", "topic": f"{rig.name}.{{route}}"},
        "checkpoint": {"interval": 0.1},
        "http": {"enabled": False},
    }
    reader = TopicReader(rig.kafka.bootstrap)
    command = {"message": "outbox", "aggregatetype": "command", "type": "CancelOrder"}
    with Running(capture) as out, Running(document(rig, shop, on_timeout=command)) as tracker:
        out.until_streaming()
        shop.send({"late": 1, "succeeded": 3})
        out.until(lambda: reader.messages(topic))
        shop.event("saga-0", "Refused")
        shop.flush()
        tracker.until(lambda: tracker.pipeline.progress.sagas.get(("order", "compensated")))
    (sent,) = reader.messages(topic)
    reader.close()
    assert (sent.key(), dict(sent.headers())["type"]) == (b'"saga-0"', b"CancelOrder")
    assert json.loads(json.loads(sent.value()))["seen"] == ["Placed"]
    progress = tracker.pipeline.progress
    assert progress.sagas == {
        ("order", "running"): 0,
        ("order", "succeeded"): 3,
        ("order", "compensated"): 1,
        ("order", "timed_out"): 1,
    }
    assert progress.stuck_sagas == {"order": 0}


def test_commands_fit_into_an_outbox_table_and_the_command_line_shows_what_is_stuck(rig: Rig, shop: Shop) -> None:
    columns = "id uuid, aggregatetype text, aggregateid text, type text, correlation_id text, payload jsonb"
    rig.sql(f"CREATE TABLE outbox ({columns})")
    into = {"table": "outbox", "aggregatetype": "order", "type": "CancelOrder"}
    config = document(rig, shop, on_timeout=into)
    shop.send({"late": 1, "succeeded": 3, "inconsistent": 1})
    with Running(config) as tracker:
        tracker.until(lambda: rig.sql("SELECT 1 FROM outbox"))
    assert rig.sql("SELECT aggregateid, type, correlation_id, payload ->> 'state' FROM outbox") == [
        ("saga-0", "CancelOrder", "saga-0", "running")
    ]
    path = rig.folder / "tracker.json"
    path.write_text(json.dumps(config))
    shown = CliRunner().invoke(main, ["saga", "list", str(path), "--stuck", "--json"])
    assert shown.exit_code == 1
    found = json.loads(shown.output)
    assert {one["id"]: one["state"] for one in found["sagas"]} == {"saga-0": "running", "saga-4": "inconsistent"}
    (totals,) = found["totals"]
    assert (totals["states"]["succeeded"], totals["stuck"], totals["success_ratio"]) == (3, 1, 0.6)
    one = CliRunner().invoke(main, ["saga", "show", str(path), "saga-0"])
    assert one.exit_code == 0
    assert "running, stuck" in one.output
    assert "did not come: Reserved, Paid" in one.output
    assert "order[" in one.output or "payment[" in one.output


def test_an_event_without_the_sagas_id_is_refused_and_tracked_when_it_is_mended(rig: Rig, shop: Shop) -> None:
    config = document(rig, shop, id="order")
    config["sink"]["postgres"]["on_error"] = "park"
    shop.event("saga-0", "Placed")
    shop.flush()
    with Running(config) as tracker:
        tracker.until(lambda: rig.offsets() == 1)
    assert rig.sql("SELECT error, detail FROM pycdc.parked") == [
        ("Unwritable", "an event Placed of saga order has no id at order")
    ]
    path = rig.folder / "tracker.json"
    path.write_text(json.dumps(document(rig, shop)))
    assert CliRunner().invoke(main, ["conflicts", "replay", str(path), "--all"]).exit_code == 0
    assert rig.sql("SELECT id, state FROM pycdc.sagas") == [("saga-0", "running")]
