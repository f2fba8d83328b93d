"""The topic of parked rows: compacted, of one partition. What it holds is what is parked.

Rows are written to it by the sink, beside the records of the other rows, so that they share their Kafka transaction.
Here they are read: what is known of each without its values, and those that are asked for.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from confluent_kafka import Message

from pycdc.clients.kafka_topics import TopicAdmin, TopicDurability
from pycdc.errors import EnvironmentNotReady
from pycdc.model.parked_row import ParkedEntry, ParkedRow
from pycdc.serialization.parked_records import entry_of, place_of, row_of
from pycdc.sinks.kafka.committed_records import CommittedRecords
from pycdc.sinks.kafka.dead_letters import is_settlement

SETTINGS: Final = {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.1", "segment.ms": "86400000"}
"""How the topic is to be created."""
_RIGHTS: Final = ("READ", "WRITE", "DESCRIBE")


@dataclass(slots=True)
class _Stored:
    """Where the newest records of a row are: offsets by the number of the piece."""

    entry: ParkedEntry
    offsets: dict[int, int] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        return len(self.offsets) == self.entry.parts


class ParkedTopic:
    """`client` holds librdkafka settings.

    Whatever reads raises ConnectionLost, EnvironmentNotReady or CheckpointCorrupt.
    """

    def __init__(
        self,
        client: Mapping[str, Any],
        topic: str,
        topics: TopicAdmin,
        *,
        stopping: threading.Event | None = None,
    ) -> None:
        self.topic = topic
        self._records = CommittedRecords(client, topic, stopping=stopping)
        self._topics = topics

    def prepare(self) -> None:
        """Make sure that the topic is there, and that it forgets nothing that is parked."""
        self._topics.ensure(self.topic)
        self.require_keeping()

    def require_room(self) -> None:
        """Raise PycdcError where the topic is not there and cannot be made. Changes nothing."""
        self._topics.require_creatable(self.topic)

    def durability(self) -> TopicDurability | None:
        """Return how safe parked rows are in the topic, None where it is not there. Changes nothing."""
        return self._topics.durability(self.topic)

    def require_keeping(self) -> None:
        """Raise EnvironmentNotReady where the topic would forget rows, or this user may not read and write it."""
        policy = self._topics.setting(self.topic, "cleanup.policy")
        if policy is not None and policy != "compact":
            raise EnvironmentNotReady(
                f"the topic of parked rows {self.topic} has cleanup.policy={policy}, which forgets rows",
                hint=f"kafka-configs --alter --topic {self.topic} --add-config cleanup.policy=compact",
            )
        allowed = self._topics.operations(self.topic)
        lacking = [] if allowed is None else [right.capitalize() for right in _RIGHTS if right not in allowed]
        if lacking:
            raise EnvironmentNotReady(
                f"the user lacks the ACLs {', '.join(lacking)} on the topic of parked rows {self.topic}",
                hint=f"kafka-acls --add --allow-principal User:… --topic {self.topic} "
                + " ".join(f"--operation {right}" for right in lacking),
            )

    def close(self) -> None:
        self._topics.close()

    def entries(self, *, settled: bool = False) -> dict[str, ParkedEntry]:
        """Return what is parked by id, in its order; `settled`: once no transaction is open in the topic."""
        return {identity: found.entry for identity, found in self._stored(settled=settled).items()}

    def rows(self, ids: Collection[str]) -> Iterator[ParkedRow]:
        """Yield rows that were parked, and are committed, in the order in which they were.

        One that was written anew, because another thing is wrong with it now, stands behind rows that it precedes.
        """
        stored = {identity: found for identity, found in self._stored(settled=False).items() if identity in ids}
        pieces: dict[str, dict[int, bytes]] = defaultdict(dict)
        order, early = iter(stored), {}
        due = next(order, None)
        for message in self._pieces(settled=False) if stored else ():
            identity, number = place_of(message.key() or b"")
            found = stored.get(identity)
            if found is None or found.offsets.get(number) != message.offset():
                continue
            pieces[identity][number] = message.value() or b""
            if len(pieces[identity]) == found.entry.parts:
                parts = pieces.pop(identity)
                early[identity] = row_of(found.entry, b"".join(parts[number] for number in range(found.entry.parts)))
            while due in early:
                yield early.pop(due)
                due = next(order, None)

    def _stored(self, *, settled: bool) -> dict[str, _Stored]:
        stored: dict[str, _Stored] = {}
        for message in self._pieces(settled=settled):
            identity, number = place_of(message.key() or b"")
            if message.value() is None:
                stored.pop(identity, None)
                continue
            if number == 0 or identity not in stored:
                # A piece 0 may be compacted away before the others are.
                known = stored.pop(identity, None)
                stored[identity] = _Stored(
                    entry_of(identity, message.headers() or []), {} if known is None else known.offsets
                )
            stored[identity].offsets[number] = message.offset() or 0
        # What was cut short by a crash comes again.
        complete = [found for found in stored.values() if found.complete]
        return {found.entry.id: found for found in sorted(complete, key=lambda found: found.entry.sequence)}

    def _pieces(self, *, settled: bool) -> Iterator[Message]:
        """Yield the records that are pieces of rows."""
        return (one for one in self._records.all(settled=settled) if not is_settlement(one.key() or b""))
