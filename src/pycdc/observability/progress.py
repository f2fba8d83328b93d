"""What a pipeline has done and where it is: written by the pipeline's thread, read by anybody."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from pycdc.engine_interfaces import BatchLike
from pycdc.model.change import Position
from pycdc.model.event import Partition, PartitionOffsets
from pycdc.observability.capture_lag import CaptureLag
from pycdc.observability.durations import Durations
from pycdc.observability.outages import Outages
from pycdc.observability.verify_progress import VerifyProgress

_FRESH: Final = 5.0
"""Seconds for which what brokers told of a partition's end says something of the present."""
_BROKEN: Final = ("retrying", "stopped")
"""States in which source or sink are not there."""


@dataclass(slots=True)
class TableSnapshot:
    """`estimated` is the planner's row count, which may be wrong; `done` is exact, with what earlier processes read."""

    table: str
    done: int = 0
    estimated: int = 0
    finished: bool = False
    _since: float | None = None
    _before: int = 0
    _ended: float = 0.0

    def read(self, rows: int) -> None:
        """Count rows that were read."""
        self._ended = time.monotonic()
        if self._since is None:
            self._since, self._before = self._ended, self.done + rows
        self.done += rows

    @property
    def share(self) -> float | None:
        """Between 0 and 1, as far as the estimate holds; None without one."""
        if self.finished:
            return 1.0
        return min(0.999, self.done / self.estimated) if self.estimated else None

    @property
    def rate(self) -> float | None:
        """Rows a second since this process began with the table; None before the second batch."""
        seconds = 0.0 if self._since is None else self._ended - self._since
        return (self.done - self._before) / seconds if seconds > 0 else None

    @property
    def seconds_left(self) -> float | None:
        if not self.rate or not self.estimated or self.finished:
            return None
        return max(0, self.estimated - self.done) / self.rate


@dataclass(frozen=True, slots=True)
class PartitionPlace:
    """How far a partition was applied: `next` is the next offset, `end` the offset behind its last record.

    `lag_seconds` is the age of the newest applied record while behind, 0 when caught up, None where nobody knows: at
    the monotonic time `reported_at`, 0 for at any time. See `Progress.place_lag`.
    """

    next: int
    end: int
    lag_seconds: float | None = None
    reported_at: float = field(default=0.0, compare=False)

    @property
    def behind(self) -> int:
        """Records, as was told; those that a producer rolled back, and its marks, are counted by the broker too."""
        return max(0, self.end - self.next)


@dataclass(frozen=True, slots=True)
class ParkedCount:
    """How many rows of a table are parked; `since`: when the first of them was, in seconds since the Unix epoch."""

    rows: int
    since: float


