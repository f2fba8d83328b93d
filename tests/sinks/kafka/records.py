"""A serializer whose records the test writes itself, and ways to read a topic back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pycdc.model.change import Batch, Column, Op, PgType, Run, Table, Transaction
from pycdc.serialization.records import Record
from tests.services.kafka import KafkaAddress

Groups = list[tuple[str, list[Record]]]


class GivenRecords:
    """Hands out the groups that were given, one list of groups a batch."""

    def __init__(self, *batches: Groups) -> None:
        self._batches = list(batches)

    def give(self, groups: Groups) -> None:
        self._batches.append(groups)

    def serialize(self, batch: Batch) -> Groups:
        return self._batches.pop(0)

    def serialize_apart(self, batch: Batch) -> Groups:
        return self.serialize(batch)


def numbered(first: int, last: int, keys: int = 7, pad: int = 0) -> list[Record]:
    """Records whose value starts with their number, spread over `keys` keys."""
    return [{"key": b"k%d" % (n % keys), "value": b"%d " % n + b"x" * pad} for n in range(first, last)]


def numbers(kafka: KafkaAddress, topic: str, **options: Any) -> dict[bytes | None, list[int]]:
    """Per key the numbers in the order of the topic."""
    found: dict[bytes | None, list[int]] = {}
    for message in kafka.consume_all(topic, **options):
        found.setdefault(message.key(), []).append(int(message.value().split(b" ")[0]))
    return found


def is_complete_and_ordered(found: dict[bytes | None, list[int]], count: int, keys: int = 7) -> bool:
    """Whether each key has its numbers once, in order."""
    return found == {b"k%d" % key: list(range(key, count, keys)) for key in range(keys)}


def after_rewinding(found: Iterable[int]) -> list[int]:
    """The numbers in order of their first appearance: what repeats after a rewind leaves this unchanged."""
    return list(dict.fromkeys(found))


INT4 = PgType(23, "int4")
ORDERS = Table(
    16384,
    "public",
    "orders",
    (Column("tenant", INT4, identity=True), Column("id", INT4, identity=True), Column("note", PgType(25, "text"))),
    key=("tenant", "id"),
)


def batch_of(table: Table = ORDERS) -> Batch:
    return Batch([Run(Op.CREATE, table, Transaction(7, 100, 0), 0, [b""])], size=1)
