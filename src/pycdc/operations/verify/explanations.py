"""What explains a difference: a conflict that was recorded, or a record that was parked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import psycopg
from psycopg import sql

from pycdc.clients.postgres import Connection
from pycdc.connectors.kafka.record_decoder import Decoder
from pycdc.errors import PycdcError
from pycdc.model.event import Event, Partition, Unwritable
from pycdc.operations.verify.result import TableResult
from pycdc.sinks.postgres.writing.writes import RowWrite

_MOST: Final = 10_000
"""Conflicts and parked records that are looked through, the newest first."""
_CONFLICTS: Final = """SELECT id, "table", key, kind, decision FROM {}
WHERE pipeline = %s AND "table" = ANY (%s) ORDER BY id DESC LIMIT %s"""
_PARKED: Final = """SELECT topic, partition, "offset", key, value, header_names, header_values FROM {}
WHERE pipeline = %s ORDER BY parked_at DESC LIMIT %s"""

_RowName = tuple[str, frozenset[tuple[str, str]]]
"""A table, and the columns and texts of a key."""


def explain(
    tables: Sequence[TableResult],
    connection: Connection,
    schema: str,
    pipeline: str,
    decoder: Decoder,
    writes: Callable[[Event], list[RowWrite]],
) -> None:
    """Add what is known to the differences of `tables`. Raises psycopg.Error.

    `schema` is that of the pipeline's own tables.
    """
    differing = [table for table in tables if table.differences]
    if not differing:
        return
    known = {
        **_conflicts(connection, schema, pipeline, sorted({table.table for table in differing})),
        **_parked(connection, schema, pipeline, decoder, writes),
    }
    for table in differing:
        table.differences = [
            replace(one, explanation=known.get(_name(one.table, one.key), one.explanation)) for one in table.differences
        ]


def _name(table: str, key: Mapping[str, Any]) -> _RowName:
    return table, frozenset((column, str(text)) for column, text in key.items())


def _conflicts(connection: Connection, schema: str, pipeline: str, tables: list[str]) -> dict[_RowName, str]:
    query = sql.SQL(_CONFLICTS).format(sql.Identifier(schema, "conflicts"))
    try:
        rows = connection.execute(query, (pipeline, tables, _MOST)).fetchall()
    except psycopg.errors.UndefinedTable:
        return {}
    return {
        _name(table, key): f"conflict {number}: {kind}, {decision}" for number, table, key, kind, decision in rows[::-1]
    }


def _parked(
    connection: Connection, schema: str, pipeline: str, decoder: Decoder, writes: Callable[[Event], list[RowWrite]]
) -> dict[_RowName, str]:
    out: dict[_RowName, str] = {}
    query = sql.SQL(_PARKED).format(sql.Identifier(schema, "parked"))
    try:
        rows = connection.execute(query, (pipeline, _MOST)).fetchall()
    except psycopg.errors.UndefinedTable:
        return {}
    for topic, number, offset, key, value, names, values in rows:
        headers = tuple(zip(names, (None if one is None else bytes(one) for one in values), strict=True))
        try:
            event = decoder.event(
                Partition(topic, number),
                offset,
                0,
                None if key is None else bytes(key),
                None if value is None else bytes(value),
                headers,
            )
            found = [] if event.problem else writes(event)
        except (Unwritable, PycdcError):
            continue
        for write in found:
            named = _name(str(write.shape.table), dict(zip(write.shape.key, write.key, strict=True)))
            out[named] = f"parked record {topic}[{number}] offset {offset}"
    return out
