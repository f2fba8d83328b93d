"""Are both sides equal? Row by row, over the columns that both have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from pycdc.demo.two_way.tables import PAIRS, Pair

RowsByKey = dict[str, tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class ComparisonResult:
    """`rows` that the monolith has; keys, as text, of those that are on one side only or not the same on both."""

    pair: Pair
    rows: int
    missing: tuple[str, ...]
    """Not in the service's table."""
    surplus: tuple[str, ...]
    """In the service's table only."""
    different: tuple[str, ...]

    @property
    def equal(self) -> bool:
        return not (self.missing or self.surplus or self.different)


def compare(monolith: psycopg.Connection, service: psycopg.Connection) -> tuple[ComparisonResult, ...]:
    return tuple(_outcome(pair, monolith, service) for pair in PAIRS)


def _outcome(pair: Pair, monolith: psycopg.Connection, service: psycopg.Connection) -> ComparisonResult:
    columns = (pair.key, *pair.columns)
    return between(
        pair,
        _rows(monolith, pair.monolith, [column.monolith for column in columns]),
        _rows(service, pair.service, [column.service for column in columns]),
    )


def between(pair: Pair, monolith_rows: RowsByKey, service_rows: RowsByKey) -> ComparisonResult:
    """Compare what the monolith has with what the service has."""
    both = monolith_rows.keys() & service_rows.keys()
    return ComparisonResult(
        pair,
        len(monolith_rows),
        tuple(sorted(monolith_rows.keys() - service_rows.keys())),
        tuple(sorted(service_rows.keys() - monolith_rows.keys())),
        tuple(sorted(key for key in both if monolith_rows[key] != service_rows[key])),
    )


def _rows(connection: psycopg.Connection, table: str, columns: list[str]) -> RowsByKey:
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    found = connection.execute(sql.SQL("SELECT {} FROM {}").format(names, sql.Identifier(table)))
    return {str(row[0]): row[1:] for row in found}
