"""Where the texts of keys say which rows are the same: for types and forms of which each value has one text.

Not so for citext, collations that are not deterministic, numbers with digits behind the point, times with an offset …
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from functools import lru_cache
from typing import Final

from pycdc.rows.target_column import TargetColumn

_ANY: Final = ("text", "varchar")
_WHOLE: Final = "0|-?[1-9][0-9]*"
_FORMS: Final = {
    **dict.fromkeys(("int2", "int4", "int8", "oid", "numeric"), _WHOLE),
    "uuid": "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
    "bool": "true|false",
    "date": "[0-9]{4}-[0-9]{2}-[0-9]{2}",
    "bytea": r"\\x(?:[0-9a-f]{2})*",
    "bpchar": r"(?:[^\n]*[^ \n])?",
}
"""Of a type's values, the texts that no other text of this form is equal to. By the name beneath domains."""

_SEVERAL_TEXTS: Final = ("citext", "interval", "jsonb")
"""Types of which a source may hold equal values that it writes differently: `1 mon` and `30 days`, 1.0 and 1.00."""


def form_of(column: TargetColumn) -> str | None:
    """Return the expression that texts match where text equality is the database's; "" for any text, None for none."""
    if not column.deterministic:
        return None
    if column.base in _ANY or column.is_enum:
        return ""
    return _FORMS.get(column.base)


def rewritten(column: TargetColumn) -> bool:
    """Return whether a value may equal another and be written differently, so that an upsert writes the key too."""
    return form_of(column) is None or column.base == "numeric"


def is_equal_by_text(column: TargetColumn) -> bool:
    """Return whether a database writes a value in one way only, so that all records of its row are in one partition."""
    free = column.base == "numeric" and column.typmod < 0
    return column.deterministic and not free and column.base not in _SEVERAL_TEXTS


def exact(columns: Iterable[TargetColumn], keys: Collection[tuple[str, ...]]) -> bool:
    """Return whether equal rows among `keys` have equal texts."""
    for column, texts in zip(columns, zip(*keys, strict=True), strict=True):
        form = form_of(column)
        if form is None or (form and not all_match(form, texts)):
            return False
    return True


def all_match(form: str, texts: Iterable[str]) -> bool:
    return _several(form).fullmatch("\n".join(texts)) is not None


@lru_cache(maxsize=64)
def _several(form: str) -> re.Pattern[str]:
    return re.compile(f"(?:{form})(?:\n(?:{form}))*")
