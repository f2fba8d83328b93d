"""SQL for a group of writes: one statement, whatever the number of rows.

Every column travels as an array of its type, or of texts that the server casts where no array is of its type. Measured
with 8 columns on a local server, rows inserted and updated a second, 1,000 rows a transaction: 187,000 and 129,000 by
arrays of the types, 132,000 and 103,000 by arrays of texts, 119,000 and 100,000 by COPY into a temporary table and a
merge (20,000 rows: 182,000 and 126,000; 167,000 and 124,000; 209,000 and 112,000). And unnest needs no right to make
temporary tables, and works behind a pooler.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import psycopg
from psycopg import sql

from pycdc.clients.postgres import Connection
from pycdc.rows.target_column import TargetColumn
from pycdc.rows.text_values import array_of
from pycdc.sinks.postgres.writing.conflict_guards import FREE, Guard, condition
from pycdc.sinks.postgres.writing.identifiers import ParameterSafeIdentifier, joined
from pycdc.sinks.postgres.writing.key_forms import rewritten
from pycdc.sinks.postgres.writing.write_errors import NotWritten, RowMissing
from pycdc.sinks.postgres.writing.writes import RowWrite, Shape, Space, WriteGroup, shape_of

_UNHASHED: Final = ("bit", "varbit", "money", "tsvector", "tsquery")


def execute(connection: Connection, group: WriteGroup) -> int:
    """Run it; return how many rows were not found. Raises RowMissing where that is an error."""
    shape = group.shape
    if not shape.does_something:
        return 0
    values = parameters(shape, group.writes)
    lacking = len(group.writes) - max(0, connection.execute(statement(shape), values, prepare=True).rowcount)
    if lacking <= 0 or shape.operation == "delete" or spares_rows(shape):
        return 0
    if shape.moves:
        return lacking
    if shape.operation != "update" or count_rows(connection, group) == len(group.writes):
        require_equal(connection, group)
        return 0
    if shape.must_exist:
        raise RowMissing
    return lacking


def parameters(shape: Shape, writes: list[RowWrite]) -> list[str]:
    """Return an array literal for each column: key, set, add."""
    if shape.add:
        rows = [write.key + write.set + tuple(map(str, write.add)) for write in writes]
    else:
        rows = [key + values for _, key, values, *_ in writes]
    return [array_of(column) for column in zip(*rows, strict=True)]


@lru_cache(maxsize=1024)
def statement(shape: Shape, guard: Guard = FREE) -> bytes:
    """Return the statement's text, the same object for the same shape, so that the driver prepares it once.

    With a guard that `reports`, an insert or upsert returns the keys of the rows it wrote as texts, an update or delete
    the numbers of the writes, from 1. Parameters: the columns', then what the guard brings, then the guard's own.
    """
    build = {"insert": _insert, "upsert": _insert, "update": _update, "delete": _delete}[shape.operation]
    return build(shape, guard).as_string(None).encode()


def require_equal(connection: Connection, group: WriteGroup) -> None:
    """Rows were left alone that should have been written. Raises NotWritten unless they are as they should be."""
    table, operation = group.shape.table, group.shape.operation
    sparing = operation != "delete" and any(trigger.spares_equal_rows for trigger in table.triggers)
    if not sparing or count_rows(connection, group) < len(group.writes):
        raise NotWritten(str(table), table.reluctance)


def count_rows(connection: Connection, group: WriteGroup) -> int:
    """Return how many of the group's rows there are."""
    keys = [array_of(column) for column in zip(*(write.key for write in group.writes), strict=True)]
    row = connection.execute(rows_of_keys(group.shape), keys, prepare=True).fetchone()
    return 0 if row is None else int(row[0])


def has_row(connection: Connection, space: Space, key: tuple[str, ...]) -> bool:
    """Return whether the table has a row of this key; no, where the database does not take the texts for one."""
    shape = shape_of(space[0], "delete", space[1])
    try:
        with connection.transaction():
            found = connection.execute(rows_of_keys(shape), [array_of([text]) for text in key], prepare=True)
            return found.fetchone() != (0,)
    except psycopg.DataError:
        return False


def is_as_written(connection: Connection, write: RowWrite) -> bool:
    """Return whether there is a row of the write's key, and it has all values that the write sets."""
    try:
        with connection.transaction():
            found = connection.execute(_rows_as_written(write.shape), parameters(write.shape, [write]))
            return found.fetchone() != (0,)
    except psycopg.Error as error:
        if error.sqlstate is None:
            raise
        return False  # values that the database does not take, or a type that has no equality


@lru_cache(maxsize=256)
def _rows_as_written(shape: Shape) -> bytes:
    table, keys = shape.table, len(shape.key)
    same = [
        sql.SQL("{}.{}::text IS NOT DISTINCT FROM ({})::text").format(
            table.alias, ParameterSafeIdentifier(name), _cast(shape, name, keys + number)
        )
        for number, name in enumerate(shape.set)
    ]
    query = sql.SQL("SELECT count(*) FROM {} AS {} JOIN {} ON {}").format(
        table.identifier, table.alias, _rows(shape), sql.SQL(" AND ").join([same_key(shape), *same])
    )
    return query.as_string(None).encode()


