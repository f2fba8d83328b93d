"""Transactions in a WAL and the slot that reads them, as Postgres has them: equal LSNs, and positions that go back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pycdc.connectors.postgres.catalog.metadata import ServerMetadata, SlotMetadata, TableRef
from pycdc.connectors.postgres.snapshot.pg_snapshot import PgSnapshot
from pycdc.errors import ConnectionLost
from pycdc.model.change import Lsn
from tests.chaos.simulator.scheduler import Process, Scheduler
from tests.connectors.postgres import frames

TABLES = {1: "a", 2: "b"}
COMMIT = 48
"""Bytes of a commit's record."""
SENDER_TIMEOUT = 15.0
CUTS = 0.01
FORGETS = 0.3
"""How often an acknowledgement does not outlive a crash of the server."""
INT = 23


@dataclass(frozen=True, slots=True)
class Written:
    """A committed transaction: its rows are (OID, id) in the order of their writes, `lsns` those of their records."""

    xid: int
    commit: int
    end: int
    rows: tuple[tuple[int, int], ...]
    lsns: tuple[int, ...]


class SimulatedDatabase:
    """One database with one slot, which is made before anything is written."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._dice = scheduler.dice
        self.wal_end = 1000
        self.transactions: list[Written] = []
        self.confirmed = self.persisted = self.wal_end
        self.reader: SimulatedStream | None = None
        self._rows = 0

    def commit(self, rows: int) -> None:
        """Write a transaction. Its commit may follow the one before directly: then that one's end is its LSN."""
        begin = self.wal_end
        mixed = self._dice.random() < 0.5
        self.wal_end += self._dice.choice((0, 0, 8, 80))
        commit, self.wal_end = self.wal_end, self.wal_end + COMMIT
        written = tuple((self._dice.choice((1, 2)) if mixed else 1, self._rows + n) for n in range(rows))
        self._rows += rows
        # Rows of one COPY share an LSN, and rows may have been written long before the commit.
        lsns = tuple(sorted(self._dice.randint(max(900, begin - 200), commit) for _ in written))
        self.transactions.append(Written(100 + len(self.transactions), commit, self.wal_end, written, lsns))

    def write_elsewhere(self) -> None:
        """Write what is no transaction of this database's tables."""
        self.wal_end += 64

    def crash(self) -> None:
        """Stop at once and start again: an acknowledgement that was not saved is forgotten."""
        if self.reader is not None:
            self.reader.broken = True
        self.reader = None
        if self._dice.random() < FORGETS:
            self.confirmed = self.persisted
        else:
            self.persisted = self.confirmed

    def end_silent_reader(self) -> None:
        reader = self.reader
        if reader is not None and (reader.process.dead or self._scheduler.now - reader.heard > SENDER_TIMEOUT):
            reader.broken = True
            self.reader = None

    def rows_of(self, oid: int) -> list[bytes]:
        return [b"%d" % row for one in self.transactions for table, row in one.rows if table == oid]


