"""Random transactions over random tables, as applications write them. The server decides which of them are valid."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

from tests.chaos.random_tables import RARELY, Column, Schema, Table, value

Cursor = psycopg.Cursor[Any]


@dataclass(frozen=True, slots=True)
class Row:
    """A row that is there, by SQL that finds it."""

    table: Table
    key: str

    @property
    def where(self) -> str:
        return f"({', '.join(_q(name) for name in self.table.key)}) = ({self.key})"


class Application:
    """Writes transactions; the same seed over the same rows writes the same ones. `refused` counts what was invalid."""

    def __init__(self, dsn: str, schema: Schema, chance: random.Random) -> None:
        self._connection = psycopg.connect(dsn)
        self._schema = schema
        self._chance = chance
        self.refused = 0
        self.statements = 0

    def close(self) -> None:
        self._connection.close()

    def transaction(self) -> None:
        """One to six actions; now and then all of them are rolled back."""
        chance = self._chance
        with self._connection.cursor() as cursor:
            for _ in range(chance.randint(1, 6)):
                self._attempt(cursor)
            try:
                if chance.random() < 0.05:
                    self._connection.rollback()
                else:
                    self._connection.commit()
            except psycopg.Error:
                self.refused += 1  # by a constraint that waited for the commit
                self._connection.rollback()

    def _attempt(self, cursor: Cursor) -> None:
        """An action under a savepoint, which is kept or, rarely, rolled back though it was valid."""
        action = self._chance.choices(ACTIONS, WEIGHTS)[0]
        table = self._chance.choice(self._schema.tables)
        cursor.execute("SAVEPOINT action")
        try:
            for statement in action(self, cursor, table):
                cursor.execute(statement.encode())
                self.statements += 1
        except psycopg.Error:
            self.refused += 1
            cursor.execute("ROLLBACK TO SAVEPOINT action")
        else:
            if self._chance.random() < 0.05:
                cursor.execute("ROLLBACK TO SAVEPOINT action")
        cursor.execute("RELEASE SAVEPOINT action")

    def _value(self, column: Column) -> str:
        return value(self._chance, column, small=not self._schema.toast)

    def rows(self, cursor: Cursor, table: Table, count: int = 1) -> list[Row]:
        """Rows that are there, chosen by chance, yet the same ones each time."""
        order = f"md5(concat_ws(',', {table.keys}) || '{self._chance.random()}')"
        cursor.execute(
            f"SELECT concat_ws(', ', {table.keys}) FROM \"{table.name}\" ORDER BY {order} LIMIT {count}".encode()
        )
        return [Row(table, key) for (key,) in cursor.fetchall()]

    def insert(self, cursor: Cursor, table: Table) -> Iterator[str]:
        yield self.inserted(cursor, table, self._chance.randint(1, 3))

    def inserted(self, cursor: Cursor, table: Table, count: int, fixed: dict[str, str] | None = None) -> str:
        columns = [column for column in table.columns if column.written]
        rows = []
        for _ in range(count):
            values = {column.name: self._value(column) for column in columns}
            values |= self._parents(cursor, table) | (fixed or {})
            rows.append(f"({', '.join(values.values())})")
        names = ", ".join(_q(column.name) for column in columns)
        return f'INSERT INTO "{table.name}" ({names}) VALUES {", ".join(rows)}'

    def _parents(self, cursor: Cursor, table: Table) -> dict[str, str]:
        """Values of the columns that refer to other tables: those of rows that are there."""
        out: dict[str, str] = {}
        for reference in table.references:
            order = f"md5(concat_ws(',', {reference.parent.keys}) || '{self._chance.random()}')"
            cursor.execute(
                f'SELECT {_texts(reference.parent)} FROM "{reference.parent.name}" ORDER BY {order} LIMIT 1'.encode()
            )
            found = cursor.fetchone()
            nullable = all(table.column(name).nullable for name in reference.columns)
            if found is None or (nullable and self._chance.random() < 0.1):
                out |= dict.fromkeys(reference.columns, "NULL")
            else:
                out |= dict(zip(reference.columns, found, strict=True))
        return out

    def update_one_column(self, cursor: Cursor, table: Table) -> Iterator[str]:
        plain = [one for one in _plain(table) if not one.unique]
        for row in self.rows(cursor, table, self._chance.randint(1, 2)):
            column = self._chance.choice(plain)
            yield f'UPDATE "{table.name}" SET {_q(column.name)} = {self._value(column)} WHERE {row.where}'

    def save(self, cursor: Cursor, table: Table) -> Iterator[str]:
        """Write all columns of a row, as an ORM does, most of them as they are."""
        for row in self.rows(cursor, table):
            parts = []
            for column in _plain(table):
                same = column.unique or self._chance.random() < 0.7
                parts.append(f"{_q(column.name)} = {_q(column.name) if same else self._value(column)}")
            yield f'UPDATE "{table.name}" SET {", ".join(parts)} WHERE {row.where}'

    def touch(self, cursor: Cursor, table: Table) -> Iterator[str]:
        """An update that changes nothing."""
        for row in self.rows(cursor, table):
            name = _q(self._chance.choice(_plain(table)).name)
            yield f'UPDATE "{table.name}" SET {name} = {name} WHERE {row.where}'

    def change_key(self, cursor: Cursor, table: Table) -> Iterator[str]:
        for row in self.rows(cursor, table):
            name = self._chance.choice(table.key)
            if self._tears(table, name):
                return
            column = table.column(name)
            changed = self._value(column)
            if column.type.sql in ("text", "varchar(10)", "citext") and self._chance.random() < 0.5:
                changed = f"upper({_q(name)}::text)::{column.type.sql}"
            elif column.type.sql == "numeric" and self._chance.random() < 0.5:
                changed = f"{_q(name)} * 1.0"
            yield f'UPDATE "{table.name}" SET {_q(name)} = {changed} WHERE {row.where}'

    def _tears(self, table: Table, name: str) -> bool:
        """A row that gets another message key, and so perhaps another partition, without values that are TOASTed: its
        record does not hold them, and where they are has no order with it. That is refused by name."""
        whole = self._schema.ordered or not self._schema.toast or table.identity == "FULL"
        return not whole and name in table.message_key and self._chance.random() >= RARELY

    def delete(self, cursor: Cursor, table: Table) -> Iterator[str]:
        for row in self.rows(cursor, table, self._chance.randint(1, 2)):
            yield f'DELETE FROM "{table.name}" WHERE {row.where}'

    def remake(self, cursor: Cursor, table: Table) -> Iterator[str]:
        """Delete a row, insert it again under its key, and children for it: an ORM's save."""
        for row in self.rows(cursor, table):
            cursor.execute(f'SELECT {_texts(table)} FROM "{table.name}" WHERE {row.where}'.encode())
            found = cursor.fetchone()
            if found is None:
                return
            key = dict(zip(table.key, found, strict=True))
            yield f'DELETE FROM "{table.name}" WHERE {row.where}'
            yield self.inserted(cursor, table, 1, key)
            for child in self._schema.tables:
                for reference in child.references:
                    if reference.parent is table:
                        of = dict(zip(reference.columns, found, strict=True))
                        yield self.inserted(cursor, child, 1, of)

    def swap(self, cursor: Cursor, table: Table) -> Iterator[str]:
        """Two rows exchange a unique value: at once where the constraint waits, else by way of a third value."""
        rows = self.rows(cursor, table, 2)
        if not table.unique or len(rows) < 2:
            return
        name = self._chance.choice(table.unique)
        if self._tears(table, name):
            return
        first, second = (self._literal(cursor, row, name) for row in rows)
        between = f"{self._chance.randint(1000, 9999)}::text::{table.column(name).type.sql}"
        steps = [(0, second), (1, first)] if table.deferrable_unique and name != "sku" else []
        for index, text in steps or [(0, between), (1, first), (0, second)]:
            yield f'UPDATE "{table.name}" SET {_q(name)} = {text} WHERE {rows[index].where}'

    def _literal(self, cursor: Cursor, row: Row, name: str) -> str:
        kind, table = row.table.column(name).type.sql, row.table.name
        cursor.execute(f'SELECT quote_nullable({_q(name)}) FROM "{table}" WHERE {row.where}'.encode())
        (text,) = cursor.fetchone() or ("NULL",)
        return f"{text}::{kind}"

    def pass_on(self, cursor: Cursor, table: Table) -> Iterator[str]:
        """A unique value goes from a row that is deleted to one that is there."""
        rows = self.rows(cursor, table, 2)
        if not table.unique or len(rows) < 2:
            return
        name = self._chance.choice(table.unique)
        if self._tears(table, name):
            return
        text = self._literal(cursor, rows[0], name)
        yield f'DELETE FROM "{table.name}" WHERE {rows[0].where}'
        yield f'UPDATE "{table.name}" SET {_q(name)} = {text} WHERE {rows[1].where}'

    def exchange(self, cursor: Cursor, table: Table) -> Iterator[str]:
        """Two rows exchange their keys in one statement."""
        rows = self.rows(cursor, table, 2)
        if not table.deferrable_key or len(rows) < 2:
            return
        names = [_q(name) for name in table.key]
        own, other = (f"({', '.join(f'{alias}.{name}' for name in names)})" for alias in "ab")
        first, second = (f"({row.key})" for row in rows)
        yield (
            f'UPDATE "{table.name}" AS a SET ({", ".join(names)}) = ROW({other[1:-1]}) FROM "{table.name}" AS b '
            f"WHERE ({own} = {first} AND {other} = {second}) OR ({own} = {second} AND {other} = {first})"
        )

    def take(self, cursor: Cursor, table: Table) -> Iterator[str]:
        """A row is inserted under the key of another one, and one of the two is deleted or gets another key."""
        if not table.deferrable_key:
            return
        for row in self.rows(cursor, table):
            cursor.execute(f'SELECT ctid, {_texts(table)} FROM "{table.name}" WHERE {row.where}'.encode())
            place, *key = cursor.fetchone() or ("", "")
            yield self.inserted(cursor, table, 1, dict(zip(table.key, key, strict=True)))
            which = f"{row.where} AND ctid {self._chance.choice(('=', '<>'))} '{place}'"
            if self._chance.random() < 0.5:
                yield f'DELETE FROM "{table.name}" WHERE {which}'
            else:
                name = table.key[0]
                yield f'UPDATE "{table.name}" SET {_q(name)} = {self._value(table.column(name))} WHERE {which}'

    def many(self, cursor: Cursor, table: Table) -> Iterator[str]:
        """One statement over all rows, as a migration does."""
        column = self._chance.choice([one for one in _plain(table) if not one.unique])
        yield f'UPDATE "{table.name}" SET {_q(column.name)} = {value(self._chance, column, small=True)}'


Action = Callable[[Application, Cursor, Table], Iterator[str]]
ACTIONS: Sequence[Action] = (
    Application.insert,
    Application.update_one_column,
    Application.save,
    Application.touch,
    Application.change_key,
    Application.delete,
    Application.remake,
    Application.swap,
    Application.pass_on,
    Application.many,
    Application.exchange,
    Application.take,
)
WEIGHTS = (30, 20, 12, 4, 8, 8, 10, 5, 3, 1, 12, 12)


def _plain(table: Table) -> list[Column]:
    referring = {name for reference in table.references for name in reference.columns}
    found = [c for c in table.columns if c.written and c.name not in table.key and c.name not in referring]
    return [column for column in found if column.name != "touched"] or found


def _texts(table: Table) -> str:
    return ", ".join(f"quote_literal({_q(name)}) || '::{table.column(name).type.sql}'" for name in table.key)


def _q(name: str) -> str:
    return f'"{name}"'
