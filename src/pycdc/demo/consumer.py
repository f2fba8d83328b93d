"""Reads events back as any consumer would: records from the broker, schemas from the registry by the id they carry."""

from __future__ import annotations

import io
import json
import logging
import threading
import time
import urllib.request
from collections.abc import Sequence
from typing import Any, Final

import fastavro
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Message, TopicPartition

from pycdc.demo.event_stats import ConsumedEvent, EventStats
from pycdc.errors import ConnectionLost, ProtocolError, PycdcError

_POLL: Final = 0.1
_BATCH: Final = 500
_TIMEOUT: Final = 10.0
_PREFIX: Final = 5
"""Bytes in front of the Avro: a zero and the schema's id."""


class SchemaCache:
    """The registry's schemas by id, asked for once each."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._known: dict[int, Any] = {}
        # A proxy of the environment does not reach this machine's loopback.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def by_id(self, number: int) -> Any:
        if number not in self._known:
            try:
                with self._opener.open(f"{self._url}/schemas/ids/{number}", timeout=_TIMEOUT) as answer:
                    text = json.load(answer)["schema"]
            except OSError as exc:
                raise ConnectionLost(f"the registry does not give schema {number}: {exc}") from None
            self._known[number] = fastavro.parse_schema(json.loads(text))
        return self._known[number]

    def decode(self, data: bytes) -> Any:
        """Decode a value in Confluent's wire format."""
        if len(data) < _PREFIX or data[0] != 0:
            raise ProtocolError("a record does not begin with a schema id")
        schema = self.by_id(int.from_bytes(data[1:_PREFIX], "big"))
        return fastavro.schemaless_reader(io.BytesIO(data[_PREFIX:]), schema, None)


def decode(key: bytes | None, value: bytes, schemas: SchemaCache, received: float) -> ConsumedEvent:
    """Decode the event in a record that is not a tombstone."""
    envelope = schemas.decode(value)
    source = envelope["source"]
    return ConsumedEvent(
        op=envelope["op"],
        table=source["table"],
        key=schemas.decode(key) if key is not None else {},
        before=envelope["before"],
        after=envelope["after"],
        transaction=source["txId"],
        committed=source["ts_us"] / 1e6,
        received=received,
    )


class EventConsumer:
    """A thread that reads `topics` from their beginning, into `stats`. `start`, then `stop`."""

    def __init__(self, brokers: str, registry: str, topics: Sequence[str], stats: EventStats) -> None:
        self.error: PycdcError | None = None
        """Why the thread ended by itself."""
        self._schemas = SchemaCache(registry)
        self._topics = topics
        self._stats = stats
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._consumer = Consumer(
            {
                "bootstrap.servers": brokers,
                "group.id": "pycdc-demo",
                "enable.auto.commit": False,
                "allow.auto.create.topics": True,
                # The mock cluster answers a fetch when this time is over, not when there is something.
                "fetch.wait.max.ms": 10,
                "logger": logging.getLogger(__name__),
            }
        )

    def start(self) -> None:
        self._consumer.assign(self._partitions())
        self._thread = threading.Thread(target=self._run, name="reader", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Idempotent."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
            self._consumer.close()

    def _partitions(self) -> list[TopicPartition]:
        """All partitions. Asking for a topic makes it; no group, since its first balance takes seconds."""
        found = []
        for topic in self._topics:
            deadline = time.monotonic() + _TIMEOUT
            while not (partitions := self._consumer.list_topics(topic, timeout=_TIMEOUT).topics[topic].partitions):
                if time.monotonic() > deadline:
                    raise ConnectionLost(f"the broker does not make topic {topic}")
            found += [TopicPartition(topic, number, OFFSET_BEGINNING) for number in partitions]
        return found

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self._read()
        except PycdcError as exc:
            self.error = exc
        except KafkaException as exc:
            self.error = ConnectionLost(f"the reader lost the broker: {exc.args[0]}")

    def _read(self) -> None:
        first = self._consumer.poll(_POLL)
        if first is None:
            return
        messages = [first, *self._consumer.consume(_BATCH, 0)]
        received = time.time()
        self._stats.add([event for message in messages if (event := self._event(message, received)) is not None])

    def _event(self, message: Message, received: float) -> ConsumedEvent | None:
        """Return the event, None for a tombstone."""
        error = message.error()
        if error is not None:
            raise KafkaException(error)
        self._stats.topics[message.topic() or ""] += 1
        value = message.value()
        if value is None:
            self._stats.tombstones += 1
            return None
        return decode(message.key(), value, self._schemas, received)
