"""What a route does where an event changes which row of its table is meant.

A change of the message key comes as a delete with the new key, a tombstone, and a create with the old one; where the
route's key is another, an update tells both in its rows. The row is moved, so that it keeps what was not sent. What is
moved already, or has a row in its place, stays as it is; then the delete removes the old row.

Where a topic has several partitions, the records of the two keys may be in different ones, which have no order: a row
that is moved could come back after its new key was deleted, or keep what an update of its old key replaced. There the
old row is removed, and a create that was not sent whole needs a row that is there, which is an error with a name.

An update without an old row may have changed a key that the message key does not tell: its row must be there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pycdc.config.postgres_sink import Route
from pycdc.model.absence_headers import NEW_KEY, OLD_KEY
from pycdc.model.change import Row
from pycdc.model.event import Event, Forms, Unwritable
from pycdc.observability.logger import get_logger
from pycdc.rows.column_presence import holds_field
from pycdc.rows.column_readings import reading
from pycdc.sinks.postgres.routing.field_paths import ABSENT, look_up
from pycdc.sinks.postgres.routing.interpreted_route import PlainRoute
from pycdc.sinks.postgres.routing.key_reuse import identifies_row
from pycdc.sinks.postgres.target_tables import TargetTable, key_columns
from pycdc.sinks.postgres.writing.writes import RowWrite, shape_of

log = get_logger()

_WRITING: Final = ("insert", "upsert", "update")
_MOST: Final = 1000
KeyPaths = tuple[str, ...]


def asked_of_old_rows(route: Route, table: TargetTable) -> tuple[str, ...]:
    """Return the fields that old rows have to hold: the key's, and those that `when` asks of deletes."""
    if route.replica_identity == "full":
        return ()
    paths = [route.key.get(column, column) for column in key_columns(route, table)]
    paths += route.when if route.deletion != "ignore" else ()
    return tuple(dict.fromkeys(path for path in paths if not path.startswith("$")))