@lru_cache(maxsize=1024)
def rows_of_keys(shape: Shape) -> bytes:
    """Return the query that counts the rows of keys. Parameters: the columns' of the key."""
    keys = unnested([shape.table.columns[name] for name in shape.key])
    query = sql.SQL("SELECT count(*) FROM {} AS {} JOIN {} ON {}")
    return query.format(shape.table.identifier, shape.table.alias, keys, same_key(shape)).as_string(None).encode()


def _insert(shape: Shape, guard: Guard) -> sql.Composed:
    columns = [*shape.key, *shape.set]
    out = sql.SQL("INSERT INTO {} AS {} ({}){} SELECT {} FROM {}").format(
        shape.table.identifier,
        shape.table.alias,
        joined(columns),
        sql.SQL(" OVERRIDING SYSTEM VALUE") if shape.table.overriding else sql.SQL(""),
        sql.SQL(", ").join(_cast(shape, name, number) for number, name in enumerate(columns)),
        _rows(shape),
    )
    if shape.operation == "upsert" or guard.kind == "absent":
        out = sql.SQL("{} ON CONFLICT ({}) {}").format(out, joined(shape.key), _otherwise(shape, guard))
    if not guard.reports:
        return out
    return sql.SQL("{} RETURNING {}").format(out, key_texts(shape))


def _otherwise(shape: Shape, guard: Guard) -> sql.Composable:
    """Return what happens to a row that is there."""
    columns_written = _overwritten(shape, guard)
    if not columns_written or guard.kind == "absent":
        return sql.SQL("DO NOTHING")
    alias, incoming = shape.table.alias, sql.SQL("excluded.{}")
    pairs = [sql.SQL("{0} = excluded.{0}").format(ParameterSafeIdentifier(name)) for name in columns_written]
    conditions = [_unchanged(alias, name, incoming.format(ParameterSafeIdentifier(name))) for name in shape.fixed]
    if guard.kind != "none":
        column = shape.table.columns.get(guard.column)
        conditions.append(
            condition(guard, shape.table, column, incoming.format(ParameterSafeIdentifier(guard.column)), removes=False)
        )
    out = sql.SQL("DO UPDATE SET {}").format(sql.SQL(", ").join(pairs))
    return sql.SQL("{} WHERE {}").format(out, sql.SQL(" AND ").join(conditions)) if conditions else out


def _overwritten(shape: Shape, guard: Guard) -> list[str]:
    """Return the columns that an upsert writes into a row that is there."""
    fixed = shape.fixed
    columns_written = [
        name
        for name in (*shape.set, *shape.reset)
        if name not in fixed and (shape.replaces or name not in guard.spared)
    ]
    whole = fixed and not columns_written
    keys = (
        [name for name in shape.key if whole or rewritten(shape.table.columns[name])]
        if columns_written or whole
        else []
    )
    return [*keys, *columns_written]


def _unchanged(alias: sql.SQL, name: str, incoming: sql.Composable) -> sql.Composable:
    return sql.SQL("{}.{} IS NOT DISTINCT FROM {}").format(alias, ParameterSafeIdentifier(name), incoming)


def spares_rows(shape: Shape, guard: Guard = FREE) -> bool:
    """Return whether a row that is there is left alone, so that fewer rows are written than are told."""
    return shape.operation == "upsert" and not _overwritten(shape, guard)


def _update(shape: Shape, guard: Guard) -> sql.Composed:
    keys, sets = len(shape.key), len(shape.set)
    pairs = [
        sql.SQL("{} = {}").format(ParameterSafeIdentifier(name), _cast(shape, name, keys + number))
        for number, name in enumerate(shape.set)
        if name not in guard.spared and name not in shape.fixed
    ]
    pairs += [sql.SQL("{} = DEFAULT").format(ParameterSafeIdentifier(name)) for name in shape.reset]
    pairs += [
        sql.SQL("{0} = {1}.{0} + {2}").format(
            ParameterSafeIdentifier(name), shape.table.alias, _cast(shape, name, keys + sets + number)
        )
        for number, name in enumerate(shape.add)
    ]
    if not pairs:  # nothing to write, but the row must be there
        pairs = [sql.SQL("{0} = {1}.{0}").format(ParameterSafeIdentifier(shape.key[0]), shape.table.alias)]
    out = sql.SQL("UPDATE {} AS {} SET {} FROM {} WHERE {}").format(
        shape.table.identifier, shape.table.alias, sql.SQL(", ").join(pairs), _rows(shape, guard), same_key(shape)
    )
    if shape.moves:
        out = sql.SQL("{} AND NOT EXISTS ({})").format(out, _other_row(shape))
    for name in shape.fixed:
        same = _unchanged(shape.table.alias, name, _cast(shape, name, keys + shape.set.index(name)))
        out = sql.SQL("{} AND {}").format(out, same)
    return _guarded(out, shape, guard)


