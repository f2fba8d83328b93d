"""The formats of records, and what a format needs to know of a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from pycdc.model.change import Run, Transaction
from pycdc.rows.change_events import RecordPlan
from pycdc.rows.encoder import Append, EncodedParts, Lacking, RowEncoder, Slow
from pycdc.rows.plan import TablePlan
from pycdc.rows.schema import Schema
from pycdc.serialization.flatten import Flattening
from pycdc.serialization.headers import Header
from pycdc.serialization.row_headers import RowHeaders
from pycdc.serialization.source_info import ProcessingTime, SourceOrigin, TransactionMetadata


@dataclass(frozen=True, slots=True, eq=False)
class TableEncoder:
    """Where the rows of one table version go, and how they are encoded.

    `form` is what the record format prepared for it; `row_headers` are those of single rows; `flat`: what becomes of
    rows without an envelope. `tombstones`: each delete is followed by a null value. `headers` and `delete_headers`
    stand on all records, None for none. `parked`: headers with the reason why the rows do not go to the topic that they
    are meant for.
    """

    topic: str
    encoder: RowEncoder
    key_schema: Schema | None
    value_schema: Schema
    form: Any
    row_headers: RowHeaders
    flat: Flattening | None = None
    tombstones: bool = True
    headers: list[Header] | None = None
    delete_headers: list[Header] | None = None
    parked: tuple[Header, ...] = ()

    @property
    def plan(self) -> TablePlan:
        return self.encoder.plan


class RecordFormat(Protocol):
    """How records are written: Avro by registry id, or JSON."""

    def prepare(self, topic: str, key: Schema | None, value: Schema) -> Any:
        """Return what the format needs per table version, ids for instance. Only this may ask a registry."""

    def source_block(self, transaction: Transaction, origin: SourceOrigin) -> Any:
        """Return what all records of a transaction share, for `rows`."""

    def rows(
        self,
        runs: list[tuple[Run, Any]],
        target: TableEncoder,
        origin: SourceOrigin,
        moment: ProcessingTime,
        append: Append,
        slow: Slow,
        lacking: Lacking,
    ) -> bool:
        """Write runs of one operation, with the source blocks of their transactions, by a compiled loop.

        Returns False, having written nothing, where only `event` can write them. `slow` is given each frame that a
        compiled loop does not write, `lacking` each record whose row was not sent whole.
        """

    def event(
        self,
        event: RecordPlan,
        run: Run,
        target: TableEncoder,
        origin: SourceOrigin,
        moment: ProcessingTime,
        block: TransactionMetadata | None,
    ) -> EncodedParts:
        """Return one record; a truncate has neither key nor rows. Without an envelope, no rows make a null value."""

    def datums(self, prepared: Any, key: Any, value: Any) -> EncodedParts:
        """Return a record outside of the tables' topics, from Connect values. A key that is None is null."""
