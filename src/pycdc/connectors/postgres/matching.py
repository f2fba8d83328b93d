"""Regular expressions of strangers, matched by the database: in bounded time, whatever they are.

Python's `re` can take longer than anybody lives for an expression of ten characters, and cannot be stopped. Postgres'
mostly does not backtrack, and a statement can be cancelled. Debezium's are Java's; what people write of it in names of
tables (`public\\.order_.*`, `a|b`, `[^_]+`, `\\d`, `(?i)`) means the same to both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import psycopg

from pycdc.connectors.postgres.debezium_signals import Unusable
from pycdc.connectors.postgres.session import connect, translate

_SECONDS: Final = 1
_IGNORING_CASE: Final = "(?i)"
_ALONE: Final = "SELECT '' ~ %s"
"""An expression whose parentheses do not pair must not borrow those put around it."""
_AS_A_WHOLE: Final = """
SELECT name FROM unnest(%s::text[]) WITH ORDINALITY AS n (name, place)
 WHERE name = %s OR name ~ (%s || '^(?:' || %s || ')$') ORDER BY place
"""


def matching(
    dsn: str, names: Sequence[str], patterns: Sequence[str], *, ignoring_case: bool = False
) -> list[list[str]]:
    """For each pattern those of `names`, in their order, that it matches as a whole, or that it is.

    Raises Unusable for what is no regular expression or takes too long, PycdcError where the database is away.
    """
    with connect(dsn) as connection:
        try:
            connection.execute(f"SET statement_timeout = '{_SECONDS}s'".encode())
            return [_matched(connection, names, pattern, ignoring_case) for pattern in patterns]
        except psycopg.errors.QueryCanceled:
            raise Unusable("a regular expression takes too long", "write a simpler one, or the names") from None
        except psycopg.DataError:
            raise Unusable("a regular expression is none", "write it as Postgres' `~` takes it, or the name") from None
        except psycopg.Error as error:
            raise translate(error) from None


def _matched(connection: psycopg.Connection[Any], names: Sequence[str], pattern: str, ignoring_case: bool) -> list[str]:
    bare = pattern.removeprefix(_IGNORING_CASE)
    option = _IGNORING_CASE if ignoring_case or bare != pattern else ""
    connection.execute(_ALONE, (bare,))
    return [name for (name,) in connection.execute(_AS_A_WHOLE, (list(names), pattern, option, bare)).fetchall()]
