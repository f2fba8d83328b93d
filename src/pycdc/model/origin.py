"""The mark on what pycdc writes into a database, by which the capture of that database knows it again.

Two marks, because each has what the other lacks: a transactional logical message may be written by any role; a
replication origin needs a grant, and is seen by other tools too (Postgres' own ``origin = none``, Debezium).

A capture that does not drop such changes passes on whose they are, in headers of its records: the pipeline that carried
the change first, and how many did so far. That ends loops over any number of databases.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

MESSAGE_PREFIX: Final = "pycdc.origin"
"""Of the logical message that is the first statement of each transaction."""
ORIGIN_HEADER: Final = "pycdc.origin"
HOPS_HEADER: Final = "pycdc.hops"
HEADERS: Final = frozenset((ORIGIN_HEADER, HOPS_HEADER))
_ORIGIN: Final = "pycdc:"
UNKNOWN: Final = "unknown"
"""The origin of what was carried by a pipeline whose name cannot be read."""
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,62}")
"""As `Config.name`."""
_NAME_BYTES: Final = 64
_DIGITS: Final = re.compile(rb"[0-9]{1,10}")
_MOST_HOPS: Final = 1_000_000
_LONGEST: Final = 4 * 1_048_576
"""Bytes of a mark: it names each table of the routes."""


class ChangeOrigin(NamedTuple):
    """The way of a change: `origin` is the pipeline that wrote it into a database first, `hops` how many did."""

    origin: str
    hops: int

    def headers(self) -> list[tuple[str, bytes | None]]:
        return [(ORIGIN_HEADER, self.origin.encode()), (HOPS_HEADER, str(self.hops).encode())]


class Mark(NamedTuple):
    """`tables` are those that the pipeline writes, `schema.table`; empty where it does not tell."""

    pipeline: str
    change_origin: ChangeOrigin
    tables: frozenset[str] = frozenset()


def mark(pipeline: str, tables: Iterable[str] = (), change_origin: ChangeOrigin | None = None) -> str:
    """Return the content of the message. `change_origin` is the changes' origin; None: their application wrote them."""
    origin, hops = change_origin or (pipeline, 0)
    return json.dumps({"pipeline": pipeline, "origin": origin, "hops": hops + 1, "tables": sorted(tables)})


def read_mark(content: bytes) -> Mark | None:
    """Read a mark; None for content that is none: any role may write such messages, so nothing in one is trusted."""
    if len(content) > _LONGEST:
        return None
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict):
        return None
    name, hops, tables = document.get("pipeline"), document.get("hops", 1), document.get("tables", [])
    origin = document.get("origin", name)
    if not (isinstance(name, str) and _is_name(name) and isinstance(origin, str) and _is_name(origin)):
        return None
    if type(hops) is not int or not 1 <= hops <= _MOST_HOPS:
        return None
    if not isinstance(tables, list) or not all(isinstance(table, str) for table in tables):
        return None
    return Mark(name, ChangeOrigin(origin, hops), frozenset(tables))


def read_headers(headers: Sequence[tuple[str, bytes | None]]) -> ChangeOrigin | None:
    """Return the origin of a record's change, None where its application wrote it.

    A header that cannot be read counts as one hop of an unknown pipeline: any producer can write headers.
    """
    found = {name: value for name, value in headers if name in HEADERS and value is not None}
    if not found:
        return None
    origin = found.get(ORIGIN_HEADER, b"")[:_NAME_BYTES].decode("utf-8", "replace")
    return ChangeOrigin(origin if _is_name(origin) else UNKNOWN, _number(found.get(HOPS_HEADER, b"")))


def _is_name(text: str) -> bool:
    return _NAME.fullmatch(text) is not None


def _number(value: bytes) -> int:
    return int(value) if _DIGITS.fullmatch(value) and 1 <= int(value) <= _MOST_HOPS else 1


def origin_name(pipeline: str, worker: int) -> str:
    """Return a worker's replication origin: one belongs to one session at a time, so each worker has its own."""
    return f"{origin_prefix(pipeline)}{worker}"


def origin_prefix(pipeline: str) -> str:
    """Return what the names of all of a pipeline's origins begin with."""
    return f"{_ORIGIN}{pipeline}:"


def pipeline_of_origin(name: str) -> str | None:
    """Return the pipeline that an origin belongs to, None for one that is not of pycdc."""
    if not name.startswith(_ORIGIN):
        return None
    pipeline = name.removeprefix(_ORIGIN).rpartition(":")[0]
    return pipeline if _is_name(pipeline) else None
