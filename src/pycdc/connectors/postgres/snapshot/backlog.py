"""What a snapshot still has to read. Part of every checkpoint, so that a killed snapshot goes on where it was.

A task is a table, or the rest of one: behind the key that was delivered last, without what was delivered in
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
"""The request of tasks that nobody asked for by a signal."""
ADDED: Final = "added"
"""That of tables that joined a pipeline that has begun."""
RESYNC: Final = "resync"
"""That of tables whose changes the publication left out for a while."""

_PLACED: Final = re.compile(r" at [0-9A-F]+/[0-9A-F]+$")


@dataclass(slots=True, eq=False)
class TableTask:
    """A table still to be read: behind the key `after`, where that is known, and under the condition `where`.

    What was `delivered` in physical order is left out.

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
    def from_signal(self) -> bool:
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
    """The tasks in their order. `state` is the same object until something changes."""

    def __init__(self, tasks: Iterable[TableTask] = (), *, paused: bool = False) -> None:
        self._documents = {task: _document(task) for task in tasks}
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

    def __contains__(self, task: TableTask) -> bool:
        return task in self._documents

    def add(self, tasks: Iterable[TableTask]) -> None:
        self._documents |= {task: _document(task) for task in tasks}
        self._changed()

    def expect(self, tasks: Iterable[TableTask], *, read_again: Container[str]) -> list[TableTask]:
        """Add those that are not there yet; return them. A request of `read_again` takes the place of what is there."""
        added = []
        for task in tasks:
            same = [r for r in self if (r.schema, r.name, r.where) == (task.schema, task.name, task.where)]
            if same and task.request not in read_again:
                continue
            for old in same:
                del self._documents[old]
            self._documents[task] = _document(task)
            added.append(task)
        self._changed()
        return added

    def postpone(self, task: TableTask) -> None:
        """Read the others first."""
        self._documents[task] = self._documents.pop(task)

    def settle(self, task: TableTask) -> None:
        """Older transactions are over."""
        task.since = None
        self._documents[task] = _document(task)
        self._changed()

    def advance(self, task: TableTask, after: KeyValues | None, rows: int) -> None:
        """Take note that `rows` more were delivered; `after` is the key of the last of them."""
        task.after = after
        task.rows += rows
        self._documents[task] = _document(task)
        self._changed()

    def delivered(self, task: TableTask, delivered: Delivered | None, rows: int) -> None:
        """Take note that `rows` more were delivered, in physical order; None forgets what was known of that order."""
        task.delivered = delivered
        self.advance(task, task.after, rows)

    def identify(self, task: TableTask, oid: int, schema: str, name: str) -> None:
        """Say which table it is, and what its name is now."""
        if (task.oid, task.schema, task.name) != (oid, schema, name):
            task.oid, task.schema, task.name = oid, schema, name
            self._documents[task] = _document(task)
            self._changed()

    def restart(self, task: TableTask) -> None:
        """Read the table from its beginning: what was delivered of it says nothing of the rest."""
        task.after, task.delivered, task.rows = None, None, 0
        self._documents[task] = _document(task)
        self._changed()

    def finish(self, task: TableTask) -> None:
        del self._documents[task]
        self._changed()

    def pause(self, paused: bool) -> None:
        self.paused = paused
        self._changed()

    def cancel(self, wanted: Iterable[TableTask]) -> list[TableTask]:
        """Take out what was asked for by a signal, and no other; return it."""
        gone = [task for task in wanted if task.ad_hoc and task in self._documents]
        for task in gone:
            del self._documents[task]
        self.paused = self.paused and bool(self._documents)
        self._changed()
        return gone


def _document(task: TableTask) -> dict[str, Any]:
    document: dict[str, Any] = {"table": [task.schema, task.name]}
    if task.after is not None:
        # Texts of a database in SQL_ASCII need not be UTF-8.
        document["after"] = [text.decode("utf-8", "surrogateescape") for text in task.after]
        if task.by is not None:
            document["by"] = task.by
    if task.delivered is not None:
        document["delivered"] = asdict(task.delivered)
    if task.rows:
        document["rows"] = task.rows
    if task.where is not None:
        document["where"] = task.where
    if task.ad_hoc:
        document["request"] = task.request
    if task.since is not None:
        document["since"] = task.since
    if task.oid is not None:
        document["oid"] = task.oid
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