class KeyChanges:
    """Recognizes key changes for one route. `ordered`: the records of a topic are all in one partition."""

    def __init__(self, plain: PlainRoute, ordered: Callable[[str], bool]) -> None:
        route = plain.route
        self._plain = plain
        self._ordered = ordered
        # A key that is GENERATED ALWAYS AS IDENTITY cannot be changed.
        fixed = any(plain.table.columns[column].identity == "a" for column in plain.key)
        self._moves = route.operation in _WRITING and route.deletion != "ignore" and not fixed
        self._fields = tuple(path for path in plain.key.values() if not path.startswith("$"))
        self.known_keys: set[bytes] = set()
        """How message keys in Avro begin that tell which row of the table it is, and nothing else."""
        self._warned = False
        self._marks = tuple(f'"{field}"'.encode() for field in self._fields)

    def may_happen(self, event: Event, row: Row) -> bool:
        """Return whether the event may change its row's key. Fast: it is asked of every row."""
        before = event.before
        if event.other_key is not None:
            return True
        if event.by_function:
            return False
        if before is not None:
            return any(before.get(field) != row.get(field) for field in self._fields)
        if event.reread is None and event.envelope is None:
            return False  # neither a row of a table, nor told what it was
        raw = event.raw_key or b""
        if raw[:1] != b"\0":
            return not all(mark in raw for mark in self._marks) and not self._identifies_row(event)
        if raw[:5] in self.known_keys:
            return False
        if not self._identifies_row(event):
            return True
        key = _fields_of_key(event)
        if key is None or not identifies_row(key, self._plain.key.values()):
            return False
        if len(self.known_keys) >= _MOST:
            self.known_keys.clear()
        self.known_keys.add(raw[:5])
        return False

    def writes(self, event: Event, write: RowWrite | None) -> list[RowWrite]:
        """Return `write`, and what stands with it. The event is settled."""
        if write is None:
            return []
        if event.deleted:
            return self._left(event, write)
        return self._reached(event, write)

    def _left(self, event: Event, write: RowWrite) -> list[RowWrite]:
        new = self._other(event)
        if new is None:
            return [write]
        if new == write.key:
            return []  # in the table it is the same row
        if not self._ordered(event.partition.topic):
            return [write]
        moved = moving(write, write.key, new)
        if write.shape.operation == "update" or (event.raw_value is None and event.is_behind_delete()):
            return [moved]  # behind its delete, whoever has the key now came to it before
        return [moved, _remainder(write, write.key, new)]

    def _reached(self, event: Event, write: RowWrite) -> list[RowWrite]:
        if event.other_key is not None:
            old = self._other(event)
            if old is None or old == write.key or not self._ordered(event.partition.topic):
                return [write]
            return [moving(write, old, write.key), of_moved(write)]
        if event.by_function:
            return [write]
        old = self._before(event) if self._moves else None
        if old == write.key:
            return [write]
        if old is not None:
            return [moving(write, old, write.key), _remainder(write, old, write.key), write]
        if write.shape.operation == "upsert" and self._is_unsure(event):
            return [_of_known(write)]
        return [write]

    def _is_unsure(self, event: Event) -> bool:
        envelope = event.reread is not None or event.envelope is not None
        return envelope and not self._identifies_row(event) and event.op == "u"

    def _identifies_row(self, event: Event) -> bool:
        """Return whether the message key identifies the row of the table. One that is no record is not Debezium's."""
        key = _fields_of_key(event)
        lacking = [] if key is None else [field for field in self._fields if field not in key]
        if lacking and not self._warned:
            self._warned = True
            log.warning(
                "the message key does not tell which row of the table it is: updates that do not tell it either need a "
                "row that is there, and such deletes are refused",
                table=str(self._plain.table),
                topic=event.partition.topic,
                field=lacking[0],
                remedy="set REPLICA IDENTITY FULL for the source's table, or key the route by the message key",
            )
        return not lacking

    def _other(self, event: Event) -> KeyPaths | None:
        """Return the other key. Raises Unwritable where it cannot be read, and something would have to be moved."""
        if event.other_key is None or not self._moves:
            return None
        if not event.other_key:
            if not self._ordered(event.partition.topic):
                return None
            raise Unwritable(
                f"the other key of a row whose key changed cannot be read from header {NEW_KEY} or {OLD_KEY}: have "
                "headers written as JSON (the connector's header.converter), or with `format: avro` by the registry"
            )
        _ = event.key  # what its values are is known then
        return self._texts(event, event.other_key, event.key_forms)

    def _before(self, event: Event) -> KeyPaths | None:
        if event.before is None or not all(holds_field(event, field) for field in self._fields):
            return None
        return self._texts(event, event.before, event.forms)

    def _texts(self, event: Event, row: Row, forms: Forms | None) -> KeyPaths | None:
        """Return the route's key in another row than the event's; None where that row does not hold it."""
        out = []
        for column, path in self._plain.key.items():
            value = look_up(path.removeprefix("$key."))(event, row)
            text = None if value is ABSENT else reading(forms).text(value, self._plain.table.columns[column])
            if text is None:
                return None
            out.append(text)
        return tuple(out)


def _fields_of_key(event: Event) -> Row | None:
    """Return the message key's fields; None for a key that is no record or cannot be read."""
    try:
        key = event.key
    except Unwritable:
        return None
    return key if isinstance(key, dict) else None


def moving(write: RowWrite, old: KeyPaths, new: KeyPaths) -> RowWrite:
    shape = write.shape
    moving = shape_of(shape.table, "update", shape.key, shape.key, order=shape.order)
    return write._replace(shape=moving, key=old, set=new, add=())


def _remainder(write: RowWrite, old: KeyPaths, new: KeyPaths) -> RowWrite:
    """Return the delete of an old row that could not be moved."""
    shape = write.shape
    return write._replace(
        shape=shape_of(shape.table, "delete", shape.key, shape.key, order=shape.order), key=old, set=new, add=()
    )


def of_moved(write: RowWrite) -> RowWrite:
    """Return an insert as the move of a row that may be there."""
    shape = write.shape
    if shape.operation != "insert":
        return write
    return write._replace(shape=shape_of(shape.table, "upsert", shape.key, shape.set, order=shape.order))


def _of_known(write: RowWrite) -> RowWrite:
    shape = write.shape
    return write._replace(
        shape=shape_of(shape.table, "update", shape.key, shape.set, must_exist=True, order=shape.order)
    )
