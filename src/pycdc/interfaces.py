"""The seams of the engine, and what each side promises about durability."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from pycdc.model import NOWHERE, Batch, Lsn, Position


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A position together with the identity of the source that it belongs to.

    A position is only meaningful on the system, timeline, database and slot that it was read from; `source` holds
    those, and a connector refuses a checkpoint of another one. `last_commit` makes events after a restart carry the
    same ``sequence`` as before it.
    """

    position: Position
    last_commit: Lsn = NOWHERE
    source: dict[str, Any] = field(default_factory=dict)
    snapshot_done: bool = True


class Connector(Protocol):
    """Where changes come from."""

    def batches(self, start: Checkpoint | None) -> Iterator[Batch | None]:
        """Yield batches from `start` on, in commit order, without a gap; None when nothing came within the poll time.

        `start` is None on the very first run. Raises PositionGap where continuing would lose or invent rows. A batch
        must not be touched by the connector after it was yielded. A lost connection is mended inside, from the last
        position yielded; nothing is repeated within one iteration.
        """

    def checkpoint(self, batch: Batch) -> Checkpoint:
        """The checkpoint to store once `batch` is durable. Only called for a batch with a position."""

    def acknowledge(self, position: Position) -> None:
        """Forget what lies before `position`, which is durable. Never called with a position not yet stored."""

    def close(self) -> None:
        """Release connections. Idempotent. The slot stays."""


class Sink(Protocol):
    """Where changes go. A custom sink is these two methods; `close` is called where it exists."""

    def write(self, batch: Batch) -> None:
        """Take a batch; it need not be durable on return. May block (back-pressure)."""

    def commit(self, checkpoint: Checkpoint) -> None:
        """Return once everything written so far is durable. Raises DeliveryError if anything may be missing.

        After an exception the sink's in-flight records count as lost: the pipeline rewinds to the stored checkpoint.
        """


Record = dict[str, Any]
"""``key`` and ``value`` (bytes or None) in the shape of confluent_kafka's ``Producer.produce_batch``, plus ``headers``
(list of name and bytes or None) where there are any; with these perhaps ``partition`` and ``timestamp`` (milliseconds
since the Unix epoch)."""


class Serializer(Protocol):
    """Turns batches into records. Shared by all sinks that take bytes."""

    def serialize(self, batch: Batch) -> list[tuple[str, list[Record]]]:
        """Groups of (topic, records) in order; a topic may occur several times. Either all records of a group have
        headers or none has. Raises ConversionError or SchemaIncompatible before anything was sent."""


class OffsetStore(Protocol):
    """Where checkpoints live. `store` is durable on return; a torn write leaves the old checkpoint readable."""

    def load(self) -> Checkpoint | None:
        """The stored checkpoint, None if there never was one. Raises CheckpointCorrupt rather than guess."""

    def store(self, checkpoint: Checkpoint) -> None: ...

    def clear(self) -> None:
        """Forget the checkpoint (teardown). Idempotent."""

    def close(self) -> None: ...
