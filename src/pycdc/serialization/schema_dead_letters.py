"""Rows whose schema the registry refuses: they go to the dead letters, until it takes the schema.

A parked record is what the table's topic would have got, byte for byte but for the schema ids of a subject that no
other schema was ever registered under: copied into the table's topic, it is what it was meant to be. The registry is
asked again with the table's next rows, at most every `ASK_AGAIN` seconds.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Set
from dataclasses import dataclass, replace
from typing import Any, Final

from pycdc.errors import SchemaIncompatible
from pycdc.model.change import Lsn, Position, Routing, Run, Table
from pycdc.observability.logger import get_logger
from pycdc.observability.progress import Progress
from pycdc.rows.change_events import RecordPlan
from pycdc.rows.schema import Schema, avro_text
from pycdc.serialization.avro_format import AvroFormat, AvroPart
from pycdc.serialization.headers import Header
from pycdc.serialization.record_format import TableEncoder

log = get_logger()

ASK_AGAIN: Final = 10.0
"""Seconds between two questions about a schema that was refused."""
_REASON: Final = 2000
"""Bytes of the difference that a header holds."""

BatchPlace = tuple[Table, bool, Routing | None]
"""A table version, whether a snapshot read it, and where a transform sends it."""
PrepareTable = Callable[[str, Schema | None, Schema], Any]
"""As `Form.prepare`."""
Make = Callable[[BatchPlace, PrepareTable], TableEncoder]


@dataclass(slots=True)
class _Parked:
    target: TableEncoder
    ask_again: float = 0.0


class SchemaDeadLetters:
    """Knows which table versions are refused at present.

    `id_for` registers a text under a subject; `topic` is where parked records go. What is refused stands in
    `progress.refused` until rows of the table are accepted again.
    """

    def __init__(
        self,
        topic: str,
        id_for: Callable[[str, str], int],
        progress: Progress,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._topic = topic
        self._id_for = id_for
        self._progress = progress
        self._clock = clock
        self._parked: dict[BatchPlace, _Parked] = {}

    def target(self, place: BatchPlace, make: Make, prepare: PrepareTable) -> TableEncoder:
        """Return where rows of the table go at present. `make` builds the target of a place, `prepare` is the format's.

        Raises SchemaIncompatible for a schema that is no legal Avro: nothing could hold such rows.
        """
        parked = self._parked.get(place)
        if parked is not None and self._clock() < parked.ask_again:
            return parked.target
        try:
            target = make(place, prepare)
        except SchemaIncompatible as refusal:
            return self._park(place, make, refusal)
        self._accepted(place)
        return target

    def forget(self, oids: Set[int]) -> None:
        """Forget these tables, of which nothing more comes."""
        self._parked = {place: parked for place, parked in self._parked.items() if place[0].oid not in oids}

    def headers(self, run: Run, event: RecordPlan, target: TableEncoder) -> list[Header]:
        """Return the headers of one parked record, and count it: why it is here, and where it stands in the source."""
        table = str(run.table)
        self._progress.parked_rows[table] = self._progress.parked_rows.get(table, 0) + 1
        position = Position(Lsn(run.transaction.commit_lsn), event.index)
        return [
            *target.parked,
            ("__pycdc.lsn", str(Lsn(event.lsn)).encode()),
            ("__pycdc.position", str(position).encode()),
        ]

    def _park(self, place: BatchPlace, make: Make, refusal: SchemaIncompatible) -> TableEncoder:
        parked = self._parked.get(place)
        if parked is None:
            meant = make(place, self._prepared)
            target = replace(meant, topic=self._topic, parked=_headers(place[0], meant.topic, refusal))
            parked = self._parked[place] = _Parked(target)
        parked.ask_again = self._clock() + ASK_AGAIN
        table = str(place[0])
        if self._progress.refused.get(table) != refusal.fact:
            self._progress.refused[table] = refusal.fact
            log.warning("parking rows of a table", table=table, topic=self._topic, reason=refusal.fact)
        return parked.target

    def _prepared(self, topic: str, key: Schema | None, value: Schema) -> Any:
        """Under subjects of this very pair of schemas, which nothing can be incompatible with."""
        texts = avro_text(value) if key is None else avro_text(key) + avro_text(value)
        base = f"{self._topic}.{topic}.{hashlib.sha256(texts.encode()).hexdigest()[:12]}"

        def schema_id(topic: str, part: AvroPart, schema: Schema) -> int:
            return self._id_for(f"{base}-{part}", avro_text(schema))

        return AvroFormat(schema_id).prepare(topic, key, value)

    def _accepted(self, place: BatchPlace) -> None:
        self._forget(place)
        if self._progress.refused.pop(str(place[0]), None) is not None:
            log.warning("rows of a table go to its topic again", table=str(place[0]))

    def _forget(self, place: BatchPlace) -> None:
        """Forget that version, and older ones of the table, which no longer come."""
        table, read, _ = place
        for old in [old for old in self._parked if old[0].oid == table.oid and old[1] == read]:
            if old == place or old[0] is not table:
                del self._parked[old]


def _headers(table: Table, topic: str, refusal: SchemaIncompatible) -> tuple[Header, ...]:
    return (
        ("__pycdc.error", b"SchemaIncompatible"),
        ("__pycdc.reason", refusal.fact.encode("utf-8", "replace")[:_REASON]),
        ("__pycdc.subject", refusal.subject.encode()),
        ("__pycdc.topic", topic.encode()),
        ("__pycdc.table", str(table).encode()),
    )
