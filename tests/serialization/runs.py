"""Tables, runs and a serialiser that keeps what it registers, for tests that need no server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pycdc.config import validate_capture
from pycdc.config.pipeline import CapturePipeline
from pycdc.model.change import Batch, Column, Lsn, Op, PgType, Position, Run, Table, Transaction
from pycdc.rows.schema import Schema
from pycdc.rows.tuples import ColumnBytes
from pycdc.serialization.avro_format import AvroFormat
from pycdc.serialization.record_format import RecordFormat
from pycdc.serialization.serializer import Serializer
from tests.connectors.postgres import frames
from tests.recording import Schemas

COMMIT = 0x16_B374_D848
TIME = 1_795_250_254_570_281
"""Commit time, microseconds since the Unix epoch."""


def column(name: str, kind: str | PgType = "text", **facts: Any) -> Column:
    return Column(name, PgType(0, kind) if isinstance(kind, str) else kind, **facts)


ID = column("id", "int4", identity=True, nullable=False)
USERS = Table(1, "public", "users", (ID, column("name"), column("age", "int4", nullable=False)), ("id",))
FULL = Table(2, "public", "full", (ID, column("name"), column("big")), ("id",), "f")
LOG = Table(3, "public", "log", (column("a", "int4"), column("b")))


def transaction(xid: int | None = 7, previous: int = 500, commit: int = COMMIT) -> Transaction:
    """As the assembler makes it: LSNs print themselves in Postgres' notation."""
    return Transaction(xid, Lsn(commit), TIME, Lsn(previous))


def run(op: Op, table: Table | None, *messages: bytes, of: Transaction | None = None, index: int = 0) -> Run:
    """A run of pgoutput messages, each at an LSN of its own; of lines of COPY for reads."""
    packed = (
        list(messages) if op is Op.READ else [frames.xlog(m, start=COMMIT - 99 + n) for n, m in enumerate(messages)]
    )
    return Run(op, table, of or transaction(), index, packed, "last" if op is Op.READ else None)


def inserts(table: Table, *rows: Sequence[ColumnBytes]) -> Run:
    return run(Op.CREATE, table, *(frames.insert(table.oid, row) for row in rows))


def batch(*runs: Run, position: bool = True) -> Batch:
    return Batch(list(runs), Position(Lsn(COMMIT + 8)) if position else None, size=sum(map(len, runs)))


def configured(**options: Any) -> CapturePipeline:
    return validate_capture(
        {"name": "shop", "source": {"postgres": {"dsn": "postgresql://x"}}, "sink": {"console": {}}, **options}
    )


@dataclass
class Decoded:
    """A record as a consumer sees it. `value` is None for a tombstone."""

    topic: str
    key: Any
    value: Any
    headers: list[tuple[str, bytes]]


class PlainForm(AvroFormat):
    """The reference implementation of the compiled loops."""

    def rows(self, *_: Any) -> bool:
        return False


def by_topic(groups: list[tuple[str, list[dict[str, Any]]]]) -> dict[str, list[dict[str, Any]]]:
    """Records in the order of each topic."""
    out: dict[str, list[dict[str, Any]]] = {}
    for topic, records in groups:
        out.setdefault(topic, []).extend(records)
    return out


class Recorder:
    """A serializer; `asked` is what its form, Avro unless one is given, asked the registry for. `plain`: row by row."""

    def __init__(self, *, plain: bool = False, form: RecordFormat | None = None, **options: Any) -> None:
        self.schemas = Schemas()
        self.asked: list[tuple[str, str, str | None]] = []
        self.nulls: list[tuple[str, str]] = []
        form = form or (PlainForm(self._id) if plain else AvroFormat(self._id))
        self.serializer = Serializer(configured(**options), "db", form, lambda *where: self.nulls.append(where))

    def _id(self, topic: str, part: str, schema: Schema) -> int:
        self.asked.append((topic, part, schema.name))
        return self.schemas(topic, part, schema)

    def groups(self, *runs: Run) -> list[tuple[str, list[dict[str, Any]]]]:
        return self.serializer.serialize(batch(*runs))

    def records(self, *runs: Run) -> list[Decoded]:
        return [self.decoded(topic, record) for topic, records in self.groups(*runs) for record in records]

    def decoded(self, topic: str, record: dict[str, Any]) -> Decoded:
        key, value = (
            None if record[part] is None else self.schemas.decode(record[part])[1] for part in ("key", "value")
        )
        return Decoded(topic, key, value, record.get("headers", []))
