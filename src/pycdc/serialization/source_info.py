"""What records say beside the rows: whose they are, where in the source they come from, and when they were made."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from pycdc.model.change import Op, Run
from pycdc.serialization.headers import Header
from pycdc.version import __version__


@dataclass(frozen=True, slots=True)
class SourceOrigin:
    """What every record of a pipeline says of its source. `name` is the topic prefix."""

    name: str
    database: str
    version: str = __version__
    connector: str = "postgresql"


def context_headers(origin: SourceOrigin) -> list[Header]:
    """Return the context headers, which are the same for every record."""
    return [
        ("__debezium.context.connectorLogicalName", origin.name.encode()),
        ("__debezium.context.taskId", b"0"),
        ("__debezium.context.connectorName", origin.connector.encode()),
    ]


@dataclass(frozen=True, slots=True)
class ProcessingTime:
    """Processing time of a batch, nanoseconds since the Unix epoch."""

    ns: int

    @classmethod
    def now(cls) -> ProcessingTime:
        return cls(time.time_ns())

    @property
    def us(self) -> int:
        return self.ns // 1000

    @property
    def ms(self) -> int:
        return self.ns // 1_000_000


@dataclass(frozen=True, slots=True)
class TransactionMetadata:
    """Debezium's ``transaction`` block: only with envelope.transaction_metadata."""

    id: str
    total_order: int
    data_collection_order: int


def block_datum(block: TransactionMetadata | None) -> dict[str, Any] | None:
    """Return the ``transaction`` block as Connect values."""
    if block is None:
        return None
    return {
        "id": block.id,
        "total_order": block.total_order,
        "data_collection_order": block.data_collection_order,
    }


def sequence_head(run: Run) -> bytes:
    """``source.sequence`` up to the row's own LSN, which `"]` follows."""
    return sequence_before(run.transaction.previous_end if run.op is not Op.READ else 0)


def sequence_before(previous: int) -> bytes:
    """``source.sequence`` behind the transaction that ended at `previous`, 0 if there was none."""
    return b'["%d","' % previous if previous else b'[null,"'


def source_datum(run: Run, origin: SourceOrigin, lsn: int) -> dict[str, Any]:
    """Return the ``source`` block as Connect values."""
    transaction, table = run.transaction, run.table
    return {
        "version": origin.version,
        "connector": origin.connector,
        "name": origin.name,
        "ts_ms": transaction.commit_time // 1000,
        "snapshot": run.marker or "false",
        "db": origin.database,
        "sequence": f'{sequence_head(run).decode()}{lsn:d}"]',
        "ts_us": transaction.commit_time,
        "ts_ns": transaction.commit_time * 1000,
        "schema": table.schema if table is not None else "",
        "table": table.name if table is not None else "",
        "txId": transaction.xid,
        "lsn": lsn,
        "xmin": None,
        "origin": transaction.origin,
        "origin_lsn": transaction.origin_lsn,
    }
