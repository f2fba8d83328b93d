"""Dead letters that are there: read, and copied to where they belong or given up.

The dead-letter topic is not compacted, so what became of a letter is noted in the topic of parked rows: a record whose
key is the letter's id and time. A copy and its note are one Kafka transaction.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, Literal

from confluent_kafka import KafkaException, Message, Producer

from pycdc.clients.kafka_errors import undelivered
from pycdc.clients.kafka_settings import producer_settings
from pycdc.config.kafka import KafkaSinkConfig
from pycdc.errors import DeliveryError
from pycdc.model.dead_letter import DeadLetter
from pycdc.sinks.kafka.committed_records import CommittedRecords

PREFIX: Final = "dead-letter/"
_SECONDS: Final = 30.0
_OWN: Final = frozenset(
    f"__pycdc.{name}" for name in ("error", "reason", "subject", "topic", "table", "lsn", "position", "function")
)
"""Headers that a letter has and its record in its own topic has not."""

Outcome = Literal["retried", "dropped"]


def is_settlement(key: bytes) -> bool:
    """Return whether a record of the topic of parked rows notes what became of a dead letter."""
    return key.startswith(PREFIX.encode())


class DeadLetters:
    """The dead letters in `topic`; what became of them is in the topic `notes`."""

    def __init__(
        self, client: Mapping[str, Any], settings: KafkaSinkConfig, topic: str, notes: str, transactional_id: str
    ) -> None:
        self._client = client
        self._settings = settings
        self._letters = CommittedRecords(client, topic)
        self._notes = CommittedRecords(client, notes)
        self._transactional_id = transactional_id

    def open(self) -> Iterator[DeadLetter]:
        """Yield those of which nothing became yet, in their order. Raises ConnectionLost or EnvironmentNotReady."""
        settled = {message.key() for message in self._notes.all() if is_settlement(message.key() or b"")}
        for message in self._letters.all():
            letter = _letter(message)
            if letter is not None and _note(letter) not in settled:
                yield letter

    def newest(self, topic: str) -> int | None:
        """Return the time of the newest record of a topic, in milliseconds since the Unix epoch."""
        return CommittedRecords(self._client, topic).newest()

    def settle(self, letters: Sequence[DeadLetter], outcome: Outcome) -> None:
        """Note what becomes of letters; those that are retried are copied to their topics, all or none.

        Raises DeliveryError.
        """
        with self._transaction() as producer:
            for letter in letters:
                if outcome == "retried":
                    self._produce(producer, letter.target, letter.key, letter.value, list(letter.headers))
                self._produce(producer, self._notes.topic, _note(letter), json.dumps({"outcome": outcome}).encode(), [])

    @contextmanager
    def _transaction(self) -> Iterator[Producer]:
        settings = producer_settings(self._settings)
        timeout = int(_SECONDS * 1000)
        producer = Producer(
            {
                **settings,
                "transactional.id": self._transactional_id,
                "transaction.timeout.ms": timeout,
                "message.timeout.ms": min(settings["message.timeout.ms"], timeout),
            }
        )
        try:
            producer.init_transactions(_SECONDS)
            producer.begin_transaction()
            yield producer
            producer.commit_transaction(_SECONDS)
        except KafkaException as error:
            raise undelivered(error.args[0], None) from None
        finally:
            producer.close()

    def _produce(
        self,
        producer: Producer,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        headers: list[tuple[str, bytes | None]],
    ) -> None:
        while True:
            try:
                producer.produce(topic, value, key, headers=headers)
            except BufferError:
                if producer.poll(_SECONDS) == 0:
                    raise DeliveryError("no broker took a dead letter in time", hint="check the brokers") from None
            else:
                return


def _note(letter: DeadLetter) -> bytes:
    return f"{letter.id}@{letter.at}".encode()


def _letter(message: Message) -> DeadLetter | None:
    """Return what a record tells; None for one that is no dead letter of pycdc's."""
    headers: list[tuple[str, Any]] = list(message.headers() or [])
    told = {name: (value or b"").decode("utf-8", "replace") for name, value in headers if name in _OWN}
    if "__pycdc.error" not in told:
        return None
    return DeadLetter(
        message.partition() or 0,
        message.offset() or 0,
        message.timestamp()[1],
        told["__pycdc.error"],
        told.get("__pycdc.reason", ""),
        told.get("__pycdc.table", ""),
        told.get("__pycdc.topic", ""),
        told.get("__pycdc.position", ""),
        message.key(),
        message.value(),
        tuple((name, value) for name, value in headers if name not in _OWN),
    )
