"""Patterns over names, as configurations write them, where ``*`` matches any characters; a table is ``schema.table``.

A pattern without a schema means the schema ``public``; a lone ``*`` means every table. `Catalog.tables` has the same
rule in SQL.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

BOOKKEEPING: Final = "pycdc"
"""Schema of what apply pipelines keep in a database."""
OFFSETS: Final = "pycdc_offsets"
"""Table of positions that are stored in Postgres."""


def matches_any(patterns: Iterable[str], schema: str, name: str) -> bool:
    """Return whether one of `patterns` names the table."""
    full = f"{schema}.{name}"
    return any(_compiled(pattern).fullmatch(full) for pattern in patterns)


def is_user_table(patterns: Iterable[str], schema: str, name: str) -> bool:
    """Return whether the table is none of pycdc's own, or one of `patterns` names it on purpose (``pycdc.parked``).

    Storing a position is a change of such a table: captured, it would make another position, and so on for ever.
    """
    if schema != BOOKKEEPING and name != OFFSETS:
        return True
    named = (pattern for pattern in map(qualified, patterns) if _names_own(pattern))
    return matches_any(named, schema, name)


def _names_own(pattern: str) -> bool:
    return pattern.startswith(f"{BOOKKEEPING}.") or pattern.endswith(f".{OFFSETS}")


def names_any(patterns: Iterable[str], name: str) -> bool:
    """Return whether one of `patterns` is a name without a schema: of a topic, or of a pipeline."""
    return any(expression(pattern).fullmatch(name) for pattern in patterns)


def _compiled(pattern: str) -> re.Pattern[str]:
    return expression(qualified(pattern))


@lru_cache(maxsize=1024)
def expression(pattern: str) -> re.Pattern[str]:
    """Return the pattern as a regular expression, to be matched as a whole."""
    return re.compile(".*".join(map(re.escape, pattern.split("*"))), re.DOTALL)


def qualified(pattern: str) -> str:
    """Return the pattern with its schema."""
    return pattern if "." in pattern else "*.*" if pattern == "*" else f"public.{pattern}"
