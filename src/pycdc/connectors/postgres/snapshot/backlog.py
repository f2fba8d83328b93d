"""What a snapshot still has to read. Part of every checkpoint, so that a killed snapshot goes on where it was.

A reading is a table, or the rest of one: behind the key that was delivered last, without what was delivered in
physical order. The state is JSON: a copy of it goes with each batch, and is stored together with the position.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from pycdc.connectors.postgres.catalog.keyset import KeyValues
from pycdc.connectors.postgres.snapshot.block_ranges import Delivered

INITIAL: Final = ""
"""The request of readings that nobody asked for by a signal."""
ADDED: Final = "added"
"""That of tables that joined a pipeline that has begun."""
RESYNC: Final = "resync"
"""That of tables whose changes the publication left out for a while."""

_PLACED: Final = re.compile(r" at [0-9A-F]+/[0-9A-F]+$")


@dataclass(slots=True, eq=False)
class TableTask:
    """A table still to be read: behind the key `after`, where that is known, without what was `delivered` in physical
    order, and under the condition `where`.

    `rows` were delivered so far. `request` is the id of the signal that asked. `since` is the transaction before which
    the table was not published: what older ones wrote to it must have ended before it is read. `by` names the table's
    identity and the order that `after` is a place in, `oid` is the table's, whatever its name is by then; None where
    nobody noted it.
    """

    schema: str
    name: str
    after: KeyValues | None = field(default=None, repr=False)
    rows: int = 0
    where: str | None = field(default=None, repr=False)
    request: str = INITIAL
    since: int | None = None
    by: str | None = None
    delivered: Delivered | None = None
    oid: int | None = None

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"

    @property
    def by_strangers(self) -> bool:
        """Whether `where` was written by whoever sent a signal."""
        return self.where is not None and self.request not in (INITIAL, ADDED, RESYNC)

    @property
    def ad_hoc(self) -> bool:
        return self.request != INITIAL

    @property
    def signal(self) -> str:
        """The signal's id as whoever sent it knows it: one of the table is told apart by where it was written."""
        return _PLACED.sub("", self.request)


class Backlog:
    """The readings in their order. `state` is the same object until something changes."""

    def __init__(self, readings: Iterable[TableTask] = (), *, paused: bool = False) -> None:
        self._documents = {reading: _document(reading) for reading in readings}
        self.paused = paused
        self._changed()

    @classmethod
    def of_state(cls, state: Mapping[str, Any]) -> Backlog:
        return cls(map(_reading, state.get("tables", ())), paused=state.get("paused", False))

    def _changed(self) -> None:
        self.state: dict[str, Any] = {}
        if self._documents:
            self.state = {"paused": self.paused, "tables": list(self._documents.values())}

    @property
    def current(self) -> TableTask | None:
        """What is to be read next, None where there is nothing or it is paused."""
        return None if self.paused else next(iter(self._documents), None)

    def __len__(self) -> int:
        return len(self._documents)

    def __iter__(self) -> Iterator[TableTask]:
        return iter(tuple(self._documents))

    def __contains__(self, reading: TableTask) -> bool:
        return reading in self._documents

    def add(self, readings: Iterable[TableTask]) -> None:
        self._documents |= {reading: _document(reading) for reading in readings}
        self._changed()

    def expect(self, readings: Iterable[TableTask], *, anew: Container[str]) -> list[TableTask]:
        """Add those that are not there yet; return them. A request of `anew` takes the place of what is there."""
        added = []
        for reading in readings:
            same = [r for r in self if (r.schema, r.name, r.where) == (reading.schema, reading.name, reading.where)]
            if same and reading.request not in anew:
                continue
            for old in same:
                del self._documents[old]
            self._documents[reading] = _document(reading)
            added.append(reading)
        self._changed()
        return added

    def postpone(self, reading: TableTask) -> None:
        """Read the others first."""
        self._documents[reading] = self._documents.pop(reading)

    def settle(self, reading: TableTask) -> None:
        """Older transactions are over."""
        reading.since = None
        self._documents[reading] = _document(reading)
        self._changed()

    def advance(self, reading: TableTask, after: KeyValues | None, rows: int) -> None:
        """`rows` more were delivered; `after` is the key of the last of them."""
        reading.after = after
        reading.rows += rows
        self._documents[reading] = _document(reading)
        self._changed()

    def delivered(self, reading: TableTask, delivered: Delivered | None, rows: int) -> None:
        """`rows` more were delivered, in physical order; None takes back what was known of that order."""
        reading.delivered = delivered
        self.advance(reading, reading.after, rows)

    def identify(self, reading: TableTask, oid: int, schema: str, name: str) -> None:
        """Say which table it is, and what its name is now."""
        if (reading.oid, reading.schema, reading.name) != (oid, schema, name):
            reading.oid, reading.schema, reading.name = oid, schema, name
            self._documents[reading] = _document(reading)
            self._changed()

    def restart(self, reading: TableTask) -> None:
        """Read the table from its beginning: what was delivered of it says nothing of the rest."""
        reading.after, reading.delivered, reading.rows = None, None, 0
        self._documents[reading] = _document(reading)
        self._changed()

    def finish(self, reading: TableTask) -> None:
        del self._documents[reading]
        self._changed()

    def pause(self, paused: bool) -> None:
        self.paused = paused
        self._changed()

    def cancel(self, wanted: Iterable[TableTask]) -> list[TableTask]:
        """Take out what was asked for by a signal, and no other; return it."""
        gone = [reading for reading in wanted if reading.ad_hoc and reading in self._documents]
        for reading in gone:
            del self._documents[reading]
        self.paused = self.paused and bool(self._documents)
        self._changed()
        return gone


def _document(reading: TableTask) -> dict[str, Any]:
    document: dict[str, Any] = {"table": [reading.schema, reading.name]}
    if reading.after is not None:
        # Texts of a database in SQL_ASCII need not be UTF-8.
        document["after"] = [text.decode("utf-8", "surrogateescape") for text in reading.after]
        if reading.by is not None:
            document["by"] = reading.by
    if reading.delivered is not None:
        document["delivered"] = asdict(reading.delivered)
    if reading.rows:
        document["rows"] = reading.rows
    if reading.where is not None:
        document["where"] = reading.where
    if reading.ad_hoc:
        document["request"] = reading.request
    if reading.since is not None:
        document["since"] = reading.since
    if reading.oid is not None:
        document["oid"] = reading.oid
    return document


def _reading(document: Mapping[str, Any]) -> TableTask:
    schema, name = document["table"]
    after, delivered = document.get("after"), document.get("delivered")
    return TableTask(
        schema,
        name,
        None if after is None else tuple(text.encode("utf-8", "surrogateescape") for text in after),
        document.get("rows", 0),
        document.get("where"),
        document.get("request", INITIAL),
        document.get("since"),
        document.get("by"),
        None if delivered is None else Delivered(**delivered),
        document.get("oid"),
    )
