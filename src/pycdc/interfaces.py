"""What a program may bring: a source, a sink, a store of checkpoints; and what each side promises about durability."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from pycdc.engine_interfaces import BatchSink, BatchSource, CheckpointLoader
from pycdc.model.change import NOWHERE, Batch, Lsn, Position
from pycdc.model.transaction_chunk import TransactionChunk


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A position together with the identity of the source that it belongs to.

    A position is only meaningful on the system, timeline, database and slot that it was read from; `source` holds
    those, and a connector refuses a checkpoint of another one. `last_commit` makes events after a restart carry the
    same ``sequence`` as before it. `snapshot_done`: streaming began, so that the position means something. `snapshot`
    is what is still to be read, as JSON values; it holds keys of rows. `membership` is how the captured tables were
    published, by which the next start sees what happened to them meanwhile.
    `unseen` is the range of ids of transactions that came, and that no snapshot may see yet. `chunk` is how much of the
    transaction behind the position is delivered already. `cluster` is the id of the Kafka cluster that has the records,
    where records and position are one Kafka transaction.
    """

    position: Position
    last_commit: Lsn = NOWHERE
    source: dict[str, Any] = field(default_factory=dict)
    snapshot_done: bool = True
    snapshot: dict[str, Any] = field(default_factory=dict, repr=False)
    membership: dict[str, Any] = field(default_factory=dict, repr=False)
    unseen: tuple[int, ...] = ()
    chunk: TransactionChunk | None = None
    cluster: str = ""


class Connector(BatchSource[Batch, Checkpoint], Protocol):
    """Where changes of a database come from, in commit order."""


@runtime_checkable
class Exclusive(Protocol):
    """A source that has one reader at a time.

    What is stored about it can change until it is acquired, and is loaded after that.
    """

    def acquire(self, seconds: float) -> bool:
        """Keep others from reading, until `close`. False where somebody else still reads after so many seconds."""


@runtime_checkable
class ReconnectableSource(Protocol):
    """A source that can stay while its sink is away, and so need not be made anew."""

    def wait(self, seconds: float) -> None:
        """Keep the connection alive for so long, reading nothing."""

    def rewind(self) -> None:
        """Go on at the stored position. Raises ConnectionLost where it cannot be asked for."""


class Sink(BatchSink[Batch, Checkpoint], Protocol):
    """Where changes go. A custom sink is these two methods; `close` is called where it exists."""


class OffsetStore(CheckpointLoader[Checkpoint], Protocol):
    """Where checkpoints live. `store` is durable on return; a torn write leaves the old checkpoint readable."""

    def store(self, checkpoint: Checkpoint) -> None: ...

    def clear(self) -> None:
        """Forget the checkpoint (teardown). Idempotent."""
