"""One side of a comparison as SQL: the rows of a table, their keys and values as the target's columns have them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from psycopg import sql

from pycdc.clients.postgres import Connection
from pycdc.errors import EnvironmentNotReady
from pycdc.operations.verify.canonical import ColumnType, text_of
from pycdc.operations.verify.digests import Digest
from pycdc.operations.verify.ranges import Bound, KeyRange, by_text, inside, ordered
from pycdc.operations.verify.result import Key


@dataclass(frozen=True, slots=True)
class Layout:
    """The target's columns that are compared: those of the key, and all, the key's among them."""

    key: tuple[ColumnType, ...]
    columns: tuple[ColumnType, ...]
    digest: Digest


@dataclass(frozen=True, slots=True)
class Sum:
    """How many rows a range has, and the sums of both halves of their digests."""

    rows: int = 0
    first: int = 0
    second: int = 0

    def __add__(self, other: Sum) -> Sum:
        return Sum(self.rows + other.rows, self.first + other.first, self.second + other.second)

    def __sub__(self, other: Sum) -> Sum:
        return Sum(self.rows - other.rows, self.first - other.first, self.second - other.second)


DigestedRow = tuple[Key, tuple[int, int]]
"""A key and the row's digest."""


@dataclass(frozen=True, slots=True)
class ComparedRelation:
    """One side of a table, as SQL.

    `key` and `values` are expressions of the types of the layout's columns, and in their order. `table` is quoted,
    `where` are conditions.
    """

    table: sql.Composable
    key: tuple[sql.Composable, ...]
    values: tuple[sql.Composable, ...]
    where: tuple[sql.Composable, ...] = ()

    def sums(
        self,
        connection: Connection,
        layout: Layout,
        part: KeyRange,
        bounds: Sequence[Bound] = (),
        among: Sequence[Key] | None = None,
    ) -> list[Sum]:
        """Return the sums of the ranges that `part` is cut into at `bounds`, of the rows of the keys `among` or of all.

        Several ranges need a key of one column. Raises psycopg.Error.
        """
        bucket: sql.Composable | None = None
        if bounds:
            kind = sql.SQL("text") if by_text(layout.key[0]) else sql.Identifier(layout.key[0].base)
            array = sql.SQL("{}::{}[]").format(sql.Literal([bound[0] for bound in bounds]), kind)
            if by_text(layout.key[0]):
                array = sql.SQL('({} COLLATE "C")').format(array)
            # A key that is NULL lies behind all others.
            bucket = sql.SQL("coalesce(width_bucket({}, {}), {})").format(
                ordered(self.key[0], layout.key[0]), array, sql.Literal(len(bounds))
            )
        digest = layout.digest.of_row(self._values(layout))
        names = [sql.SQL(f"i{number}") for number in range(len(digest.inputs))]
        inputs = list(digest.inputs)
        if bucket is None:  # one group needs no grouping, which takes a tenth of the time
            query = sql.SQL("SELECT 0, count(*), count(f), sum(f), sum(s) FROM (SELECT {} FROM {}) AS y (f, s)")
            halves = digest.halves(names)
        else:
            query = sql.SQL(
                "SELECT b, count(*), count(f), sum(f), sum(s) FROM (SELECT b, {} FROM {}) AS y (b, f, s) GROUP BY 1"
            )
            halves = digest.halves(names)
            names, inputs = [*names, sql.SQL("b")], [*inputs, bucket]
        rows = sql.SQL("(SELECT {} FROM {}{} OFFSET 0) AS x ({})").format(
            sql.SQL(", ").join(inputs),
            self.table,
            self._conditions(layout, part, among),
            sql.SQL(", ").join(names),
        )
        out = [Sum()] * (len(bounds) + 1)
        for number, count, digests, first, second in connection.execute(query.format(halves, rows)):
            _require_no_null(count - digests)
            out[number] = Sum(count, int(first or 0), int(second or 0))
        return out

    def rows(
        self, connection: Connection, layout: Layout, part: KeyRange, among: Sequence[Key] | None = None
    ) -> list[DigestedRow]:
        """Return keys and digests of the range's rows, of the keys `among` or of all. Raises psycopg.Error."""
        digest = layout.digest.of_row(self._values(layout))
        inputs = [sql.SQL(f"i{number}") for number in range(len(digest.inputs))]
        size = len(layout.key)
        keys = [sql.SQL(f"k{number}") for number in range(size)]
        query = sql.SQL("SELECT {}, {} FROM (SELECT {}, {} FROM {}{} OFFSET 0) AS x ({}, {})").format(
            sql.SQL(", ").join(keys),
            digest.halves(inputs),
            sql.SQL(", ").join(self._key_texts(layout)),
            sql.SQL(", ").join(digest.inputs),
            self.table,
            self._conditions(layout, part, among),
            sql.SQL(", ").join(keys),
            sql.SQL(", ").join(inputs),
        )
        found = connection.execute(query).fetchall()
        _require_no_null(sum(row[size] is None for row in found))
        return [(row[:size], (row[size], row[size + 1])) for row in found]

    def keys_query(self, layout: Layout) -> sql.Composed:
        """Return a query of all keys."""
        return sql.SQL("SELECT {} FROM {}{}").format(
            sql.SQL(", ").join(self._key_texts(layout)), self.table, _where(self.where)
        )

    def every(self, connection: Connection, layout: Layout, part: KeyRange, step: int) -> list[Bound]:
        """Return every `step`-th key of the range, in order. Raises psycopg.Error."""
        keys = [ordered(*one) for one in zip(self.key, layout.key, strict=True)]
        query = sql.SQL(
            "SELECT {names} FROM (SELECT {texts}, row_number() OVER (ORDER BY {order}) FROM {table}{where})"
            " AS x ({names}, n) WHERE n % {step} = 0 ORDER BY n"
        ).format(
            names=sql.SQL(", ").join(sql.SQL(f"k{n}") for n in range(len(keys))),
            texts=sql.SQL(", ").join(self._key_texts(layout)),
            order=sql.SQL(", ").join(keys),
            table=self.table,
            where=self._conditions(layout, part),
            step=sql.Literal(step),
        )
        return [tuple(row) for row in connection.execute(query) if None not in row]

    def sampled(
        self, connection: Connection, layout: Layout, percent: float, count: int, part: KeyRange
    ) -> list[Bound]:
        """Return about `count` keys that cut the range into ranges of about the same size. Raises psycopg.Error."""
        keys = sql.SQL(", ").join(ordered(*one) for one in zip(self.key, layout.key, strict=True))
        names = sql.SQL(", ").join(sql.SQL(f"k{n}") for n in range(len(self.key)))
        query = sql.SQL(
            "SELECT DISTINCT ON (n) {names} FROM (SELECT {texts}, ntile({count}) OVER (ORDER BY {keys}),"
            " row_number() OVER (ORDER BY {keys}) FROM {table} TABLESAMPLE SYSTEM ({percent}) REPEATABLE (1){where})"
            " AS x ({names}, n, r) ORDER BY n, r"
        ).format(
            names=names,
            texts=sql.SQL(", ").join(self._key_texts(layout)),
            count=sql.Literal(count),
            keys=keys,
            table=self.table,
            percent=sql.Literal(percent),
            where=self._conditions(layout, part),
        )
        found = [tuple(row) for row in connection.execute(query)]
        return list(dict.fromkeys(bound for bound in found[1:] if None not in bound))

    def texts(self, connection: Connection, layout: Layout, keys: Sequence[Key]) -> dict[Key, tuple[str | None, ...]]:
        """Return the canonical texts of the rows of `keys`, as far as they are there. Raises psycopg.Error."""
        if not keys:
            return {}
        size = len(layout.key)
        query = sql.SQL("SELECT {}, {} FROM {}{}").format(
            sql.SQL(", ").join(self._key_texts(layout)),
            sql.SQL(", ").join(text_of(*one) for one in self._values(layout)),
            self.table,
            _where([*self.where, self._among(layout, keys)]),
        )
        return {row[:size]: row[size:] for row in connection.execute(query)}

    def renamed(self, columns: Sequence[str], name: str) -> sql.Composable:
        """Return a FROM item `name` of the relation's rows, with its values under the names of `columns`."""
        values = (
            sql.SQL("{} AS {}").format(value, sql.Identifier(column))
            for value, column in zip(self.values, columns, strict=True)
        )
        return sql.SQL("(SELECT {} FROM {}{}) AS {}").format(
            sql.SQL(", ").join(values), self.table, _where(self.where), sql.Identifier(name)
        )

    def _values(self, layout: Layout) -> list[tuple[sql.Composable, ColumnType]]:
        return list(zip(self.values, layout.columns, strict=True))

    def _key_texts(self, layout: Layout) -> list[sql.Composable]:
        return [text_of(*one) for one in zip(self.key, layout.key, strict=True)]

    def _conditions(self, layout: Layout, part: KeyRange, among: Sequence[Key] | None = None) -> sql.Composable:
        keys = [ordered(*one) for one in zip(self.key, layout.key, strict=True)]
        conditions = [*self.where, *inside(keys, layout.key, part)]
        if among is not None:
            conditions.append(self._among(layout, among))
        return _where(conditions)

    def _among(self, layout: Layout, keys: Sequence[Key]) -> sql.Composable:
        own = sql.SQL(", ").join(ordered(*one) for one in zip(self.key, layout.key, strict=True))
        conditions = [sql.SQL("({}) IN (SELECT {} FROM {})").format(own, typed_keys(layout), unnested(layout, keys))]
        for number, (expression, column) in enumerate(zip(self.key, layout.key, strict=True)):
            if by_text(column):
                # The same once more in the collation of the column, and so of its index.
                texts = sql.Literal(list(dict.fromkeys(key[number] for key in keys)))
                conditions.append(sql.SQL("({})::text = ANY ({}::text[])").format(expression, texts))
        return sql.SQL(" AND ").join(conditions)


