"""A table as files that outlive it: its rows as CSV, and the statements that make it again."""

from __future__ import annotations

import gzip
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO, Final

import psycopg
from psycopg import sql

from pycdc.clients.postgres_sessions import database_identity
from pycdc.errors import EnvironmentNotReady

_COLUMNS: Final = """SELECT a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity,
    a.attgenerated, pg_get_expr(d.adbin, d.adrelid)
FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid = to_regclass(%s) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum"""
_CONSTRAINTS: Final = """SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint
WHERE conrelid = to_regclass(%s) AND contype IN ('p', 'u', 'c', 'x', 'f') ORDER BY contype = 'f', conname"""
_INDEXES: Final = """SELECT pg_get_indexdef(i.indexrelid) FROM pg_index i WHERE i.indrelid = to_regclass(%s)
AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid AND k.contype IN ('p', 'u', 'x'))
ORDER BY 1"""
_SEQUENCES: Final = """SELECT d.objid::regclass::text, d.deptype = 'a' FROM pg_depend d
JOIN pg_class c ON c.oid = d.objid AND c.relkind = 'S'
WHERE d.classid = 'pg_class'::regclass AND d.refobjid = to_regclass(%s) AND d.deptype IN ('a', 'i') ORDER BY 1"""
"""Those that go with the table; those of identities are made with it too."""
_HISTORY: Final = """SELECT to_regclass(%s)::oid::text || ', timeline ' ||
substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)"""
"""A table that is made again has another oid; what is written after a recovery to an earlier time, another timeline."""
_IDENTITY: Final = {"a": "ALWAYS", "d": "BY DEFAULT"}


@dataclass(frozen=True, slots=True)
class Archived:
    """`rows` is what the file holds."""

    table: str
    file: str
    rows: int


def archive(connection: psycopg.Connection[Any], table: tuple[str, str], folder: Path) -> Archived:
    """Write a table into `folder`, durably, in the transaction at hand.

    Files of an earlier attempt at this very table are replaced, those of another one of its name are not: the names of
    the new ones have a number.

    Raises EnvironmentNotReady where the folder cannot be written, what is read again is not what was written, or a row
    security policy keeps rows from this role.
    """
    # With policies that are FORCEd on its owner, COPY would leave rows out and say nothing.
    connection.execute("SET row_security = off")
    name = sql.Identifier(*table)
    columns = connection.execute(_COLUMNS, (name.as_string(connection),)).fetchall()
    stored = sql.SQL(", ").join(sql.Identifier(column[0]) for column in columns if not column[4])
    try:
        folder.mkdir(parents=True, exist_ok=True)
        mark = _mark(connection, name)
        free = _free_name(folder, table, mark)
        path = folder / f"{free}.csv.gz"
        definition = _definition(connection, name, columns, path.name, stored)
        with _replaced(folder / f"{free}.sql") as file:
            file.write(mark + definition.encode())
        copy = sql.SQL("COPY (SELECT {} FROM {}) TO STDOUT (FORMAT csv, HEADER)").format(stored, name)
        with connection.cursor() as cursor:
            with _replaced(path) as file, gzip.GzipFile(path.name, "wb", fileobj=file) as packed:
                size = _copied(cursor, copy, packed)
            rows = cursor.rowcount
        found = _size(path)
    except psycopg.errors.InsufficientPrivilege as error:
        raise EnvironmentNotReady(
            f"table {'.'.join(table)} cannot be read whole: {error.diag.message_primary}",
            hint="ALTER TABLE … NO FORCE ROW LEVEL SECURITY, or connect as a role with BYPASSRLS",
        ) from None
    except OSError as error:
        raise EnvironmentNotReady(
            f"the archive {folder} cannot be written: {error.strerror}", hint="make room, or name another folder"
        ) from None
    if found != size:
        raise EnvironmentNotReady(f"the archive {path} is not what was written", hint="see what else writes there")
    return Archived(".".join(table), str(path), rows)


