"""A pipeline on a thread of this process, and topics as a plain consumer reads them, all partitions, bytes and all."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext

import pycdc
from tests.reading import PASSING, PATIENCE, wait_for


class Running:
    """Runs from entering to leaving the context; leaving it raises what the pipeline raised, unless `failure` asked."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.pipeline = pycdc.Pipeline(document)
        self._thread = threading.Thread(target=self._run, name="pipeline")
        self._error: BaseException | None = None
        self._expected = False

    def _run(self) -> None:
        try:
            self.pipeline.run()
        except BaseException as error:
            self._error = error

    def __enter__(self) -> Running:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *args: object) -> None:
        self.pipeline.stop()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "the pipeline did not stop"
        if self._error is not None and not self._expected and kind is None:
            raise self._error

    def until(self, condition: Callable[[], Any], timeout: float = PATIENCE) -> None:
        """Wait until `condition` holds; raise what ended the pipeline meanwhile."""
        wait_for(lambda: self._error is not None or condition(), timeout)
        if self._error is not None:
            raise self._error

    def until_streaming(self) -> None:
        self.until(lambda: self.pipeline.progress.state == "streaming")

    def failure(self, timeout: float = PATIENCE) -> pycdc.PycdcError:
        """What ends the pipeline, once it did."""
        self._expected = True
        self._thread.join(timeout)
        assert isinstance(self._error, pycdc.PycdcError), self._error
        return self._error

    def end(self, timeout: float = PATIENCE) -> None:
        """Wait until the pipeline ends by itself."""
        self._thread.join(timeout)
        assert not self._thread.is_alive(), "the pipeline goes on"


@dataclass(frozen=True)
class Record:
    """`key` and `value` are decoded, `raw_key` and `raw` are the bytes."""

    partition: int
    key: Any
    value: Any
    headers: dict[str, bytes]
    raw_key: bytes | None
    raw: bytes | None

    @property
    def schema_id(self) -> int:
        assert self.raw is not None
        return int.from_bytes(self.raw[1:5], "big")


Decode = Callable[[Message], tuple[Any, Any]]


class TopicReader:
    """Reads whole topics, in order within each partition."""

    def __init__(self, brokers: str, registry: str | None = None) -> None:
        settings = {"bootstrap.servers": brokers, "group.id": f"reader-{uuid.uuid4()}", "enable.auto.commit": False}
        self._consumer = Consumer({**settings, "log_level": 3, "enable.partition.eof": True})
        self._registry = None if registry is None else SchemaRegistryClient({"url": registry})
        self._avro = None if self._registry is None else AvroDeserializer(self._registry)

    def read(self, topic: str) -> list[Record]:
        """All records that are there now; none where there is no such topic."""
        return [self._record(message) for message in self.messages(topic)]

    def messages(self, topic: str) -> list[Message]:
        found = self._consumer.list_topics(timeout=60).topics.get(topic)
        if found is None:
            return []
        out: list[Message] = []
        for number in sorted(found.partitions):
            out += self._partition(topic, number)
        return out

    def topics(self, prefix: str) -> list[str]:
        return sorted(name for name in self._consumer.list_topics(timeout=60).topics if name.startswith(prefix))

    def _end(self, topic: str, number: int) -> int:
        """The partition's end, from a broker that may still be about to lead it."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return int(self._consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=60)[1])
            except KafkaException as error:
                if error.args[0].code() not in PASSING or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def _partition(self, topic: str, number: int) -> Iterator[Message]:
        high = self._end(topic, number)
        if not high:
            return
        self._consumer.assign([TopicPartition(topic, number, 0)])
        at = 0
        while at < high:
            for message in self._consumer.consume(min(500, high - at), 0.2):
                error = message.error()
                if error is not None and error.code() == KafkaError._PARTITION_EOF:
                    # What is last may be the marker of a transaction, which is no record.
                    at = max(at, message.offset())
                    continue
                assert error is None, error
                at = message.offset() + 1
                yield message
        self._consumer.unassign()

    def _record(self, message: Message) -> Record:
        key, value = message.key(), message.value()
        if self._avro is not None:
            key = self._avro(key, SerializationContext(message.topic(), MessageField.KEY))
            value = self._avro(value, SerializationContext(message.topic(), MessageField.VALUE))
        headers = dict(message.headers() or [])
        return Record(message.partition(), key, value, headers, message.key(), message.value())

    def close(self) -> None:
        self._consumer.close()
        if self._registry is not None:
            self._registry.close()


def rows(records: Sequence[Record], op: str) -> list[dict[str, Any]]:
    """The new rows of the events with that operation."""
    return [record.value["after"] for record in records if record.value is not None and record.value["op"] == op]
