"""Whether records of several partitions may be about one row of a table.

Records of one message key are in one partition, in their order. Where a route's key is another, a value of it may pass
from one row of the source to another: then two message keys tell of the row, by records of two partitions that have no
order, and a delete of its former owner that is read late takes the row with it. So such a route needs a topic of one
partition, or the word of its owner that no value ever passes on.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Final

from pycdc.errors import ConfigError
from pycdc.model.event import Event, Unwritable
from pycdc.sinks.postgres.routing.field_paths import look_up
from pycdc.sinks.postgres.routing.interpreted_route import PlainRoute

REMEDY: Final = (
    "give the topic one partition; or route by all fields of the message key; or, if a value never passes from one row "
    "of the source to another, say so: `key_reuse: never` in the route"
)


def identifies_row(message_key: Iterable[str], paths: Collection[str]) -> bool:
    """Return whether all fields of the message key are among the paths of a route's key.

    Then each row of the table has one message key for good.
    """
    return "$key" in paths or {path.removeprefix("$key.") for path in paths}.issuperset(message_key)


class KeyReuse:
    """Checks for one route that keys do not pass on. `ordered`: the records of a topic are all in one partition."""

    def __init__(self, plain: PlainRoute, ordered: Callable[[str], bool]) -> None:
        route = plain.route
        self._plain = plain
        self._ordered = ordered
        self._never = route.key_reuse == "never"
        # Amounts are added in any order.
        self._adds = route.operation == "delta" and not plain.assigned and route.deletion == "ignore"
        self._paths = list(plain.key.values())
        self._marks = tuple(f'"{path.removeprefix("$key.")}":'.encode() for path in self._paths)

    def require_order(self, event: Event) -> None:
        """Raise ConfigError where the event may be about a row that other partitions have events of too."""
        topic = event.partition.topic
        if self._adds or not _is_of_table(event) or self._ordered(topic):
            return
        if event.raw_key is None:
            self._require_key(event, topic)
        elif not self._never and not self._identifies_row(event, event.raw_key):
            raise ConfigError(
                f"topic {topic} has several partitions, and its message key is not the key of the route into table "
                f"{self._plain.table}: where a value of that key passes from one row of the source to another, their "
                "records have no order, and a row may be lost",
                hint=REMEDY,
            )

    def _require_key(self, event: Event, topic: str) -> None:
        op = event.op or (event.added or {}).get("__op")
        inserts = self._plain.route.operation == "insert" and op is None
        if event.deleted or not (inserts or op in ("c", "r")):
            raise ConfigError(
                f"records of topic {topic} have no message key, so those of one row of table {self._plain.table} are "
                "in several partitions, which have no order",
                hint="give the topic one partition, or the source's table a primary key",
            )

    def _identifies_row(self, event: Event, raw: bytes) -> bool:
        if raw[:1] == b"{" and self._is_plainly(raw):
            return True
        try:
            key = event.key
        except Unwritable:
            return "$key" in self._paths
        if isinstance(key, dict) and identifies_row(key, self._paths):
            return True
        # Fields may have been renamed, and a key that is no record has no names: those that have its values are it.
        row = event.before if event.row is None else event.row
        values = {str(look_up(path)(event, row)) for path in self._paths}
        return {str(value) for value in (key.values() if isinstance(key, dict) else [key])} <= values

    def _is_plainly(self, raw: bytes) -> bool:
        """Whether a key in JSON has the route's fields and no other, as far as that shows without reading it."""
        payload = raw[raw.rfind(b'"payload":') + 10 :] if b'"payload":' in raw else raw
        return payload.count(b'":') == len(self._marks) and all(mark in payload for mark in self._marks)


def _is_of_table(event: Event) -> bool:
    """Whether it tells a row of a table, and is no event of an application; a tombstone says what its delete said."""
    captured = event.reread is not None or bool(event.envelope) or bool(event.added)
    return captured and event.raw_value is not None
