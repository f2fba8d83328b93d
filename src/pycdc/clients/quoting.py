"""Names as SQL writes them."""

from __future__ import annotations

from collections.abc import Set
from typing import Final

from psycopg import sql

from pycdc.printable import sql_printable

OPERATIONS: Final = {"i": "insert", "u": "update", "d": "delete", "t": "truncate"}


def quoted(*parts: str) -> str:
    """``"public"."orders"``, in one line and printable whatever the names are."""
    return sql_printable(sql.Identifier(*parts).as_string(None))


def quoted_table(table: str) -> str:
    """Return the SQL name of a table as a configuration has it, which is in `public` where it names no schema."""
    schema, dot, name = table.partition(".")
    return sql.Identifier(*((schema, name) if dot else ("public", schema))).as_string(None)


def published(operations: Set[str]) -> str:
    """Return a publication's option `publish` for operations by their first letters."""
    return ", ".join(word for letter, word in OPERATIONS.items() if letter in operations)
