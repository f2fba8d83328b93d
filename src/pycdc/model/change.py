"""The nouns of the engine: positions, tables, transactions, changes and the batches that carry them.

A row stays bytes until somebody asks. On the hot path there is no object per row: a `Run` holds the raw frames of
consecutive changes that share table, operation and transaction, and compiled encoders loop over its frames. A
`Change` is a view of one frame, made when a user iterates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum, StrEnum
from typing import Any, Final

from pycdc.errors import ProtocolError
from pycdc.model.notification import Notification
from pycdc.model.origin import ChangeOrigin
from pycdc.model.parked_request import ParkedRequest
from pycdc.model.transaction_chunk import TransactionChunk

Row = dict[str, Any]
"""A row as Python values by column name; a value may be `UNCHANGED`."""


class Lsn(int):
    """A WAL byte position; prints as Postgres does (``16/B374D848``)."""

    @classmethod
    def parse(cls, text: str) -> Lsn:
        high, slash, low = text.partition("/")
        try:
            if not slash:
                raise ValueError
            return cls((int(high, 16) << 32) | int(low, 16))
        except ValueError:
            raise ProtocolError(f"not an LSN: {text!r}") from None

    def __str__(self) -> str:
        return f"{self >> 32:X}/{self & 0xFFFFFFFF:X}"

    def __repr__(self) -> str:
        return f"Lsn({str(self)!r})"


NOWHERE: Final = Lsn(0)
"""The LSN before all others: Postgres never hands it out."""


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place in the stream: the end LSN of a commit, and an index within the transaction that follows it.

    Total, monotonic and unique; an event's own LSN is none of these. `index` is 0 at a transaction's boundary, the
    only places where a stream may resume. `part` counts what a transform made of one change.
    """

    lsn: Lsn
    index: int = 0
    part: int = 0

    def __str__(self) -> str:
        if self.part:
            return f"{self.lsn}+{self.index}.{self.part}"
        return f"{self.lsn}+{self.index}" if self.index else str(self.lsn)


class Unchanged(Enum):
    """The value of a TOASTed column that an UPDATE left alone and Postgres did not send."""

    UNCHANGED = "UNCHANGED"

    def __repr__(self) -> str:
        return "UNCHANGED"


UNCHANGED: Final = Unchanged.UNCHANGED


class Op(StrEnum):
    """Debezium's letters for what happened."""

    CREATE = "c"
    UPDATE = "u"
    DELETE = "d"
    READ = "r"
    TRUNCATE = "t"
    MESSAGE = "m"
    BEGIN = "BEGIN"
    END = "END"


