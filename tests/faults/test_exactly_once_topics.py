"""What comes beside the rows comes once too: dead letters, messages, notifications, bounds of transactions."""

from __future__ import annotations

import json
import signal
from base64 import b64decode
from collections import Counter
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pycdc import DecodedChange
from tests.faults.harness import Process, Rig
from tests.faults.ledger import TABLES, LedgerWriter
from tests.reading import wait_for
from tests.services.kafka import KafkaAddress

SIGNALS = """
CREATE TABLE signals (id varchar(64) PRIMARY KEY, type varchar(32), data varchar(2048));
CREATE FUNCTION write_message() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_logical_emit_message(true, 'ledger', NEW.tx::text); RETURN NEW; END $$;
CREATE TRIGGER message AFTER INSERT ON ledger FOR EACH ROW EXECUTE FUNCTION write_message();
"""
POINTS = {
    "after a batch was written": 2,
    "after the position, before the end": 5,
    "after the end, before the acknowledgement": 3,
}
"""Where the process is killed, and at which passage."""
SNAPSHOT = json.dumps({"data-collections": ["public.ledger"]})


def fails_at_three(change: DecodedChange) -> DecodedChange:
    """Each transaction of four changes or more has one such change."""
    if change.after is not None and change.after["seq"] == 3:
        raise ValueError
    return change


def configured(rig: Rig) -> Path:
    rig.execute(TABLES)
    rig.execute(SIGNALS)
    function = f"{__name__}:fails_at_three"
    return rig.config(
        source={"snapshot": "never", "max_batch_changes": 40, "snapshot_chunk": 10, "tables": ["ledger", "entries"]},
        kafka={"format": "json", "delivery": "exactly_once"},
        signals={"table": "signals"},
        transforms=[{"function": function, "tables": ["public.entries"], "on_error": "dead_letter"}],
        envelope={
            "transaction_metadata": True,
            "heartbeat_interval": 0.1,
            "notification_topic": f"{rig.name}.notifications",
        },
    )


class Topics:
    """Those of a pipeline, as a read_committed consumer finds them."""

    def __init__(self, rig: Rig, kafka: KafkaAddress) -> None:
        self._rig = rig
        self._kafka = kafka

    def values(self, topic: str) -> list[Any]:
        found = self._kafka.consume_all(topic)
        return [json.loads(message.value() or b"null") for message in found]

    def streamed(self) -> set[str]:
        return {v["after"]["tx"] for v in self.values(f"{self._rig.name}.public.ledger") if v["op"] == "c"}

    def read(self) -> Counter[str]:
        return Counter(v["after"]["tx"] for v in self.values(f"{self._rig.name}.public.ledger") if v["op"] == "r")

    def bounds(self) -> Counter[tuple[str, str]]:
        return Counter((v["status"], v["id"]) for v in self.values(f"{self._rig.name}.transaction"))

    def dead_letters(self) -> Counter[str]:
        return Counter(v["after"]["tx"] for v in self.values(f"{self._rig.name}.dead-letter"))

    def messages(self) -> Counter[str]:
        contents = (v["message"]["content"] for v in self.values(f"{self._rig.name}.message"))
        return Counter(b64decode(content).decode() for content in contents)

    def notifications(self) -> Counter[tuple[str, str]]:
        """By type, and by the key behind which a chunk ended."""
        return Counter(
            (v["type"], v["additional_data"].get("last_processed_key", ""))
            for v in self.values(f"{self._rig.name}.notifications")
            if v["aggregate_type"] == "Incremental Snapshot"
        )

    def is_read(self) -> bool:
        return any(kind == "COMPLETED" for kind, _ in self.notifications())

    def is_complete(self) -> bool:
        return self.is_read() and self.streamed() >= self.committed(1)

    def committed(self, changes: int) -> set[str]:
        """Transactions of so many changes or more."""
        with psycopg.connect(self._rig.dsn) as connection:
            found = connection.execute("SELECT tx FROM ledger WHERE changes >= %s", [changes]).fetchall()
        return {str(tx) for (tx,) in found}


def killed(rig: Rig, config: Path, point: str, passage: int) -> None:
    victim = rig.start(config, point, str(passage))
    assert victim.wait() == -signal.SIGKILL, f"{point}: {victim.log}"


def started(rig: Rig, config: Path) -> Process:
    process = rig.start(config)
    wait_for(lambda: rig.execute("SELECT 1 FROM pg_replication_slots WHERE confirmed_flush_lsn IS NOT NULL"))
    return process


@pytest.mark.pg("==15")
def test_what_comes_beside_the_rows_comes_once_wherever_the_process_is_killed(rig: Rig, kafka: KafkaAddress) -> None:
    """While a signal has one of the tables read in chunks."""
    config = configured(rig)
    topics = Topics(rig, kafka)
    first = started(rig, config)
    with LedgerWriter(rig.dsn, most=80, pause=0.3) as writer:
        wait_for(lambda: writer.transactions > 20)
        first.kill()
        rig.execute(f"INSERT INTO signals VALUES ('a', 'execute-snapshot', '{SNAPSHOT}')")
        for point, passage in POINTS.items():
            killed(rig, config, point, passage)
        heir = rig.start(config)
        wait_for(topics.is_read)
    wait_for(topics.is_complete)
    heir.stop()
    assert topics.messages() == Counter(topics.committed(1))
    assert topics.dead_letters() == Counter(topics.committed(4))
    bounds = topics.bounds()
    assert set(bounds.values()) == {1}
    ends = {identity for status, identity in bounds if status == "END"}
    assert ends == {identity for status, identity in bounds if status == "BEGIN"}
    assert ends == {
        value["transaction"]["id"] for value in topics.values(f"{rig.name}.public.ledger") if value["op"] == "c"
    }
    assert set(topics.read().values()) == {1}
    notified = topics.notifications()
    assert set(notified.values()) == {1}, notified
    assert {kind for kind, _ in notified} == {
        "STARTED",
        "DATA_COLLECTIONS_RESOLVED",
        "IN_PROGRESS",
        "TABLE_SCAN_COMPLETED",
        "COMPLETED",
    }
    assert topics.values(f"__debezium-heartbeat.{rig.name}")
