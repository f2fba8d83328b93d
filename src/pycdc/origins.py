"""The mark on what pycdc writes into a database, by which the capture of that database knows it again.

Two marks, because each has what the other lacks: a transactional logical message may be written by any role; a
replication origin needs a grant, and is seen by other tools too (Postgres' own ``origin = none``, Debezium).

A capture that does not drop such changes passes on whose they are, in headers of its records: the pipeline that carried
the change first, and how many did so far. That ends loops over any number of databases.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

MESSAGE_PREFIX: Final = "pycdc.origin"
"""Of the logical message that is the first statement of each transaction."""
ORIGIN_HEADER: Final = "pycdc.origin"
HOPS_HEADER: Final = "pycdc.hops"
HEADERS: Final = frozenset((ORIGIN_HEADER, HOPS_HEADER))
_ORIGIN: Final = "pycdc:"


class Passage(NamedTuple):
    """The way of a change: `origin` is the pipeline that wrote it into a database first, `hops` how many did."""

    origin: str
    hops: int

    def headers(self) -> list[tuple[str, bytes | None]]:
        return [(ORIGIN_HEADER, self.origin.encode()), (HOPS_HEADER, str(self.hops).encode())]


class Mark(NamedTuple):
    """`tables` are those that the pipeline writes, `schema.table`; empty where it does not tell."""

    pipeline: str
    passage: Passage
    tables: frozenset[str] = frozenset()


def mark(pipeline: str, tables: Iterable[str] = (), came: Passage | None = None) -> str:
    """The content of the message. `came` is how the changes came here; None: their application wrote them."""
    origin, hops = came or (pipeline, 0)
    return json.dumps({"pipeline": pipeline, "origin": origin, "hops": hops + 1, "tables": sorted(tables)})


def read_mark(content: bytes) -> Mark | None:
    """None for content that is not a mark's."""
    try:
        document = json.loads(content)
    except ValueError:
        return None
    name = document.get("pipeline") if isinstance(document, dict) else None
    if not isinstance(name, str):
        return None
    passage = Passage(str(document.get("origin", name)), _number(document.get("hops")))
    tables = document.get("tables")
    return Mark(name, passage, frozenset(map(str, tables)) if isinstance(tables, list) else frozenset())


def read_headers(headers: Sequence[tuple[str, bytes | None]]) -> Passage | None:
    """How a record's change came, None where its application wrote it."""
    found = {name: value for name, value in headers if name in HEADERS and value is not None}
    if not found:
        return None
    return Passage(found.get(ORIGIN_HEADER, b"").decode("utf-8", "replace"), _number(found.get(HOPS_HEADER)))


def _number(value: object) -> int:
    """What cannot be read has been carried at least once."""
    try:
        return max(1, int(value))  # type: ignore[call-overload,no-any-return]
    except (TypeError, ValueError):
        return 1


def origin_name(pipeline: str, worker: int) -> str:
    """A replication origin belongs to one session at a time, so each worker has its own."""
    return f"{origin_prefix(pipeline)}{worker}"


def origin_prefix(pipeline: str) -> str:
    """What the names of all of a pipeline's origins begin with."""
    return f"{_ORIGIN}{pipeline}:"


def pipeline_of_origin(name: str) -> str | None:
    """The pipeline that an origin belongs to, None for somebody else's."""
    if not name.startswith(_ORIGIN):
        return None
    return name.removeprefix(_ORIGIN).rpartition(":")[0]