@dataclass(frozen=True, slots=True)
class PgType:
    """A column's type, domains resolved to their base.

    `kind` is pg_type.typtype: b(ase), e(num), c(omposite), r(ange), m(ultirange), p(seudo); domains never appear.
    Of money, which has no modifier, `typmod` is how many digits after the point the server's lc_monetary gives it.
    `name` is the base type's name without its schema (``int4``, ``numeric``, ``mood``, ``_int4`` for arrays),
    `declared` that of the domain. `schema` is where the type, or the domain, is; "" for pg_catalog and public.
    """

    oid: int
    name: str
    typmod: int = -1
    kind: str = "b"
    element: PgType | None = None
    labels: tuple[str, ...] = ()
    domain: bool = False
    declared: str = ""
    schema: str = ""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of one version of a table. `identity`: part of the replica identity, as Relation messages say.

    `default` is the default's SQL expression (pg_get_expr), None where there is none. `dimensions` is the declared
    number of array dimensions (pg_attribute.attndims), which Postgres does not enforce. `generated`: GENERATED ALWAYS
    AS …; logical replication omits it unless the publication has it (since Postgres 18, and only what is STORED).
    `virtual`: nor is it stored.
    """

    name: str
    type: PgType
    identity: bool = False
    nullable: bool = True
    default: str | None = None
    dimensions: int = 0
    generated: bool = False
    virtual: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """One version of a table's schema. Two versions are two objects; compiled plans are kept by object.

    `key` names the columns of the primary key in the constraint's order, or of the unique index that stands in for
    it; empty where there is none. `identity` is pg_class.relreplident: d(efault), f(ull), n(othing), i(ndex).
    `images` decodes a change's frame to the before and after rows. `relabelled` reads the labels of its enums anew; the
    table's other metadata stays those of this version. `deferrable`: within a transaction, several rows may have the
    same values in a key or unique constraint.
    """

    oid: int
    schema: str
    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...] = ()
    identity: str = "d"
    images: Callable[[Change], tuple[Row | None, Row | None]] | None = None
    relabelled: Callable[[Table], Table] | None = None
    deferrable: bool = False

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"


class Transaction:
    """A source transaction. Times are microseconds since the Unix epoch.

    `commit_lsn` is the LSN of the commit record, `end_lsn` the byte after it (0 until the commit was read),
    `previous_end` the end LSN of the last transaction delivered before it (0 if none was). `change_origin` is the
    origin of changes that pycdc itself wrote into the database. `trace` is the trace that its records belong to.
    """

    __slots__ = (
        "change_origin",
        "changes",
        "commit_lsn",
        "commit_time",
        "counts",
        "end_lsn",
        "origin",
        "origin_lsn",
        "previous_end",
        "trace",
        "xid",
    )

    def __init__(self, xid: int | None, commit_lsn: int, commit_time: int, previous_end: int = 0) -> None:
        self.xid = xid
        self.commit_lsn = commit_lsn
        self.commit_time = commit_time
        self.previous_end = previous_end
        self.end_lsn = 0
        self.changes = 0
        self.change_origin: ChangeOrigin | None = None
        self.origin: str | None = None
        self.origin_lsn: int | None = None
        self.counts: dict[str, int] | None = None
        self.trace: bytes | None = None

    @property
    def committed_at(self) -> datetime:
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=self.commit_time)

    def __repr__(self) -> str:
        return f"Transaction(xid={self.xid}, commit_lsn={Lsn(self.commit_lsn)}, changes={self.changes})"


@dataclass(frozen=True, slots=True)
class LogicalMessage:
    """What ``pg_logical_emit_message`` wrote."""

    prefix: str
    content: bytes = field(repr=False)
    transactional: bool
    lsn: Lsn


@dataclass(frozen=True, slots=True)
class Routing:
    """What a transform says of records beside their rows.

    `topic` takes the place of the table's own, `headers` come behind the record's. `part` counts the parts of one
    change that was split. `dead`: what a transform failed at, as it came, on its way to the dead-letter `topic`.
    """

    topic: str | None = None
    headers: tuple[tuple[str, bytes | None], ...] = field(default=(), repr=False)
    part: int = 0
    dead: bool = False


class Run:
    """Consecutive changes of one table, one operation and one transaction, as raw frames.

    `frames` are XLogData messages as they came off the socket (25 bytes of header, then pgoutput's message) or, for
    `Op.READ`, lines of COPY text without the newline. `index` is the first frame's place in its transaction.
    `marker` is Debezium's ``source.snapshot`` for `Op.READ`. `message` is set for `Op.MESSAGE`, whose `table` is None.
    `routing` is there where a transform said something of it.
    """

    __slots__ = ("frames", "index", "marker", "message", "op", "routing", "table", "transaction")

    def __init__(
        self,
        op: Op,
        table: Table | None,
        transaction: Transaction,
        index: int,
        frames: list[bytes],
        marker: str | None = None,
        message: LogicalMessage | None = None,
        routing: Routing | None = None,
    ) -> None:
        self.op = op
        self.table = table
        self.transaction = transaction
        self.index = index
        self.frames = frames
        self.marker = marker
        self.message = message
        self.routing = routing

    def __len__(self) -> int:
        return len(self.frames)

    def __iter__(self) -> Iterator[Change]:
        for offset, frame in enumerate(self.frames):
            yield Change(self, frame, self.index + offset)

    def __repr__(self) -> str:
        return f"Run({self.op.value} {self.table} x{len(self.frames)})"


class Change:
    """One change of one row (or a truncate, or a logical message). Never prints its values."""

    __slots__ = ("_images", "frame", "index", "run")

    def __init__(self, run: Run, frame: bytes, index: int) -> None:
        self.run = run
        self.frame = frame
        self.index = index
        self._images: tuple[Row | None, Row | None] | None = None

    @property
    def op(self) -> Op:
        return self.run.op

    @property
    def table(self) -> Table | None:
        return self.run.table

    @property
    def transaction(self) -> Transaction:
        return self.run.transaction

    @property
    def message(self) -> LogicalMessage | None:
        return self.run.message

    @property
    def lsn(self) -> Lsn:
        """The LSN of the change's own WAL record. Not unique: four rows of one COPY may share it."""
        if self.run.op is Op.READ or not self.frame:
            return Lsn(self.run.transaction.commit_lsn)
        return Lsn(int.from_bytes(self.frame[1:9], "big"))

    @property
    def position(self) -> Position:
        """Unique and sortable: the commit's LSN and the place in the transaction."""
        part = 0 if self.run.routing is None else self.run.routing.part
        return Position(Lsn(self.run.transaction.commit_lsn), self.index, part)

    @property
    def commit_time(self) -> datetime:
        return self.run.transaction.committed_at

    def images(self) -> tuple[Row | None, Row | None]:
        if self._images is None:
            table = self.run.table
            self._images = (None, None) if table is None or table.images is None else table.images(self)
        return self._images

    @property
    def before(self) -> Row | None:
        """The old row as far as the replica identity tells it: all of it under FULL, else the key's columns."""
        return self.images()[0]

    @property
    def after(self) -> Row | None:
        """The new row; None for a delete. A TOASTed column that was not sent is `UNCHANGED`."""
        return self.images()[1]

    def __repr__(self) -> str:
        return f"Change({self.op.value} {self.table} at {self.position})"


@dataclass(frozen=True, slots=True)
class Encoded:
    """Rows of a snapshot that a worker has made records of: `groups` as a serialiser makes them, of `rows` rows."""

    table: Table
    rows: int
    groups: list[tuple[str, list[dict[str, Any]]]] = field(repr=False)


@dataclass(slots=True)
class Batch:
    """Runs in commit order, and the position that is safe to store once all of them are durable.

    `position` is None while nothing new is complete (the middle of a long transaction); an idle source yields empty
    batches whose position still moves. `last_commit` is the end LSN of the last transaction that had changes.
    `ends_at_commit`: the batch does not end within a transaction.
    `flush_now`: nothing more was there to be read, so a sink should not wait for company before it sends this.
    `chunk` is there where the position lies within a transaction, whose end LSN is not known yet: then the position is
    that of the transaction before it, and counts changes.
    `checkpoint_now`: the position is to be stored before the next batch is asked for. `snapshot_done`, `snapshot`,
    `membership` and `unseen` go into the checkpoint. `dropped` are tables, by OID, of which nothing comes after
    this batch: what is kept for their rows can be freed. `encoded` comes behind the runs, and only where the pipeline
    has workers. `notifications` tell of the snapshot that rows of this batch, or of earlier ones, are of.
    `parked_requests` are to be handled behind the runs.
    `parked_requests` are to be handled behind the runs.
    """

    runs: list[Run] = field(default_factory=list)
    position: Position | None = None
    last_commit: Lsn = NOWHERE
    size: int = 0
    ends_at_commit: bool = True
    flush_now: bool = False
    checkpoint_now: bool = False
    snapshot_done: bool = True
    snapshot: dict[str, Any] = field(default_factory=dict, repr=False)
    membership: dict[str, Any] = field(default_factory=dict, repr=False)
    unseen: tuple[int, ...] = ()
    dropped: frozenset[int] = frozenset()
    encoded: list[Encoded] = field(default_factory=list)
    notifications: list[Notification] = field(default_factory=list)
    chunk: TransactionChunk | None = None
    parked_requests: list[ParkedRequest] = field(default_factory=list)

    def __iter__(self) -> Iterator[Change]:
        for run in self.runs:
            yield from run

    def __len__(self) -> int:
        return self.size

    def counts(self) -> Iterator[tuple[str, str, int]]:
        """Table (or ``message``), operation, and how many changes; a pair may come several times."""
        counted: dict[tuple[Table | None, Op], int] = {}
        for run in self.runs:
            kind = run.table, run.op
            counted[kind] = counted.get(kind, 0) + len(run.frames)
        for (table, op), count in counted.items():
            if op is not Op.BEGIN and op is not Op.END:
                yield str(table) if table is not None else "message", op.value, count
        for rows in self.encoded:
            yield str(rows.table), Op.READ.value, rows.rows
