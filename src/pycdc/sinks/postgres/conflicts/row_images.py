"""Write a recorded row after all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from psycopg import sql

from pycdc.clients.postgres import Connection
from pycdc.errors import ApplyError
from pycdc.sinks.postgres.conflicts.conflict_table import as_json
from pycdc.sinks.postgres.target_tables import TargetTable
from pycdc.sinks.postgres.writing.identifiers import ParameterSafeIdentifier, ParameterSafeLiteral

_UPDATE = "UPDATE {table} AS {t} SET {pairs} WHERE {same_key}"
_INSERT = """INSERT INTO {table} ({columns}) OVERRIDING SYSTEM VALUE
SELECT {columns} FROM jsonb_populate_record(NULL::{table}, %s::jsonb)"""
_DELETE = "DELETE FROM {table} AS {t} WHERE {same_key}"


def write_image(connection: Connection, table: TargetTable, conflict: Mapping[str, Any], side: str) -> None:
    """Write what `side` would have left, whatever the row is now. `conflict` is a row of the table of conflicts.

    Raises ApplyError where its rows were not kept.
    """
    key, current, incoming = conflict["key"], conflict["current"], conflict["incoming"]
    removes = conflict["kind"].startswith("delete_")
    if current is None and incoming is None and not (removes and side == "incoming"):
        raise ApplyError(
            f"conflict {conflict['id']} was recorded without its rows", hint="put the row right by hand, or keep values"
        )
    if side == "incoming":
        _write(connection, table, key, None if removes else incoming, {**key, **(incoming or {})})
    elif removes:
        _write(connection, table, key, current, current)
    elif current is not None:
        _write(connection, table, key, {name: current[name] for name in incoming}, current)


def keep_image(connection: Connection, table: TargetTable, conflict: Mapping[str, Any]) -> None:
    """Write what the side of the rows would have left."""
    write_image(connection, table, conflict, "existing")


def touch(connection: Connection, table: TargetTable, conflict: Mapping[str, Any]) -> None:
    """Write the row as it is, so that a capture tells it."""
    key = conflict["key"]
    pairs = sql.SQL(", ").join(
        sql.SQL("{0} = {1}.{0}").format(ParameterSafeIdentifier(name), table.alias) for name in key
    )
    names = {"table": table.identifier, "t": table.alias, "same_key": _same_key(table, key)}
    connection.execute(sql.SQL(_UPDATE).format(pairs=pairs, **names), [as_json(key)] * len(key))


def _write(
    connection: Connection,
    table: TargetTable,
    key: Mapping[str, Any],
    values: Mapping[str, Any] | None,
    whole: Mapping[str, Any],
) -> None:
    """Write `values` into the row, `whole` where there is none; None deletes it."""
    names = {"table": table.identifier, "t": table.alias, "same_key": _same_key(table, key)}
    keys = [as_json(key)] * len(key)
    if values is None:
        connection.execute(sql.SQL(_DELETE).format(**names), keys)
        return
    pairs = sql.SQL(", ").join(
        sql.SQL("{0} = (jsonb_populate_record({1}, %s::jsonb)).{0}").format(ParameterSafeIdentifier(name), table.alias)
        for name in values
    )
    updated = connection.execute(sql.SQL(_UPDATE).format(pairs=pairs, **names), [as_json(values)] * len(values) + keys)
    if updated.rowcount == 0:
        columns = sql.SQL(", ").join(
            ParameterSafeIdentifier(name)
            for name in whole
            if name in table.columns and not table.columns[name].generated
        )
        connection.execute(sql.SQL(_INSERT).format(columns=columns, **names), [as_json(whole)])


def _same_key(table: TargetTable, key: Mapping[str, Any]) -> sql.Composed:
    return sql.SQL(" AND ").join(
        sql.SQL("{}.{} = (%s::jsonb ->> {})::{}").format(
            table.alias,
            ParameterSafeIdentifier(name),
            ParameterSafeLiteral(name),
            ParameterSafeIdentifier(*table.columns[name].type),
        )
        for name in key
    )
