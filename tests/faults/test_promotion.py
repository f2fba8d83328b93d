"""A physical standby of the source is promoted: the capture goes on there, or refuses to and says why.

Two pipelines at a time, one for each delivery, so that one promotion serves both.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from psycopg.conninfo import make_conninfo

from pycdc.connectors.postgres.catalog.catalog import Catalog
from pycdc.connectors.postgres.start_check import check_start
from pycdc.errors import ConnectionLost
from pycdc.operations.doctor.failover import failover_findings, standby_findings
from pycdc.operations.doctor.finding import Finding, FindingStatus
from tests.faults.ledger import TABLES, Delivered, LedgerWriter, delivered, is_complete, missing_and_phantoms
from tests.programs import Program
from tests.reading import wait_for
from tests.services.availability import Unavailable
from tests.services.installations import Installation, installations
from tests.services.kafka import KafkaAddress
from tests.services.postgres import STANDBY, Postgres, database_name, launch_installed, launch_standby
from tests.services.process import held_port

FILE = "capture.json"
DELIVERIES = ("at_least_once", "exactly_once")
ROUNDS = int(os.environ.get("PYCDC_PROMOTIONS", "1"))
SYNCED = """SELECT slot_name::text FROM pg_replication_slots
WHERE synced AND NOT temporary AND invalidation_reason IS NULL ORDER BY 1"""
SLOTS = "SELECT slot_name::text, confirmed_flush_lsn FROM pg_replication_slots WHERE slot_type = 'logical' ORDER BY 1"
FOLLOWS = "SELECT 1 FROM pg_stat_replication WHERE application_name = 'walreceiver' AND state = 'streaming'"


def newest() -> Installation:
    """One that syncs slots. It is installed here: in a container there are no programs for a standby."""
    found = [one for one in installations() if one.numbers >= (17,)]
    if not found:
        raise Unavailable("Postgres >=17 needed, installed")
    return found[-1]


@dataclass(slots=True)
class Pair:
    """A primary, and the place of its standby, which clients know from the beginning."""

    primary: Postgres
    database: str
    place: socket.socket = field(default_factory=held_port)
    """The standby's port, until that is started."""
    standby: Postgres | None = None

    @property
    def port(self) -> int:
        return self.place.getsockname()[1] if self.standby is None else self.standby.port

    @property
    def dsn(self) -> str:
        """Both servers, for a client that wants the one that takes writes."""
        ports = f"{self.primary.port},{self.port}"
        return make_conninfo(
            host="127.0.0.1,127.0.0.1",
            port=ports,
            user="postgres",
            dbname=self.database,
            target_session_attrs="read-write",
        )

    def follow(self) -> Postgres:
        """Add the standby, and wait until it streams."""
        settings = {"hot_standby_feedback": "on", "sync_replication_slots": "on"}
        self.standby = launch_standby(self.primary, newest(), self.place, **settings)
        wait_for(lambda: self.primary.psql(FOLLOWS))
        return self.standby

    def findings(self, slot: str) -> list[Finding]:
        """What `pycdc doctor` says of the primary, and of the standby."""
        with Catalog(self.dsn) as catalog:
            found = list(failover_findings(catalog, catalog.slot(slot), catalog.server()))
        return [*found, *standby_findings(self.dsn, slot)]

    def promote(self) -> None:
        """The primary dies at once, and does not come back."""
        assert self.standby is not None
        self.primary.stop("immediate")
        assert self.standby.psql("SELECT pg_promote()") == [(True,)]

    def close(self) -> None:
        self.place.close()
        for server in (self.standby, self.primary):
            if server is not None:
                server.close()


@pytest.fixture
def pair() -> Iterator[Pair]:
    primary = launch_installed(newest())
    made = Pair(primary, database_name(primary.create_database()))
    try:
        for statement in TABLES.strip().split(";\n"):
            primary.psql(statement, dbname=made.database)
        yield made
    finally:
        made.close()


@dataclass(slots=True)
class Captures:
    """Pipelines of one source, each with topics of its own."""

    pair: Pair
    kafka: KafkaAddress
    prefix: str
    folder: Path
    programs: ExitStack

    def start(self, name: str, delivery: str, **source: Any) -> Program:
        """Start one, and wait until it reads its slot."""
        folder = self.folder / name
        folder.mkdir()
        document = {
            "name": self.topics(name),
            "source": {"postgres": {"dsn": self.pair.dsn, "snapshot": "never", "slot": name, **source}},
            "sink": {"kafka": {"brokers": self.kafka.bootstrap, "format": "json", "delivery": delivery}},
            "checkpoint": {"interval": 0.2},
            "retries": {"max_delay": 0.5},
            "http": {"enabled": False},
        }
        (folder / FILE).write_text(json.dumps(document))
        program = self.run(name)
        program.wait_until(lambda: "event=streaming" in program.log)
        return program

    def run(self, name: str) -> Program:
        folder = self.folder / name
        return self.programs.enter_context(Program([sys.executable, "-m", "pycdc", "run", str(folder / FILE)], folder))

    def rewrite(self, name: str, **source: Any) -> None:
        """Change options of the source, for the next run."""
        path = self.folder / name / FILE
        document = json.loads(path.read_text())
        document["source"]["postgres"] |= source
        path.write_text(json.dumps(document))

    def topics(self, name: str) -> str:
        return f"{self.prefix}.{name}"

    def found(self, name: str) -> Delivered:
        return delivered(self.kafka, self.topics(name))

    def has_more_than(self, transactions: int, name: str) -> bool:
        return len(self.found(name).transactions) > transactions


