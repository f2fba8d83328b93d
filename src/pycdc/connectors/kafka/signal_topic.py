"""Listens to a signal topic, and passes on what is meant for this pipeline.

A signal counts as heard once it was passed on, into the source's WAL, where it has its place among the changes: then
the topic's offset is committed. After a crash in between it is passed on again, under the same id. That the brokers are
away delays signals, and nothing else.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from typing import Any, Final

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from pycdc.connectors.postgres.signals.debezium import DebeziumSignal, Unusable, of_message
from pycdc.errors import ConfigError, ConnectionLost, PycdcError
from pycdc.interfaces import Checkpoint, Connector, Exclusive
from pycdc.model.change import Batch
from pycdc.observability.logger import get_logger
from pycdc.observability.progress import Progress

log = get_logger()

_POLL: Final = 0.2
_ANSWER: Final = 2.0
"""Seconds that brokers have for an answer; somebody who stops the pipeline waits as long."""
_FIRST_DELAY, _MAX_DELAY = 0.5, 15.0
_PASSING: Final = {KafkaError._PARTITION_EOF, KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN}
_OURS: Final[dict[str, Any]] = {
    "isolation.level": "read_committed",
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "auto.offset.reset": "earliest",
    "allow.auto.create.topics": False,
}


class SignalTopic:
    """Messages of `topic` whose key is `key` go to `forward`, one after another. Offsets are those of `group`.

    `client` are librdkafka's settings for the cluster. Partitions are assigned by hand: there is one listener, that of
    the process which has the slot.
    """

    def __init__(
        self,
        client: Mapping[str, Any],
        topic: str,
        key: str,
        group: str,
        forward: Callable[[DebeziumSignal], None],
        progress: Progress,
    ) -> None:
        self._settings = {**client, **_OURS, "group.id": group}
        self._topic = topic
        self._key = key.encode()
        self._forward = forward
        self._progress = progress
        self._stopping = threading.Event()
        self._passing = threading.Lock()
        self._thread: threading.Thread | None = None
        self._said = ""
        self._heard: dict[int, int] = {}
        """Where to go on in each partition, until the group knows."""

    def start(self) -> None:
        """Begin to listen. Idempotent. Raises ConfigError for settings that librdkafka does not take."""
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._run, args=(self._consumer(),), name="pycdc-signals", daemon=True
            )
            self._thread.start()

    def stop(self) -> None:
        """Return once nothing is passed on any more. Idempotent.

        Brokers that do not answer a commit are not waited for long: the thread ends by itself when they do, or when
        librdkafka gives them up.
        """
        self._stopping.set()
        with self._passing:
            pass
        if self._thread is not None:
            self._thread.join(_ANSWER)

    def _consumer(self) -> Consumer:
        try:
            return Consumer(self._settings)
        except KafkaException:
            raise ConfigError(
                "librdkafka refuses the options of the signal topic", hint="correct signals.options"
            ) from None

    def _run(self, consumer: Consumer) -> None:
        delay = _FIRST_DELAY
        with closing(consumer):
            while not self._stopping.is_set():
                try:
                    self._assign(consumer)
                    delay = _FIRST_DELAY
                    self._listen(consumer)
                except (PycdcError, KafkaException) as error:
                    self._complain(error)
                    self._stopping.wait(delay)
                    delay = min(_MAX_DELAY, 2 * delay)

    def _complain(self, error: PycdcError | KafkaException) -> None:
        """Once about each trouble."""
        fact = error.fact if isinstance(error, PycdcError) else error.args[0].str()
        if fact != self._said:
            self._said = fact
            log.warning("signals of the topic have to wait", topic=self._topic, fact=fact)

    def _assign(self, consumer: Consumer) -> None:
        """Begin behind what was heard; the first time with what the topic has.

        The group does not know of what was heard where brokers did not answer a commit.
        """
        found = consumer.list_topics(self._topic, timeout=_ANSWER).topics[self._topic]
        if found.error is not None:
            raise KafkaException(found.error)
        partitions = [TopicPartition(self._topic, number) for number in found.partitions]
        heard = consumer.committed(partitions, timeout=_ANSWER)
        for partition in heard:
            if partition.error is not None:
                raise KafkaException(partition.error)
        begins = {p.partition: max(p.offset, self._heard.get(p.partition, 0)) for p in heard}
        consumer.assign([TopicPartition(self._topic, n, begin or OFFSET_BEGINNING) for n, begin in begins.items()])
        log.info("listening to signals", topic=self._topic, partitions=len(partitions))

    def _listen(self, consumer: Consumer) -> None:
        while not self._stopping.is_set():
            message = consumer.poll(_POLL)
            if message is not None and self._is_record(message):
                ours = message.key() == self._key and bool(message.value())
                if ours and not self._hear(message):
                    return
                self._heard[message.partition() or 0] = (message.offset() or 0) + 1
                if not ours:
                    continue
            # What is for others is left behind when there is time.
            if self._heard:
                self._commit(consumer)

    def _is_record(self, message: Message) -> bool:
        error = message.error()
        if error is not None and error.code() not in _PASSING:
            raise ConnectionLost(error.str(), hint="check signals.topic and the brokers")
        return error is None

    def _hear(self, message: Message) -> bool:
        """Pass it on; False where it is too late for that."""
        place = f"{self._topic}-{message.partition()}-{message.offset()}"
        try:
            signal = of_message(message.value() or b"", place)
        except Unusable as error:
            self._progress.signal("topic", "unreadable")
            log.warning("cannot read a signal", channel="topic", id=place, fact=error.fact, hint=error.remedy)
            return True
        with self._passing:
            if self._stopping.is_set():
                return False
            self._forward(signal)
        self._said = ""
        log.info("passed on a signal", action=signal.type[:64], id=place)
        return True

    def _commit(self, consumer: Consumer) -> None:
        offsets = [TopicPartition(self._topic, number, offset) for number, offset in self._heard.items()]
        consumer.commit(offsets=offsets, asynchronous=False)
        self._heard.clear()


class ListeningConnector:
    """A `Connector` beside which a signal topic is listened to, from when the slot is its own."""

    def __init__(self, connector: Connector, topic: SignalTopic) -> None:
        self._connector = connector
        self._topic = topic

    def acquire(self, seconds: float) -> bool:
        return not isinstance(self._connector, Exclusive) or self._connector.acquire(seconds)

    def batches(self, start: Checkpoint | None) -> Iterator[Batch | None]:
        for batch in self._connector.batches(start):
            self._topic.start()
            yield batch

    def checkpoint(self, batch: Batch) -> Checkpoint:
        return self._connector.checkpoint(batch)

    def acknowledge(self, checkpoint: Checkpoint) -> None:
        self._connector.acknowledge(checkpoint)

    def close(self) -> None:
        self._topic.stop()
        self._connector.close()
