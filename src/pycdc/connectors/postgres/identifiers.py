"""Names as SQL writes them."""

from __future__ import annotations

from psycopg import sql

from pycdc.printable import sql_printable


def quoted(*parts: str) -> str:
    """``"public"."orders"``, in one line and printable whatever the names are."""
    return sql_printable(sql.Identifier(*parts).as_string(None))
