r"""Regular expressions of strangers, matched by the database: in bounded time, whatever they are.

Python's `re` can take longer than anybody lives for an expression of ten characters, and cannot be stopped. Postgres'
mostly does not backtrack, and a statement can be cancelled. Debezium's are Java's; what people write of it in names of
tables (`public\.order_.*`, `a|b`, `[^_]+`, `\d`, `(?i)`) means the same to both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import psycopg

from pycdc.clients.postgres_errors import source_error
from pycdc.clients.postgres_sessions import connect_to_source
from pycdc.connectors.postgres.signals.debezium import Unusable

_SECONDS: Final = 1
_IGNORING_CASE: Final = "(?i)"
_ALONE: Final = "SELECT count('' ~ pattern) FROM unnest(%s::text[]) pattern"
"""An expression whose parentheses do not pair must not borrow those put around it."""
_AS_A_WHOLE: Final = """
SELECT p.number - 1, n.name
  FROM unnest(%s::text[], %s::text[], %s::text[]) WITH ORDINALITY AS p (pattern, option, bare, number),
       unnest(%s::text[]) WITH ORDINALITY AS n (name, place)
 WHERE n.name = p.pattern OR n.name ~ (p.option || '^(?:' || p.bare || ')$') ORDER BY p.number, n.place
"""


def matching(
    dsn: str, names: Sequence[str], patterns: Sequence[str], *, ignoring_case: bool = False
) -> list[list[str]]:
    """Return for each pattern those of `names`, in their order, that it matches as a whole, or that it is."""
    bare = [pattern.removeprefix(_IGNORING_CASE) for pattern in patterns]
    options = [_IGNORING_CASE if ignoring_case or b != p else "" for b, p in zip(bare, patterns, strict=True)]
    found: list[list[str]] = [[] for _ in patterns]
    with connect_to_source(dsn) as connection:
        try:
            connection.execute(f"SET statement_timeout = '{_SECONDS}s'".encode())
            connection.execute(_ALONE, (bare,))
            for number, name in connection.execute(_AS_A_WHOLE, (list(patterns), options, bare, list(names))):
                found[number].append(name)
        except psycopg.errors.QueryCanceled:
            raise Unusable("its regular expressions take too long", "write simpler ones, or the names") from None
        except psycopg.DataError:
            raise Unusable("a regular expression is none", "write it as Postgres' `~` takes it, or the name") from None
        except psycopg.Error as error:
            raise source_error(error) from None
    return found
