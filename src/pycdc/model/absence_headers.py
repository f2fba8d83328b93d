"""The headers by which a record says which of its values are not there.

A record's schema has no place for "not sent": something stands where the value would be. So a header names the fields,
as the record calls them, separated by commas; a comma within a name is ``%2C``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final
from urllib.parse import unquote

KNOWN: Final = "__pycdc.before"
"""Fields of ``before`` that the old row really tells. Without it, nothing is said."""
UNSENT: Final = "__pycdc.unavailable"
"""Fields of ``after`` (of the row, where it is flattened) whose values Postgres did not send. Without it: none."""
NEW_KEY: Final = "__debezium.newkey"
"""On the delete that a change of the key begins with: the key that the row has afterwards."""
OLD_KEY: Final = "__debezium.oldkey"
"""On the create that a change of the key ends with: the key that the row had."""
DEFERRABLE: Final = "__pycdc.deferrable"
"""On all changes of a table with a deferrable key, which several rows may have within a transaction. Its value is the
operation, which a flattened record does not tell."""

AbsenceHeader = tuple[str, bytes | None]


def named(names: Iterable[str]) -> bytes:
    """Return a header's value."""
    return ",".join([name.replace("%", "%25").replace(",", "%2C") for name in names]).encode("utf-8", "surrogateescape")


def names_in(headers: Sequence[AbsenceHeader], header: str) -> frozenset[str] | None:
    """Return the names that a record's header has, None where it has no such header."""
    found = next((value for name, value in reversed(headers) if name == header), None)
    if found is None:
        return None
    text = found.decode("utf-8", "surrogateescape")
    return frozenset(unquote(name, errors="surrogateescape") for name in text.split(",")) if text else frozenset()
