"""64-bit digests of rows, in two independent halves, computed by the servers.

Digests are added up, never combined by XOR: two equal faults in one range would cancel each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg import sql

from pycdc.errors import EnvironmentNotReady
from pycdc.operations.verify.canonical import ColumnType, canonical, is_separated, row_text

Values = Sequence[tuple[sql.Composable, ColumnType]]

_TEXT: Final = 'hashtextextended({} COLLATE "C", {})'
_STEPS: Final = {
    "int2": "hashint2extended({}, {})",
    "int4": "hashint4extended({}, {})",
    "uuid": "uuid_hash_extended({}, {})",
}
"""Hashes that tell all values of a type from each other. Those of int8 and of times do not: they fold 64 bits to 32."""
_MOST_STEPS: Final = 60
"""Of a chain: more are nested too deeply."""


@dataclass(frozen=True, slots=True)
class RowDigest:
    """The digest of a row as SQL: `inputs` are computed from the row, each once, and both halves from them."""

    inputs: tuple[sql.Composable, ...]
    _steps: tuple[str, ...]
    _digest: Digest

    def halves(self, names: Sequence[sql.Composable]) -> sql.Composable:
        """Return both halves as a list of SQL expressions; `names` are those of the inputs."""
        return sql.SQL(", ").join(self.half(number, names) for number in range(2))

    def half(self, number: int, names: Sequence[sql.Composable]) -> sql.Composable:
        """Return one of them."""
        if not self._steps:
            return sql.SQL(self._digest.halves[number]).format(names[0])
        digest: sql.Composable = sql.Literal(self._digest.seeds[number])
        for step, name in zip(self._steps, names, strict=True):
            digest = sql.SQL(step).format(name, digest)
        return digest


@dataclass(frozen=True, slots=True)
class Digest:
    """A hash function.

    `halves` are SQL of two 64-bit integers over the text `{0}` of a row. One with `seeds` instead hashes a row in
    steps: the hash of a column is the seed of the next one.
    """

    name: str
    halves: tuple[str, str] = ("", "")
    seeds: tuple[int, ...] = ()

    def of_row(self, values: Values) -> RowDigest:
        """Return the digest of a row with these values: rows that differ in some value differ in it."""
        if not self.seeds:
            return RowDigest((row_text(values),), (), self)
        inputs: list[sql.Composable] = []
        steps: list[str] = []
        rest: list[tuple[sql.Composable, ColumnType]] = []
        nulls: list[sql.Composable] = []
        for expression, column in values:
            if len(steps) >= _MOST_STEPS:
                rest.append((expression, column))
            elif column.builtin and column.base in _STEPS and not column.nullable:
                inputs.append(expression)
                steps.append(_STEPS[column.base])
            elif is_separated(column):
                rest.append((expression, column))
            else:
                inputs.append(_text(expression, column))
                steps.append(_TEXT)
                nulls += [expression] if column.nullable else []
        if rest or nulls:
            inputs.append(row_text(rest, nulls))
            steps.append(_TEXT)
        return RowDigest(tuple(inputs), tuple(steps), self)


def _text(expression: sql.Composable, column: ColumnType) -> sql.Composable:
    value = canonical(expression, column)
    text = value if column.base == "text" else sql.SQL("({})::text").format(value)
    return sql.SQL("coalesce({}, '')").format(text) if column.nullable else text


_HEX = "('x' || substr({}, {}, 16))::bit(64)::int8"
_SHA = "encode(sha256(convert_to({0}, 'UTF8')), 'hex')"
DIGESTS: Final = {
    "hashtext": Digest("hashtext", seeds=(20261130, 8127340917)),
    "md5": Digest(
        "md5",
        (
            _HEX.format("md5(convert_to({0}, 'UTF8'))", 1),
            _HEX.format("md5(convert_to({0}, 'UTF8'))", 17),
        ),
    ),
    "sha256": Digest("sha256", (_HEX.format(_SHA, 1), _HEX.format(_SHA, 17))),
}
"""By the name that the option `--digest` has for them. hashtext is what hash partitions are routed by."""

_PROBES: Final = ("", "0", "pycdc verify", "grün|Ελλάδα|漢字", "x" * 300, None)
_NUMBERS: Final = "row_number() OVER () * -77000000"
_PROBED: Final = (
    ("t", ColumnType("t", "text", "text", True, "", -1, True, False, False)),
    ("md5(coalesce(t, ''))::uuid", ColumnType("u", "uuid", "uuid", True, "", -1, False, False, False)),
    (f"({_NUMBERS})::int4", ColumnType("n", "integer", "int4", True, "", -1, False, False, False)),
    ("octet_length(t)::int2", ColumnType("m", "smallint", "int2", True, "", -1, True, False, False)),
    (f"({_NUMBERS} / 100.0)", ColumnType("d", "numeric", "numeric", True, "", -1, False, False, False)),
    (
        f"('2026-11-30'::timestamptz + {_NUMBERS} * interval '1 us')",
        ColumnType("a", "timestamptz", "timestamptz", True, "", -1, False, False, False),
    ),
)
"""Values that both servers have to agree on: texts, also beyond ASCII, and types that have a hash or a form of their
own."""


def agreed(source: psycopg.Connection[Any], target: psycopg.Connection[Any], wanted: str | None) -> Digest:
    """Return the wanted digest, or the fastest that both servers compute alike.

    Raises EnvironmentNotReady where they disagree about the wanted one, psycopg.Error.
    """
    for name in [wanted] if wanted else ["hashtext", "md5"]:
        digest = DIGESTS[name]
        if probed(source, digest) == probed(target, digest):
            return digest
    raise EnvironmentNotReady(
        f"source and target compute different digests of the same texts with {wanted or 'hashtext and md5'}",
        hint="choose another one with --digest (hashtext, md5, sha256)",
    )


def probed(connection: psycopg.Connection[Any], digest: Digest) -> list[tuple[int, int]]:
    """Return the digests of the probes. Raises psycopg.Error."""
    row = digest.of_row([(sql.SQL(expression), column) for expression, column in _PROBED])
    names = [sql.SQL(f"i{number}") for number in range(len(row.inputs))]
    query = sql.SQL("SELECT {} FROM (SELECT {} FROM unnest({}::text[]) AS u (t) OFFSET 0) AS x ({})").format(
        row.halves(names), sql.SQL(", ").join(row.inputs), sql.Literal(list(_PROBES)), sql.SQL(", ").join(names)
    )
    return connection.execute(query).fetchall()
