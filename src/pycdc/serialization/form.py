"""The forms that records come in, and what a form needs to know of a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from pycdc.model import Run
from pycdc.rows.encoder import Record, RowEncoder
from pycdc.rows.plan import Plan
from pycdc.rows.schema import Schema
from pycdc.serialization.events import Event
from pycdc.serialization.flatten import Flattening
from pycdc.serialization.headers import Header
from pycdc.serialization.provenance import Block, Moment, Origin


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """Where the rows of one table version go, and how. `form` is what the form prepared for it; `flat`: what becomes
    of rows without an envelope. `parked`: headers that say why they do not go to the topic that they are meant for."""

    topic: str
    encoder: RowEncoder
    key_schema: Schema | None
    value_schema: Schema
    form: Any
    flat: Flattening | None = None
    parked: tuple[Header, ...] = ()

    @property
    def plan(self) -> Plan:
        return self.encoder.plan


class Form(Protocol):
    """How records are written: Avro by registry id, or JSON."""

    def prepare(self, topic: str, key: Schema | None, value: Schema) -> Any:
        """What the form needs per table version, ids for instance. The only place that may ask a registry."""

    def rows(self, run: Run, target: Target, origin: Origin, moment: Moment, out: list[Record]) -> bool:
        """Write a whole run the fast way; False, having written nothing, where only `event` can."""

    def event(
        self, event: Event, run: Run, target: Target, origin: Origin, moment: Moment, block: Block | None
    ) -> Record:
        """One record; a truncate has neither key nor rows. Without an envelope, no rows make a null value."""

    def datums(self, prepared: Any, key: Any, value: Any) -> Record:
        """A record outside of the tables' topics, from Connect values. A key that is None is null."""
