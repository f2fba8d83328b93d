"""Types as the catalog knows them: domains resolved, arrays with their elements, enums with their labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from pycdc.model.change import PgType

_Row = dict[str, Any]

_MONEY: Final = 790
_TYPES: Final = """
SELECT t.oid::int8 AS oid, t.typname AS name, t.typtype::text AS kind,
       t.typbasetype::int8 AS base, t.typtypmod AS typmod,
       CASE WHEN t.typsubscript = 'array_subscript_handler'::regproc THEN t.typelem::int8 ELSE 0 END AS element,
       CASE WHEN t.typtype = 'e' THEN
           ARRAY(SELECT e.enumlabel::text FROM pg_enum e WHERE e.enumtypid = t.oid ORDER BY e.enumsortorder)
       END AS labels,
       CASE WHEN n.nspname NOT IN ('pg_catalog', 'public') THEN n.nspname::text ELSE '' END AS schema
  FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace WHERE t.oid = ANY (%(oids)s::int8[]::oid[])
"""


_MONEY_DIGITS: Final = """
WITH own AS MATERIALIZED (
    SELECT length(set_config('lc_monetary', reset_val, true)) AS set FROM pg_settings WHERE name = 'lc_monetary'
)
SELECT cash_send((own.set * 0 + 1)::int4::money) AS one FROM own
"""
"""One unit of money as it is stored under the lc_monetary that the session had before it was pinned."""


class TypeCatalog:
    """Types are read when somebody asks for them, and kept until `forget`: there are databases with a million.

    `query` runs SQL with named parameters and returns rows as dicts.
    """

    def __init__(self, query: Callable[..., list[_Row]]) -> None:
        self._query = query
        self._known: dict[int, PgType] = {}
        self._money_digits: int | None = None

    def types(self, oids: Iterable[int]) -> dict[int, PgType]:
        """Types by OID, domains resolved to their base type with its typmod; types dropped meanwhile are missing."""
        wanted = set(oids)
        raw: dict[int, _Row] = {}
        missing = wanted - self._known.keys()
        while missing:
            rows = {row["oid"]: row for row in self._query(_TYPES, oids=list(missing))}
            raw |= rows
            needed = {row[part] for row in rows.values() for part in ("base", "element")} - {0}
            missing = needed - self._known.keys() - raw.keys()
        for oid in raw:
            self._resolve(oid, raw)
        return {oid: self._known[oid] for oid in wanted if oid in self._known}

    def _resolve(self, oid: int, raw: Mapping[int, _Row]) -> PgType | None:
        if oid in self._known:
            return self._known[oid]
        row = raw.get(oid)
        if row is None:
            return None
        resolved: PgType | None
        if row["kind"] == "d":
            base = self._resolve(row["base"], raw)
            resolved = base and replace(
                with_typmod(base, row["typmod"]), domain=True, declared=row["name"], schema=row["schema"]
            )
        else:
            element = self._resolve(row["element"], raw) if row["element"] else None
            labels, schema = tuple(row["labels"] or ()), row["schema"]
            resolved = PgType(oid, row["name"], kind=row["kind"], element=element, labels=labels, schema=schema)
            if oid == _MONEY:
                resolved = replace(resolved, typmod=self._digits_of_money())
        if resolved is not None:
            self._known[oid] = resolved
        return resolved

    def _digits_of_money(self) -> int:
        if self._money_digits is None:
            stored = int.from_bytes(self._query(_MONEY_DIGITS)[0]["one"], "big")
            self._money_digits = len(str(stored)) - 1
        return self._money_digits

    def forget(self, oid: int) -> None:
        self._known = {key: known for key, known in self._known.items() if key != oid and not _uses(known, oid)}


def with_typmod(known: PgType, typmod: int) -> PgType:
    """Return the type under a column's typmod; -1 leaves what a domain set. For an array it is its elements' typmod."""
    if typmod == -1:
        return known
    element = known.element and with_typmod(known.element, typmod)
    return replace(known, typmod=typmod, element=element)


def _uses(known: PgType, oid: int) -> bool:
    return known.oid == oid or (known.element is not None and _uses(known.element, oid))
