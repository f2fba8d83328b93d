"""What was recorded and what is parked, for whoever looks at it afterwards."""

from __future__ import annotations

import base64
import json
from decimal import Decimal
from functools import partial
from typing import Any, Final, LiteralString, NamedTuple

from psycopg import sql
from psycopg.rows import dict_row
from psycopg.types.json import set_json_loads

from pycdc.clients.postgres import Connection
from pycdc.model.event import Partition

_COLUMNS: Final = """id, topic, partition, "offset", "table", key, kind, decision, current_origin,
    current_committed_at, event_time, detected_at, resolved_at, resolution"""
_LIST: Final = """SELECT {columns} FROM {conflicts}
WHERE pipeline = %s AND (NOT %s OR (decision = 'parked' AND resolved_at IS NULL))
    AND (%s::text IS NULL OR "table" = %s) AND (%s::text IS NULL OR kind = %s)
ORDER BY id DESC LIMIT %s"""
_SHOW: Final = "SELECT {columns}, current, incoming, before FROM {conflicts} WHERE pipeline = %s AND id = %s"
_PARKED: Final = """SELECT topic, partition, "offset", key, error, sqlstate, parked_at FROM {parked}
WHERE pipeline = %s ORDER BY topic, partition, "offset" LIMIT %s"""
_RESOLVED: Final = """UPDATE {conflicts} SET resolved_at = now(), resolution = %s
WHERE pipeline = %s AND resolved_at IS NULL AND (id = %s OR (topic = %s AND partition = %s AND "offset" = %s))"""


class RecordPlace(NamedTuple):
    """One record of a topic."""

    partition: Partition
    offset: int

    def __str__(self) -> str:
        return f"{self.partition}@{self.offset}"


class ConflictHistory:
    def __init__(self, connection: Connection, pipeline: str, schema: str) -> None:
        self._connection = connection
        self._pipeline = pipeline
        self._names: dict[str, sql.Composable] = {
            "columns": sql.SQL(_COLUMNS),
            "conflicts": sql.Identifier(schema, "conflicts"),
            "parked": sql.Identifier(schema, "parked"),
        }
        set_json_loads(partial(json.loads, parse_float=Decimal), connection)

    def conflicts(
        self, *, unresolved: bool = False, table: str | None = None, kind: str | None = None, limit: int = 100
    ) -> list[dict[str, Any]]:
        """Return recorded conflicts, the newest first. `unresolved`: only those that are parked and wait."""
        table = table if table is None or "." in table else f"public.{table}"
        return self._rows(_LIST, self._pipeline, unresolved, table, table, kind, kind, limit)

    def conflict(self, number: int) -> dict[str, Any] | None:
        found = self._rows(_SHOW, self._pipeline, number)
        return found[0] if found else None

    def parked(self, limit: int = 100) -> list[dict[str, Any]]:
        """Return parked records in the order of their offsets. A key that is not text is in base64."""
        rows = self._rows(_PARKED, self._pipeline, limit)
        return [{**row, "key": key_text(row["key"])} for row in rows]

    def resolved(self, resolution: str, *, number: int | None = None, place: RecordPlace | None = None) -> None:
        """Mark one conflict, or all of a record."""
        where = (None, None, None) if place is None else (*place.partition, place.offset)
        self._connection.execute(self._sql(_RESOLVED), (resolution, self._pipeline, number, *where))

    def _rows(self, query: LiteralString, *parameters: Any) -> list[dict[str, Any]]:
        with self._connection.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(self._sql(query), parameters).fetchall()

    def _sql(self, text: LiteralString) -> sql.Composed:
        return sql.SQL(text).format(**self._names)


def key_text(key: bytes | None) -> str | None:
    if key is None:
        return None
    try:
        text = key.decode()
    except UnicodeDecodeError:
        text = ""
    # Whatever could not be typed, or would be shown in another way: Avro begins with a zero byte.
    return text if text.isprintable() and (text or not key) else "base64:" + base64.b64encode(key).decode()


def key_bytes(text: str) -> bytes:
    """Return the bytes that `key_text` showed."""
    found = text.removeprefix("base64:")
    return text.encode() if found == text else base64.b64decode(found)