def _delete(shape: Shape, guard: Guard) -> sql.Composed:
    out = sql.SQL("DELETE FROM {} AS {} USING {} WHERE {}").format(
        shape.table.identifier, shape.table.alias, _rows(shape, guard), same_key(shape)
    )
    if shape.moves:
        out = sql.SQL("{} AND NOT ({})").format(out, _new_key(shape, shape.table.alias))
    return _guarded(out, shape, guard)


def _other_row(shape: Shape) -> sql.Composed:
    """Another row of the key that a row is to get: it may have it already, written in another way."""
    return sql.SQL("SELECT FROM {} AS o WHERE {} AND (o.tableoid, o.ctid) <> ({}.tableoid, {}.ctid)").format(
        shape.table.identifier, _new_key(shape, sql.SQL("o")), shape.table.alias, shape.table.alias
    )


def _new_key(shape: Shape, alias: sql.SQL) -> sql.Composed:
    keys = len(shape.key)
    return sql.SQL(" AND ").join(
        sql.SQL("{}.{} = {}").format(alias, ParameterSafeIdentifier(name), _cast(shape, name, keys + number))
        for number, name in enumerate(shape.set)
    )


def _guarded(out: sql.Composed, shape: Shape, guard: Guard) -> sql.Composed:
    if guard.kind != "none":
        column = shape.table.columns.get(guard.column)
        kind = ParameterSafeIdentifier(*column.type) if column is not None else sql.SQL("")
        incoming = sql.SQL("u.g::{}").format(kind)
        conditions = condition(guard, shape.table, column, incoming, removes=shape.operation == "delete")
        out = sql.SQL("{} AND {}").format(out, conditions)
    return sql.SQL("{} RETURNING u.n").format(out) if guard.reports else out


def _rows(shape: Shape, guard: Guard = FREE) -> sql.Composed:
    columns = [shape.table.columns[name] for name in (*shape.key, *shape.set, *shape.add)]
    counted = guard.reports and shape.operation in ("update", "delete")
    return unnested(columns, ("g",) if guard.brings else (), counted=counted)


def unnested(columns: list[TargetColumn], beside: tuple[str, ...] = (), *, counted: bool = False) -> sql.Composed:
    """``unnest($1::int4[], …) AS u(c0, …)``: names of columns could clash with the table's.

    `beside` are further arrays, of texts; `counted` adds the rows' numbers as ``n``. Unqualified: only so does the
    parser know the form with several arrays.
    """
    kinds = [_array_type(each) for each in columns] + [("pg_catalog", "text")] * len(beside)
    own = [*(f"c{number}" for number in range(len(columns))), *beside, *(("n",) if counted else ())]
    return sql.SQL("unnest({}){} AS u({})").format(
        sql.SQL(", ").join(sql.SQL("%s::{}[]").format(ParameterSafeIdentifier(*kind)) for kind in kinds),
        sql.SQL(" WITH ORDINALITY" if counted else ""),
        joined(own),
    )


def _array_type(column: TargetColumn) -> tuple[str, str]:
    """Return the type of a column's array: money is sent as numeric, which is the same in every locale."""
    if column.base == "money":
        return "pg_catalog", "numeric"
    return column.type if column.has_array and column.element != "money" else ("pg_catalog", "text")


def _cast(shape: Shape, name: str, number: int) -> sql.Composable:
    column = shape.table.columns[name]
    place = sql.SQL("u.{}").format(ParameterSafeIdentifier(f"c{number}"))
    if column.base == "money":
        return sql.SQL("{}::pg_catalog.money::{}").format(place, ParameterSafeIdentifier(*column.type))
    if column.element == "money":
        return sql.SQL("{}::pg_catalog.numeric[]::pg_catalog.money[]::{}").format(
            place, ParameterSafeIdentifier(*column.type)
        )
    return place if column.has_array else sql.SQL("{}::{}").format(place, ParameterSafeIdentifier(*column.type))


def same_key(shape: Shape, alias: sql.SQL | None = None) -> sql.Composed:
    return sql.SQL(" AND ").join(
        sql.SQL("{}.{} = {}").format(
            alias or shape.table.alias, ParameterSafeIdentifier(name), _cast(shape, name, number)
        )
        for number, name in enumerate(shape.key)
    )


def key_hash(shape: Shape) -> sql.Composed:
    """Return a number that is the same for equal keys, of the columns' values in ``u``."""
    values = sql.SQL(", ").join(_hashed(shape, name, number) for number, name in enumerate(shape.key))
    return sql.SQL("pg_catalog.hash_record_extended(ROW({}), 0)").format(values)


def _hashed(shape: Shape, name: str, number: int) -> sql.Composable:
    column = shape.table.columns[name]
    value = _cast(shape, name, number)
    if column.collation is not None:
        value = sql.SQL("{} COLLATE {}").format(value, sql.SQL(column.collation.replace("%", "%%")))
    # Types without a hash, of which each value has one text.
    return sql.SQL("{}::pg_catalog.text").format(value) if column.base in _UNHASHED else value


def key_texts(shape: Shape) -> sql.Composed:
    alias = shape.table.alias
    return sql.SQL(", ").join(
        sql.SQL("{}.{}::pg_catalog.text").format(alias, ParameterSafeIdentifier(name)) for name in shape.key
    )