@dataclass(slots=True)
class Progress:
    """Counters since the process started, and the current place.

    state           starting, snapshot, streaming, retrying, stopping or stopped
    position        the last position stored
    lag             of a capture, computed when asked: `lag_seconds`, `lag_bytes`
    outages         what does not answer at present
    reverse_lag     of an apply pipeline: the greatest age of a partition's newest applied record, while that is behind
    last_message    monotonic time of the server's last message, 0 before the first
    sink_server     what the sink writes to, as it is called in messages
    in_sink_since   monotonic time since when the sink has been at work on a batch, None while it is not
    last_delivery   monotonic time at which the sink last took a batch or was not needed
    slot_retained   bytes of WAL that the slot holds back, None where nobody measures it
    slot_state      the slot's wal_status (reserved, extended, unreserved, lost), None likewise
    slot_safe       bytes of WAL until the server invalidates the slot, None where it would not, or nobody measures it
    slot_full_in    seconds until it does, or the budget of wal_guard is used up, at the present rate; None likewise
    xmin_ages       transactions that the holder of the oldest xmin is behind, by its kind
    over_wal_budget whether the slot holds back more than wal_guard.budget
    in_progress     transactions that are kept until they are committed, None where the server does not send such
    spooled_bytes   what is on disk of them, None likewise
    unstreamed      whether transactions come at their commits in spite of `streaming`, because of messages in one
    waits_for       what the start waits for at present, empty where it does not; `waits_since` is monotonic
    signals         that came, by channel (command, table, topic) and whether they were handled
    strange_marks   logical messages under the prefix of pycdc's marks (`origins`) that are none
    refused         tables whose schema the registry refuses at present, and how it differs from the one before
    parked_rows     records of such tables, by table, that went to the dead letters instead
    parked_now      rows that wait to be retried or dropped (on_error: park), by table
    truncated_rows  rows that were cut because they were too large, by table
    hidden          rows that are not captured because of source.postgres.skip_origins, by the pipeline that wrote them
    unclaimed       tables that are gone, whose rows came, and of which nothing tells whether they were captured
    unwritable      captured tables in which the application cannot UPDATE, because they are published, and why

    Of an apply pipeline, where `tables` and `operations` count events by topic:

    transactions    that were committed
    applied         rows by table and operation (insert, upsert, update, delete); events of one row may be one write
    retried         transactions that were tried again, by what they met (DeadlockDetected, LockNotAvailable …)
    parked          events, by reason: Unwritable, RowMissing, Follower, or the name of the database's error
    skipped         writes that were left out on purpose, by table and reason
    has_origin      whether the session that writes has a replication origin, None where there is no such session
    duplicates      events that were applied before and are left out, by topic
    conflicts       by table, kind and decision
    halted          topics that are not read at present, and why; whoever halts one takes it out again
    partitions      those that this process has, and how far it is in each
    applying        seconds of a transaction, its commit included
    committing      seconds of its commit alone
    columnar        events that were written by columns
    unreported      partitions that this process has, and of which nothing is known yet
    sagas           how many there ever were, by name and state, and `timed_out`
    stuck_sagas     those that have not ended within their time limit, by name
    verification    of `pycdc verify --watch`: what it has found
    """

    state: str = "starting"
    events: int = 0
    batches: int = 0
    transactions: int = 0
    checkpoints: int = 0
    reconnects: int = 0
    position: Position | PartitionOffsets | None = None
    lag: CaptureLag = field(default_factory=CaptureLag)
    outages: Outages = field(default_factory=Outages)
    reverse_lag: float | None = None
    tables: dict[str, int] = field(default_factory=dict)
    operations: dict[tuple[str, str], int] = field(default_factory=dict)
    nulled: dict[tuple[str, str], int] = field(default_factory=dict)
    dead_letters: dict[str, int] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    parked_rows: dict[str, int] = field(default_factory=dict)
    parked_now: dict[str, ParkedCount] = field(default_factory=dict)
    truncated_rows: Counter[str] = field(default_factory=Counter)
    hidden: Counter[str] = field(default_factory=Counter)
    unclaimed: Counter[str] = field(default_factory=Counter)
    unwritable: dict[str, str] = field(default_factory=dict)
    unknown_types: dict[tuple[str, str], int] = field(default_factory=dict)
    signals: Counter[tuple[str, str]] = field(default_factory=Counter)
    strange_marks: int = 0
    snapshot: list[TableSnapshot] = field(default_factory=list)
    last_error: str | None = None
    last_message: float = 0.0
    last_delivery: float = field(default_factory=time.monotonic)
    in_sink_since: float | None = None
    sink_server: str = ""
    slot_retained: int | None = None
    slot_state: str | None = None
    slot_safe: int | None = None
    slot_full_in: float | None = None
    xmin_ages: dict[str, int] = field(default_factory=dict)
    over_wal_budget: bool = False
    in_progress: int | None = None
    spooled_bytes: int | None = None
    unstreamed: bool = False
    waits_for: str = ""
    waits_since: float = 0.0
    applied: Counter[tuple[str, str]] = field(default_factory=Counter)
    retried: Counter[str] = field(default_factory=Counter)
    parked: Counter[str] = field(default_factory=Counter)
    skipped: Counter[tuple[str, str]] = field(default_factory=Counter)
    has_origin: bool | None = None
    duplicates: Counter[str] = field(default_factory=Counter)
    conflicts: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    halted: dict[str, str] = field(default_factory=dict)
    partitions: dict[Partition, PartitionPlace] = field(default_factory=dict)
    applying: Durations = field(default_factory=Durations)
    committing: Durations = field(default_factory=Durations)
    columnar: int = 0
    unreported: set[Partition] = field(default_factory=set)
    sagas: dict[tuple[str, str], int] = field(default_factory=dict)
    stuck_sagas: dict[str, int] = field(default_factory=dict)
    verification: VerifyProgress | None = None

    def wait_for(self, what: str) -> None:
        """Say what is waited for from now on; nothing, with an empty text."""
        if what and not self.waits_for:
            self.waits_since = time.monotonic()
        self.waits_for = what

    @property
    def lag_seconds(self) -> float | None:
        """How long ago all was delivered, 0 when caught up, None where nobody knows."""
        if self.lag.known:
            return self.lag.seconds()
        places = self.partitions.copy().values()
        known = [lag for place in places if (lag := self.place_lag(place)) is not None]
        return max(known, default=None) if places else self.reverse_lag

    @property
    def lag_bytes(self) -> int | None:
        """WAL between the server's end, as it was measured last, and what is durable in the sink."""
        return self.lag.bytes()

    def place_lag(self, place: PartitionPlace) -> float | None:
        """Return a partition's lag in seconds; it grows from when it is not known any more to have caught up."""
        if place.lag_seconds is None or not place.reported_at or (not place.behind and self._holds(place)):
            return place.lag_seconds
        return place.lag_seconds + time.monotonic() - place.reported_at

    @property
    def records_behind(self) -> int | None:
        """Records still to be applied in this process's partitions; None where that is not known."""
        told = [self.place_behind(place) for place in self.partitions.copy().values()]
        known = [behind for behind in told if behind is not None]
        return sum(known) if known and (sum(known) or len(known) == len(told)) else None

    def place_behind(self, place: PartitionPlace) -> int | None:
        """Return how many records a partition is behind, at least; None where that is not known."""
        return place.behind if place.behind or self._holds(place) else None

    def unread_seconds(self) -> float | None:
        """Return up to how long ago all records are applied in this process's partitions; None where nobody knows."""
        places = list(self.partitions.copy().values())
        lags = [lag for place in places if (lag := self.place_lag(place)) is not None]
        if not places or self.unreported or len(lags) < len(places):
            return None
        now = time.monotonic()
        return max([*lags, *(now - place.reported_at for place in places if place.reported_at)])

    def _holds(self, place: PartitionPlace) -> bool:
        """Return whether what was told of it may be told of the present."""
        if not place.reported_at:
            return True
        fresh = time.monotonic() - place.reported_at <= _FRESH
        return fresh and self.state not in _BROKEN and not self.outages.lasting

    def interrupted(self) -> None:
        """Source or sink broke: the pipeline begins again at the stored position."""
        self.state = "retrying"
        self.reconnects += 1
        self.lag.interrupted()

    def delivered(self, batch: BatchLike) -> None:
        """Count a batch that the sink took."""
        self.batches += 1
        self.last_delivery = time.monotonic()
        for table, op, count in batch.counts():
            self.events += count
            self.tables[table] = self.tables.get(table, 0) + count
            self.operations[table, op] = self.operations.get((table, op), 0) + count

    def unknown_type(self, table: str, type_name: str) -> None:
        """Count a column whose type has no codec, each time that a version of its table is met."""
        self.unknown_types[table, type_name] = self.unknown_types.get((table, type_name), 0) + 1

    def became_null(self, table: str, column: str) -> None:
        """Count a value that has no representation and was written as NULL."""
        self.nulled[table, column] = self.nulled.get((table, column), 0) + 1

    def unclaimed_table(self, table: str) -> None:
        """Count a table that is gone and whose rows came, where nothing tells whether it was captured."""
        self.unclaimed[table] += 1

    def signal(self, channel: str, outcome: str) -> None:
        """Count a signal that came by the command, the table or the topic, and was handled or refused."""
        self.signals[channel, outcome] += 1

    def dead_letter(self, table: str) -> None:
        """Count a change that a transform failed at, or a message larger than its topic takes."""
        self.dead_letters[table] = self.dead_letters.get(table, 0) + 1
