"""Keep how the rows of each table version are encoded: decided once, when its first row comes."""

from __future__ import annotations

from collections.abc import Set

from pycdc.config.pipeline import CapturePipeline
from pycdc.model.change import Op, Routing, Run, Table
from pycdc.rows.encoder import OnNull, RowEncoder
from pycdc.rows.plan import plan_table
from pycdc.serialization import envelope
from pycdc.serialization.flatten import Flattening
from pycdc.serialization.headers import Header
from pycdc.serialization.names import DEFAULT_TOPIC, routed, topic_name
from pycdc.serialization.record_format import RecordFormat, TableEncoder
from pycdc.serialization.row_headers import RowHeaders
from pycdc.serialization.schema_dead_letters import BatchPlace, PrepareTable, SchemaDeadLetters


class TableEncoders:
    """Makes and keeps the `TableEncoder` of each live table version.

    `flat` is what becomes of rows without an envelope, `context` the headers of every record. With `dead_letters`, rows
    whose schema the registry refuses are set apart.
    """

    def __init__(
        self,
        config: CapturePipeline,
        form: RecordFormat,
        on_null: OnNull,
        flat: Flattening | None,
        context: list[Header],
        dead_letters: SchemaDeadLetters | None,
    ) -> None:
        self._config = config
        self._form = form
        self._on_null = on_null
        self._flat = flat
        self._context = context
        self._dead_letters = dead_letters
        self._encoders: dict[BatchPlace, TableEncoder] = {}
        self._newest: dict[tuple[int, bool, bool], Table] = {}

    def of(self, run: Run, table: Table) -> TableEncoder:
        """Return how the rows of a run are encoded. `table` is theirs as it was when they were written."""
        routing = run.routing
        if routing is not None:
            routing = None if routing.topic is None else Routing(routing.topic, dead=routing.dead)
        place = (table, run.op is Op.READ, routing)
        found = self._encoders.get(place)
        return found if found is not None else self._admit(place)

    def prepare(self, table: Table) -> None:
        """Do at once what the first row that a snapshot reads of `table` would make necessary: ask for ids, say."""
        self._admit((table, True, None))

    def topics(self) -> list[str]:
        """Return the topics of the tables seen so far."""
        return sorted({encoder.topic for encoder in self._encoders.values()})

    def forget(self, oids: Set[int]) -> None:
        """Forget these tables, of which nothing more comes."""
        self._encoders = {place: found for place, found in self._encoders.items() if place[0].oid not in oids}
        self._newest = {version: table for version, table in self._newest.items() if version[0] not in oids}
        if self._dead_letters is not None:
            self._dead_letters.forget(oids)

    def row_encoder(self, table: Table, *, snapshot: bool, flat: bool = False) -> RowEncoder:
        """Return the encoder of a table's rows under the rules of the configuration."""
        config = self._config
        plan = plan_table(table, config.rules, config.values, config.compatibility, snapshot=snapshot)
        return RowEncoder(plan, self._on_null, flat=flat)

    def _admit(self, place: BatchPlace) -> TableEncoder:
        """Make the encoder of a table version that is new, or was refused the last time."""
        prepare = self._form.prepare
        if self._dead_letters is None:
            made = self._make(place, prepare)
        else:
            made = self._dead_letters.target(place, self._make, prepare)
        self._replace_older(place)
        if not made.parked:
            self._encoders[place] = made
        return made

    def _replace_older(self, place: BatchPlace) -> None:
        """Forget an older version, which no longer comes: the map stays as large as the number of live tables."""
        table, snapshot, dead = version = _version(place)
        newest = self._newest.setdefault((table.oid, snapshot, dead), table)
        if newest is not table:
            self._newest[table.oid, snapshot, dead] = version[0]
            for old in [old for old in self._encoders if _version(old) == (newest, snapshot, dead)]:
                del self._encoders[old]

    def _make(self, place: BatchPlace, prepare: PrepareTable) -> TableEncoder:
        table, snapshot, routing = place
        name, adjust = self._config.name, self._config.envelope.adjust_names
        dead = is_dead(routing)
        flat = None if dead else self._flat
        encoder = self.row_encoder(table, snapshot=snapshot, flat=flat is not None)
        plan = encoder.plan
        if routing is not None:
            topic = topic_name(routing.topic or "")
        else:
            pattern = plan.topic or DEFAULT_TOPIC
            topic = routed(pattern, name=name, schema=table.schema, table=table.name)
        key = envelope.key_schema(plan, name, adjust=adjust)
        value = envelope.envelope_schema(plan, name, adjust=adjust) if flat is None else flat.schema(plan, name)
        # Dead letters of all tables share a topic, and no registry takes their schemas for versions of one.
        subject = topic_name(f"{topic}.{table}") if dead else topic
        prepared = prepare(subject, key, value)
        tombstones = self._config.envelope.tombstones and not dead and (flat is None or flat.followed_by_tombstone)
        of_rows, context = RowHeaders(encoder, key, adjust=adjust), self._context
        headers, delete_headers = context or None, of_rows.known + context or None
        return TableEncoder(topic, encoder, key, value, prepared, of_rows, flat, tombstones, headers, delete_headers)


def is_dead(routing: Routing | None) -> bool:
    """Return whether a transform failed at the rows, so that they go to the dead letters."""
    return routing is not None and routing.dead


def _version(place: BatchPlace) -> tuple[Table, bool, bool]:
    """Return a place without its topic. What a transform failed at stands beside what it made."""
    return place[0], place[1], is_dead(place[2])
