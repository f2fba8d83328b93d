"""Patterns over table names, as configurations write them: ``schema.table``, where ``*`` matches any characters.

A pattern without a schema means the schema ``public``; a lone ``*`` means every table. `Catalog.tables` has the same
rule in SQL.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache


def matches_any(patterns: Iterable[str], schema: str, name: str) -> bool:
    """Whether one of `patterns` names the table."""
    full = f"{schema}.{name}"
    return any(_compiled(pattern).fullmatch(full) for pattern in patterns)


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, qualified(pattern).split("*"))), re.DOTALL)


def qualified(pattern: str) -> str:
    """The pattern with its schema."""
    return pattern if "." in pattern else "*.*" if pattern == "*" else f"public.{pattern}"