@pytest.fixture
def captures(pair: Pair, kafka: KafkaAddress, topic_prefix: str, tmp_path: Path) -> Iterator[Captures]:
    with ExitStack() as programs:
        yield Captures(pair, kafka, topic_prefix, tmp_path, programs)


@pytest.mark.parametrize("number", range(ROUNDS))
def test_the_capture_goes_on_at_the_promoted_standby(number: int, pair: Pair, captures: Captures) -> None:
    """What was confirmed to a client is there, and what consumers saw is there, each once with exactly_once.

    One slot was made by somebody else, and becomes a failover slot. The old primary comes back too late.
    """
    pair.primary.psql("SELECT pg_create_logical_replication_slot('at_least_once', 'pgoutput')", dbname=pair.database)
    programs = {delivery: captures.start(delivery, delivery, failover=True) for delivery in DELIVERIES}
    with LedgerWriter(pair.dsn) as writer:
        standby = pair.follow()
        pair.primary.configure(synchronized_standby_slots=STANDBY, synchronous_standby_names="walreceiver")
        wait_for(lambda: standby.psql(SYNCED) == [(name,) for name in DELIVERIES])
        seen = writer.transactions + 50
        for name in DELIVERIES:
            assert [one.status for one in pair.findings(name)] == [FindingStatus.OK] * 2, pair.findings(name)
            wait_for(partial(captures.has_more_than, seen, name))
        with (
            Catalog(standby.dsn(pair.database)) as catalog,
            pytest.raises(ConnectionLost, match="a copy of its primary"),
        ):
            check_start(None, catalog.slot("exactly_once"), catalog.server(), "exactly_once")
        pair.promote()
        confirmed = len(writer.confirmed)
        wait_for(lambda: len(writer.confirmed) > confirmed + 50)
    for name in DELIVERIES:
        wait_for(partial(is_complete, pair.dsn, captures.kafka, captures.topics(name)))
        found = captures.found(name)
        assert missing_and_phantoms(pair.dsn, found) == {}, name
        assert writer.confirmed <= {tx for _, tx in found.transactions}, name
        assert programs[name].stop() == 0
    assert captures.found("exactly_once").doubled() == {}
    pair.primary.start()
    slots = pair.primary.psql(SLOTS)
    captures.rewrite("exactly_once", dsn=pair.primary.dsn(pair.database), snapshot="when_needed")
    old = captures.run("exactly_once")
    assert old.wait() == 3
    assert "the server is on timeline 1, and the stored position on 2" in old.log
    assert pair.primary.psql(SLOTS) == slots


def test_a_promotion_that_lost_something_is_refused(pair: Pair, captures: Captures) -> None:
    """A slot that did not come along, and positions that the standby never had: nothing is delivered, no slot is made.

    The standby was behind when the primary died, and nothing kept the pipelines from delivering what it did not have.
    """
    without = captures.start("without", "at_least_once")
    programs = {delivery: captures.start(delivery, delivery, failover=True) for delivery in DELIVERIES}
    names = ("without", *DELIVERIES)
    with LedgerWriter(pair.dsn) as writer:
        standby = pair.follow()
        wait_for(lambda: standby.psql(SYNCED) == [(name,) for name in DELIVERIES])
        unsafe, ready = pair.findings("exactly_once")
        assert unsafe.title == "changes may be delivered that no standby has yet"
        assert ready.status is FindingStatus.OK, "the slot itself would come along"
        assert pair.findings("without")[-1].title.endswith("has no slot without")
        standby.psql("ALTER SYSTEM SET primary_conninfo = ''")
        standby.psql("SELECT pg_reload_conf()")
        wait_for(lambda: not pair.primary.psql(FOLLOWS))
        seen = writer.transactions + 20
        for name in names:
            wait_for(partial(captures.has_more_than, seen, name))
    for name in names:
        wait_for(partial(is_complete, pair.dsn, captures.kafka, captures.topics(name)))
    pair.promote()
    for program in (without, *programs.values()):
        assert program.wait() == 3, program.log
    assert "the slot did not come along" in without.log
    for name, program in programs.items():
        assert "rows were delivered that no longer exist" in program.log
        assert "synchronized_standby_slots is empty" in program.log, "the start has warned"
        assert "transactions that were rolled back" in missing_and_phantoms(pair.dsn, captures.found(name))
    assert [name for name, _ in standby.psql(SLOTS)] == list(DELIVERIES)
