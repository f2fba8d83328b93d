"""Names as SQL writes them."""

from __future__ import annotations

from psycopg import sql


def quoted(*parts: str) -> str:
    """``"public"."orders"``"""
    return sql.Identifier(*parts).as_string(None)
