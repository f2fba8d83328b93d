"""The forms that records come in, and what a form needs to know of a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from pycdc.model.change import Run, Transaction
from pycdc.rows.change_events import Event
from pycdc.rows.encoder import Append, Lacking, Record, RowEncoder, Slow
from pycdc.rows.plan import Plan
from pycdc.rows.schema import Schema
from pycdc.serialization.flatten import Flattening
from pycdc.serialization.headers import Header
from pycdc.serialization.row_headers import RowHeaders
from pycdc.serialization.source_info import Block, Moment, Origin


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """Where the rows of one table version go, and how. `form` is what the form prepared for it; `row_headers` are
    those of single rows; `flat`: what becomes of rows without an envelope. `tombstones`: each delete is followed by a
    null value. `headers` and `delete_headers` stand on all records, None for none. `parked`: headers that say why they
    do not go to the topic that they are meant for."""

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
    def plan(self) -> Plan:
        return self.encoder.plan


class Form(Protocol):
    """How records are written: Avro by registry id, or JSON."""

    def prepare(self, topic: str, key: Schema | None, value: Schema) -> Any:
        """What the form needs per table version, ids for instance. The only place that may ask a registry."""

    def stamp(self, transaction: Transaction, origin: Origin) -> Any:
        """What all records of a transaction share, for `rows`."""

    def rows(
        self,
        runs: list[tuple[Run, Any]],
        target: Target,
        origin: Origin,
        moment: Moment,
        append: Append,
        slow: Slow,
        lacking: Lacking,
    ) -> bool:
        """Write runs of one operation, with the stamps of their transactions, the fast way; False, having written
        nothing, where only `event` can. `slow` is given each frame that is a surprise, `lacking` each record whose
        row was not sent whole."""

    def event(
        self, event: Event, run: Run, target: Target, origin: Origin, moment: Moment, block: Block | None
    ) -> Record:
        """One record; a truncate has neither key nor rows. Without an envelope, no rows make a null value."""

    def datums(self, prepared: Any, key: Any, value: Any) -> Record:
        """A record outside of the tables' topics, from Connect values. A key that is None is null."""
