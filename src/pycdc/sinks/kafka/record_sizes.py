"""What a record may measure: by the limit of its topic, and by the client's own."""

from __future__ import annotations

from collections.abc import Mapping
from operator import itemgetter
from typing import Any, Final

from pycdc.clients.kafka_errors import too_large_hint
from pycdc.errors import DeliveryError, RecordTooLarge
from pycdc.model.change import Batch, Table
from pycdc.serialization.records import Record

_value = itemgetter("value")
_OVERHEAD: Final = 96
"""Bytes a record and its batch take beside key, value and headers, at most."""


RefusedRecord = tuple[str, bytes | None, int]
"""Topic, key, and bytes of the value of a record."""


class RecordSizes:
    """Knows the limits of the topics that were admitted; `settings` are the producer's.

    Of `strict` topics the limit holds before compression: nothing is left to the brokers' judgement.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._client = min(int(settings["message.max.bytes"]), int(settings["queue.buffering.max.kbytes"]) << 10)
        self._compressed = str(settings["compression.type"]) != "none"
        self._bounds: dict[str, int] = {}
        self._tables: dict[str, Table] = {}
        self._refused: set[RefusedRecord] = set()
        self._keeps = False
        self.strict: frozenset[str] = frozenset()
        self.limits: dict[str, int] = {}
        """What each topic takes, in bytes."""

    def admit(self, topic: str, limit: int, batch: Batch) -> None:
        """Take note of a topic's limit, and whose rows go there."""
        self._tables.update((topic, run.table) for run in batch.runs if run.table and topic.endswith(str(run.table)))
        self.limits[topic] = limit

    def forget(self, oids: frozenset[int]) -> None:
        """Forget these tables."""
        self._tables = {topic: table for topic, table in self._tables.items() if table.oid not in oids}

    def keep_refusals(self, known: set[RefusedRecord]) -> None:
        """Remember what brokers refuse in `known`, which outlives the sink: when it comes again, it does not fit."""
        self._refused, self._keeps = known, True

    def refusal(self, topic: str, key: bytes | None, value: bytes | None) -> DeliveryError:
        """Return the error of a record that brokers found too large: after compression, which only they can tell."""
        if not self._keeps:
            return self.too_large(topic, key, value)
        self._refused.add((topic, key, len(value or b"")))
        return DeliveryError(
            f"topic {topic} did not take a record of {len(value or b'')} bytes, although it was compressed",
            hint="nothing is to be done: when it comes again, the rule of its table says what becomes of it",
        )

    def most(self, topic: str) -> int:
        """Return what certainly fits, headers included."""
        return min(self.limits[topic], self._client)

    def split(
        self, topic: str, records: list[Record], spare: int = 0, *, surely: bool = False
    ) -> tuple[list[Record], list[Record]]:
        """Return the records that may fit with `spare` bytes more, and those that certainly do not.

        `surely`: those that fit whatever compression does, and all others.
        """
        bound = max(map(len, filter(None, map(_value, records))), default=0)
        limit = self._bounds.get(topic) or self._bounds.setdefault(topic, self._limit(topic))
        limit = self.most(topic) if surely else limit
        # Keys and headers are small: looking at each only near the limit keeps the usual case at one C loop.
        if bound * 2 < limit and (not self._refused or bound < min(size for *_, size in self._refused)):
            return records, []
        fit: list[Record] = []
        large: list[Record] = []
        for record in records:
            (fit if self._fits(topic, record, limit - spare) else large).append(record)
        return fit, large

    def too_large(self, topic: str, key: bytes | None, value: bytes | None) -> RecordTooLarge:
        """Return the error of a record that does not fit."""
        table, key_size, size = self._tables.get(topic), len(key or b""), len(value or b"")
        whose = f" (table {table}, key {', '.join(table.key) or 'none'})" if table else ""
        return RecordTooLarge(
            f"a record of {key_size + size} bytes (key {key_size}, value {size}) is more than topic {topic} takes, "
            f"{self.limits.get(topic, 0)} bytes{whose}",
            hint=too_large_hint(topic),
        )

    def _fits(self, topic: str, record: Record, limit: int) -> bool:
        key, value = len(record["key"] or b""), len(record["value"] or b"")
        headers = sum(len(name) + len(data or b"") + 10 for name, data in record.get("headers", ()))
        if key + value + headers + _OVERHEAD > limit:
            return False
        return not self._refused or (topic, record["key"], value) not in self._refused

    def _limit(self, topic: str) -> int:
        """Bytes that certainly do not fit. Compression may save a record that is above the topic's own limit."""
        return self._client if self._compressed and topic not in self.strict else self.most(topic)