ROW_DIGEST: Final = ColumnType("row digest", "bigint", "int8", True, "", -1, False, False, False)
"""What stands for the key of a table without one: half of the digest of all columns."""


def without_key(one: ComparedRelation, layout: Layout, digest: Digest) -> ComparedRelation:
    """Return a relation whose rows are known by their digests: equal rows are counted."""
    row = digest.of_row(list(zip(one.values, layout.columns, strict=True)))
    return replace(one, key=(sql.SQL("({})").format(row.half(0, row.inputs)),))


def ranges_of(connection: Connection, layout: Layout, keys: Sequence[Key], bounds: Sequence[Bound]) -> set[int]:
    """Return the numbers of the ranges between `bounds` that the keys lie in. Raises psycopg.Error."""
    if not bounds:
        return {0}
    query = sql.SQL("SELECT DISTINCT (SELECT count(*) FROM {} WHERE ({}) <= ({}))::int8 FROM {}").format(
        unnested(layout, bounds, "b"), typed_keys(layout, "b"), typed_keys(layout), unnested(layout, keys)
    )
    return {number for (number,) in connection.execute(query)}


def typed_keys(layout: Layout, alias: str = "u") -> sql.Composable:
    """Return the key columns of `unnested`, typed and ordered as the relation's."""
    out = []
    for number, column in enumerate(layout.key):
        text = sql.SQL(f"{alias}.k{number}")
        out.append(
            sql.SQL('({} COLLATE "C")').format(text)
            if by_text(column)
            else sql.SQL("{}::{}").format(text, sql.Identifier(column.base))
        )
    return sql.SQL(", ").join(out)


def unnested(layout: Layout, keys: Sequence[Key], alias: str = "u") -> sql.Composable:
    """Return a FROM item of keys, `u (k0, k1 …)`, all texts."""
    arrays = sql.SQL(", ").join(
        sql.SQL("{}::text[]").format(sql.Literal([key[number] for key in keys])) for number in range(len(layout.key))
    )
    names = sql.SQL(", ").join(sql.SQL(f"k{number}") for number in range(len(layout.key)))
    return sql.SQL("unnest({}) AS {} ({})").format(arrays, sql.SQL(alias), names)


def _require_no_null(rows: int) -> None:
    """Raise EnvironmentNotReady where rows have no digest: tables that inherit may lack what their parent requires."""
    if rows:
        raise EnvironmentNotReady(
            f"{rows} rows have NULL in a column that is NOT NULL",
            hint="SET NOT NULL in the tables that inherit from it as well, or leave the column out with --column",
        )


def _where(conditions: Sequence[sql.Composable]) -> sql.Composable:
    return sql.SQL(" WHERE ") + sql.SQL(" AND ").join(conditions) if conditions else sql.SQL("")