class SimulatedStream:
    """A session that has the slot; see `ReplicationStream`, whose place it takes."""

    high_throughput = False
    systemid, timeline = "7", 1

    def __init__(self, database: SimulatedDatabase, scheduler: Scheduler) -> None:
        self._database = database
        self._scheduler = scheduler
        self._next = next(
            (n for n, one in enumerate(database.transactions) if one.commit >= database.confirmed),
            len(database.transactions),
        )
        self._frames: list[bytes] = []
        self._described: set[int] = set()
        self.process: Process = scheduler.process
        self.broken = False
        self.heard = scheduler.now
        self.received = 0
        self.last_message_at = scheduler.now
        self.idle_position: Lsn | None = None

    def read(self, max_messages: int, max_bytes: int, timeout: float) -> list[bytes]:
        self._scheduler.point(ConnectionLost("the server does not answer"))
        self._require()
        dice = self._scheduler.dice
        if self._scheduler.faults.chance(dice, CUTS):
            self.broken = True
            self._database.reader = None
        self._require()
        self._fill()
        many = dice.randint(1, min(max_messages, 12))
        found, self._frames = self._frames[:many], self._frames[many:]
        self.idle_position = None
        if not found:
            self._scheduler.sleep(timeout)
            self._require()
            self._fill()
            if not self._frames:
                self.idle_position = Lsn(self._database.wal_end)
        if not self._frames:
            self.received = max(self.received, self._database.wal_end)
        if found:
            self.received = max(self.received, *(int.from_bytes(frame[1:9], "big") for frame in found))
        return found

    def confirm(self, lsn: Lsn) -> None:
        if self.process.dead or self.broken:
            return
        assert lsn <= max(self.received, self._database.confirmed), "acknowledged what was not received"
        self._database.confirmed = max(self._database.confirmed, lsn)

    def require_open(self) -> None:
        self._scheduler.point(ConnectionLost("the server does not answer"))
        self._require()

    def close(self) -> None:
        if self._database.reader is self and not self.process.dead:
            self._database.reader = None
        self.broken = True

    def _require(self) -> None:
        if self.broken:
            raise ConnectionLost("the server ended the replication stream")
        self.heard = self._scheduler.now

    def _fill(self) -> None:
        """Send what was committed since, each as a whole."""
        for one in self._database.transactions[self._next :]:
            self._next += 1
            self._frames.append(frames.xlog(frames.begin(one.commit, one.xid), one.commit))
            for (oid, row), lsn in zip(one.rows, one.lsns, strict=True):
                if oid not in self._described:
                    self._described.add(oid)
                    self._frames.append(frames.xlog(frames.relation(oid, TABLES[oid], [("id", INT, True)]), 0))
                self._frames.append(frames.xlog(frames.insert(oid, [b"%d" % row]), lsn))
            self._frames.append(frames.xlog(frames.commit(one.commit, one.end), one.end))


class SimulatedSlot:
    """See `HeldSlot`, whose place it takes."""

    def __init__(self, database: SimulatedDatabase, scheduler: Scheduler) -> None:
        self._database = database
        self._scheduler = scheduler
        self.stream: Any = None

    def acquire(self, seconds: float) -> bool:
        self._scheduler.point(ConnectionLost("the server does not answer"))
        if self.stream is not None:
            return True
        self._database.end_silent_reader()
        if self._database.reader is not None:
            self._scheduler.sleep(seconds)
            return False
        self.stream = self._database.reader = SimulatedStream(self._database, self._scheduler)
        return True

    def require(self) -> None:
        if self.stream is not None:
            self.stream.require_open()

    def release(self) -> None:
        if self.stream is not None:
            self.stream.close()
            self.stream = None


class SimulatedCatalog:
    """See `Catalog`: what the server says of itself, its slot and its tables."""

    stopping = None

    def __init__(self, database: SimulatedDatabase, scheduler: Scheduler, slot: str) -> None:
        self._database = database
        self._scheduler = scheduler
        self._slot = slot

    def server(self) -> ServerMetadata:
        self._scheduler.point(ConnectionLost("the server does not answer"))
        return ServerMetadata(
            version=180_000,
            system_identifier="7",
            timeline=1,
            database="shop",
            database_oid=5,
            encoding="UTF8",
            wal_level="logical",
            current_lsn=Lsn(self._database.wal_end),
            in_recovery=False,
            max_replication_slots=10,
            used_replication_slots=1,
            max_wal_senders=10,
            max_slot_wal_keep_size=None,
            wal_sender_timeout=SENDER_TIMEOUT,
            idle_slot_timeout=0,
            output_plugins=None,
            role="pycdc",
            role_replicates=True,
        )

    def slot(self, name: str) -> SlotMetadata:
        self._scheduler.point(ConnectionLost("the server does not answer"))
        return SlotMetadata(
            name=name,
            plugin="pgoutput",
            database="shop",
            temporary=False,
            active_pid=None if self._database.reader is None else 1,
            confirmed_flush=Lsn(self._database.confirmed),
            restart_lsn=Lsn(self._database.confirmed),
            wal_status="reserved",
            safe_wal_size=None,
            retained_bytes=0,
            invalidation=None,
            failover=False,
            synced=False,
        )

    def tables(self, *patterns: object) -> list[TableRef]:
        return [TableRef(oid, "public", name) for oid, name in TABLES.items()]

    def wal_end(self) -> Lsn:
        self._scheduler.point(ConnectionLost("the server does not answer"))
        return Lsn(self._database.wal_end)

    def visibility(self) -> PgSnapshot:
        return PgSnapshot.parse("1000000:1000000:")

    def close(self) -> None:
        """Do nothing: there is nothing to release."""
