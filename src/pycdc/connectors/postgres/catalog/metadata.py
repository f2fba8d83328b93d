"""What the catalogs tell, as values: servers, slots, tables, publications. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from pycdc.connectors.postgres.catalog.keyset import Keyset
from pycdc.model.change import Column, Lsn


@dataclass(frozen=True, slots=True)
class ServerMetadata:
    """What the server is, and how it is configured.

    `version` as server_version_num (150018). `current_lsn` is the WAL's write position, or the replayed one in
    recovery. `wal_sender_timeout` is in seconds, 0 for none; `max_slot_wal_keep_size` in bytes, None for unlimited.
    `idle_slot_timeout` is idle_replication_slot_timeout in seconds (Postgres 18), 0 for none. `output_plugins` is
    output_plugin_libraries, None where the server has no such setting.
    """

    version: int
    system_identifier: str
    timeline: int
    database: str
    database_oid: int
    encoding: str
    wal_level: str
    current_lsn: Lsn
    in_recovery: bool
    max_replication_slots: int
    used_replication_slots: int
    max_wal_senders: int
    max_slot_wal_keep_size: int | None
    wal_sender_timeout: float
    idle_slot_timeout: float
    output_plugins: str | None
    role: str
    role_replicates: bool


@dataclass(frozen=True, slots=True)
class SlotMetadata:
    """A row of pg_replication_slots.

    `invalidation` is why the slot can no longer be read, in the server's word (``rows_removed``, ``wal_removed`` …;
    ``lost`` before Postgres 17), None while it can. `safe_wal_size` and `retained_bytes` are bytes; the former is None
    without max_slot_wal_keep_size. `two_phase` stays true once the slot was read with that option.
    """

    name: str
    plugin: str | None
    database: str | None
    temporary: bool
    active_pid: int | None
    confirmed_flush: Lsn | None
    restart_lsn: Lsn | None
    wal_status: str | None
    safe_wal_size: int | None
    retained_bytes: int | None
    invalidation: str | None
    failover: bool
    synced: bool
    two_phase: bool = False


@dataclass(frozen=True, slots=True)
class StandbySlot:
    """A slot that synchronized_standby_slots names: failover slots send nothing that its standby does not have yet."""

    name: str
    active: bool


@dataclass(frozen=True, slots=True)
class XminHolder:
    """What keeps vacuum from removing dead rows, and decoding from forgetting the catalog's.

    It is a session, a slot, a standby or a prepared transaction. `age` is in transactions.
    """

    kind: str
    name: str
    age: int

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True)
class ReplicationLag:
    """How far a slot's reader is behind the server, in bytes.

    `sent` and `flushed` are what the walsender reports of its reader, None while nobody reads (or this role may not see
    it).
    """

    current: Lsn
    confirmed: Lsn
    restart: Lsn | None
    sent: Lsn | None
    flushed: Lsn | None
    replay_lag: timedelta | None

    @property
    def bytes(self) -> int:
        return max(0, self.current - self.confirmed)

    @property
    def retained(self) -> int:
        return max(0, self.current - self.restart) if self.restart is not None else 0


@dataclass(frozen=True, slots=True)
class TableRef:
    """A table that matched a pattern.

    `kind` is r or p(artitioned). `root` is the topmost table that it is a partition of and that the patterns name too.
    `rows_estimate` is None where the table was never analysed.
    """

    oid: int
    schema: str
    name: str
    kind: str = "r"
    rows_estimate: int | None = None
    root: int | None = None

    @property
    def is_partition(self) -> bool:
        return self.root is not None

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"


def arriving(tables: Sequence[TableRef], *, via_root: bool) -> list[TableRef]:
    """Return the tables under whose names rows arrive: roots instead of partitions, or partitions instead of roots."""
    if via_root:
        oids = {ref.oid for ref in tables}
        return [ref for ref in tables if ref.root not in oids]
    return [ref for ref in tables if ref.kind != "p"]


@dataclass(frozen=True, slots=True)
class TableMetadata:
    """A table as it is now, which may be later than the row at hand: advisory.

    `columns` are in the table's order, `key` in the constraint's. `identity` is pg_class.relreplident. `deferrable`: a
    key or unique constraint is.
    """

    oid: int
    schema: str
    name: str
    kind: str
    identity: str
    columns: Mapping[str, Column]
    key: tuple[str, ...]
    has_primary_key: bool
    deferrable: bool = False


@dataclass(frozen=True, slots=True)
class PublishedTable:
    """A table of a publication.

    `columns` None: all of them, stored generated ones only where the publication has `generated`. `row_filter` is SQL.
    """

    schema: str
    name: str
    columns: tuple[str, ...] | None = None
    row_filter: str | None = None
    generated: bool = False

    def sends(self, column: Column) -> bool:
        """Return whether the stream has the column."""
        if self.columns is not None:
            return column.name in self.columns
        return not column.generated or (self.generated and not column.virtual)

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True, slots=True)
class PublicationMetadata:
    """A publication.

    `operations` is a subset of insert, update, delete, truncate. `owned`: this role may alter it. `tables` are those
    under whose names rows arrive, `covered` the OIDs of these and of the partitioned tables and partitions behind.
    """

    name: str
    all_tables: bool
    operations: frozenset[str]
    via_partition_root: bool
    generated_columns: bool
    owner: str
    owned: bool
    tables: tuple[PublishedTable, ...]
    covered: frozenset[int]


@dataclass(frozen=True, slots=True)
class CopySource:
    """What a snapshot reads of a table, so that it equals what the stream sends: the same columns, the same filter.

    `only`: without the tables that inherit from it, whose rows the stream sends under their own names. `keyset` is the
    order by its key, None where there is none.
    """

    schema: str
    name: str
    columns: tuple[str, ...]
    row_filter: str | None = None
    only: bool = False
    keyset: Keyset | None = None


def missing_tables(tables: Sequence[TableRef], present: PublicationMetadata) -> list[TableRef]:
    """Return the tables that the publication lacks, without partitions whose root is there or missing too."""
    return [table for table in topmost(tables) if table.oid not in present.covered]


def topmost(tables: Sequence[TableRef]) -> list[TableRef]:
    """Return the tables without the partitions whose root is among them."""
    oids = {table.oid for table in tables}
    return [table for table in tables if table.root is None or table.root not in oids]