def _mark(connection: psycopg.Connection[Any], name: sql.Identifier) -> bytes:
    """Return the first line of a definition, which no other table's has."""
    database = database_identity(connection) or f"unknown at {time.time()}"
    row = connection.execute(_HISTORY, (name.as_string(connection),)).fetchone()
    assert row is not None
    return f"-- of database {database}, table {row[0]}\n".encode()


def _free_name(folder: Path, table: tuple[str, str], mark: bytes) -> str:
    """Return the name of files that are not there, or that an earlier attempt at the table left behind."""
    stem = ".".join(re.sub(r"[^\w-]", _escaped, part) for part in table)
    for number in count(1):
        free = stem if number == 1 else f"{stem}.{number}"
        definition = folder / f"{free}.sql"
        if definition.exists():
            with definition.open("rb") as file:
                if file.readline() == mark:
                    return free
        elif not (folder / f"{free}.csv.gz").exists():
            return free
    raise AssertionError


def _escaped(found: re.Match[str]) -> str:
    """Return it by its bytes: a point would be one between names, other characters mean something to a shell."""
    return "".join(f"%{byte:02X}" for byte in found[0].encode())


def _copied(cursor: psycopg.Cursor[Any], statement: sql.Composed, file: gzip.GzipFile) -> int:
    """Return how many bytes were copied."""
    size = 0
    with cursor.copy(statement) as copy:
        for data in copy:
            size += file.write(data)
    return size


def _definition(
    connection: psycopg.Connection[Any], name: sql.Identifier, columns: list[Any], file: str, stored: sql.Composed
) -> str:
    asked = (name.as_string(connection),)
    lines = [_column(*column).as_string(connection) for column in columns]
    constraints = connection.execute(_CONSTRAINTS, asked).fetchall()
    lines += [f"CONSTRAINT {sql.Identifier(one).as_string(connection)} {text}" for one, text in constraints]
    sequences = connection.execute(_SEQUENCES, asked).fetchall()
    statements = [f"CREATE SEQUENCE {one};" for one, serial in sequences if serial]
    statements.append(f"CREATE TABLE {asked[0]} (\n    " + ",\n    ".join(lines) + "\n);")
    statements += [f"{text};" for (text,) in connection.execute(_INDEXES, asked)]
    load = f"\\copy {asked[0]} ({stored.as_string(connection)}) FROM PROGRAM 'gzip -dc ./{file}' (FORMAT csv, HEADER)"
    statements += [_position(connection, one) for one, _ in sequences]
    return "\n".join([*statements, f"-- its rows, in psql: {load}", ""])


def _position(connection: psycopg.Connection[Any], sequence: str) -> str:
    row = connection.execute(f"SELECT last_value, is_called FROM {sequence}".encode()).fetchone()  # noqa: S608
    assert row is not None
    return f"SELECT setval({sql.Literal(sequence).as_string(connection)}, {row[0]}, {str(row[1]).lower()});"


def _column(name: str, kind: str, required: bool, identity: str, generated: str, default: str | None) -> sql.Composed:
    parts = [sql.Identifier(name), sql.SQL(kind)]
    if identity:
        parts.append(sql.SQL(f"GENERATED {_IDENTITY[identity]} AS IDENTITY"))
    elif generated:
        parts.append(sql.SQL(f"GENERATED ALWAYS AS ({default}) STORED"))
    elif default is not None:
        parts.append(sql.SQL(f"DEFAULT {default}"))
    return sql.SQL(" ").join([*parts, *([sql.SQL("NOT NULL")] if required else [])])


def _size(path: Path) -> int:
    """Return how many bytes a packed file holds. Raises OSError where they do not fit its checksum."""
    size = 0
    with gzip.open(path, "rb") as file:
        while data := file.read(1 << 20):
            size += len(data)
    return size


@contextmanager
def _replaced(path: Path) -> Iterator[BinaryIO]:
    """Write a file beside `path` that takes its place, both on the disk for good when the block ends."""
    beside = path.with_name(f".{path.name}")
    with beside.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
