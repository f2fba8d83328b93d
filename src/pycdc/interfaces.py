"""The seams of the engine, and what each side promises about durability."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, runtime_checkable

from pycdc.model.change import NOWHERE, Batch, Lsn, Position
from pycdc.model.event import ColumnarRow, FieldPath, Partition


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A position together with the identity of the source that it belongs to.

    A position is only meaningful on the system, timeline, database and slot that it was read from; `source` holds
    those, and a connector refuses a checkpoint of another one. `last_commit` makes events after a restart carry the
    same ``sequence`` as before it. `snapshot_done`: streaming began, so that the position means something. `snapshot`
    is what is still to be read, as JSON values; it holds keys of rows. `membership` is how the captured tables were
    published, by which the next start sees what happened to them meanwhile.
    `unseen` is the range of ids of transactions that came, and that no snapshot may see yet.
    """

    position: Position
    last_commit: Lsn = NOWHERE
    source: dict[str, Any] = field(default_factory=dict)
    snapshot_done: bool = True
    snapshot: dict[str, Any] = field(default_factory=dict, repr=False)
    membership: dict[str, Any] = field(default_factory=dict, repr=False)
    unseen: tuple[int, ...] = ()


class BatchLike(Protocol):
    """What the loop knows of a batch: of rows (`Batch`) or of events (`EventBatch`).

    `position` compares with `>` and is None while nothing new is complete.
    """

    @property
    def size(self) -> int: ...
    @property
    def whole(self) -> bool: ...
    @property
    def urgent(self) -> bool: ...
    @property
    def position(self) -> Any: ...
    def counts(self) -> Iterator[tuple[str, str, int]]: ...


class PositionLike(Protocol):
    """What the loop knows of a checkpoint: a `Checkpoint` or an `Applied`."""

    @property
    def position(self) -> Any: ...


B = TypeVar("B", bound=BatchLike)
B_contra = TypeVar("B_contra", bound=BatchLike, contravariant=True)
C = TypeVar("C", bound=PositionLike)
C_co = TypeVar("C_co", bound=PositionLike, covariant=True)


class Source(Protocol[B, C]):
    """Where batches come from."""

    def batches(self, start: C | None) -> Iterator[B | None]:
        """Yield batches from `start` on, in order, without a gap; None when nothing came within the poll time.

        `start` is None on the very first run. Raises PositionGap where continuing would lose or invent rows. A batch
        must not be touched by the source after it was yielded. A lost connection is mended inside, from the last
        position yielded; nothing is repeated within one iteration.
        """

    def checkpoint(self, batch: B) -> C:
        """Return the checkpoint to store once `batch` is durable. Only called for a batch with a position."""

    def acknowledge(self, checkpoint: C) -> None:
        """Forget what lies before `checkpoint`, which is durable. Never called with one that is not stored."""

    def close(self) -> None:
        """Release connections. Idempotent. The slot stays."""


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


class Target(Protocol[B_contra, C]):
    """Where batches go. `close` is called where it exists, and so is `idle` where nothing came within the poll time."""

    def write(self, batch: B_contra) -> None:
        """Take a batch; it need not be durable on return. May block (back-pressure)."""

    def commit(self, checkpoint: C) -> C | None:
        """Return once everything written so far is durable. Raises DeliveryError if anything may be missing.

        A sink that could not go as far as `checkpoint` returns what it stored instead, and the source reads on from
        there; otherwise None. After an exception the sink's in-flight records count as lost: the pipeline rewinds to
        the stored checkpoint.
        """


class CheckpointLoader(Protocol[C_co]):
    """Where a loop begins."""

    def load(self) -> C_co | None:
        """Return the stored checkpoint, None if there never was one. Raises CheckpointCorrupt rather than guess."""

    def close(self) -> None: ...


class Connector(Source[Batch, Checkpoint], Protocol):
    """Where changes of a database come from, in commit order."""


class Sink(Target[Batch, Checkpoint], Protocol):
    """Where changes go. A custom sink is these two methods; `close` is called where it exists."""


class Claims(Protocol):
    """Who may apply a partition, and from which offset on: asked when a consumer group assigns partitions."""

    def database(self) -> str | None:
        """Return the database's identity, the same after a failover. None where the database does not show it."""

    def topics(self) -> Collection[str]:
        """Return the topics of which an offset is stored."""

    def begin(self, firsts: Mapping[Partition, int], ids: Mapping[str, str]) -> None:
        """Store where partitions begin; what is stored already stays. `ids` are those of the topics."""

    def claim(
        self, partitions: Sequence[Partition], first: Callable[[Partition], int], ids: Mapping[str, str] | None = None
    ) -> Mapping[Partition, int]:
        """Take `partitions` over from whoever had them, and return the next offset of each.

        `first` tells the offset to begin with where none was ever stored; what it tells is stored at once. From here
        on, an earlier owner's commit fails (SinkFenced). Raises PositionGap where a topic has another id in `ids` than
        it had when its offsets were stored.
        """

    def release(self, partitions: Sequence[Partition]) -> None:
        """Take note that partitions are somebody else's now: nothing of them may be committed."""


class ColumnarTarget(Protocol):
    """The columnar path of a topic's rows of one schema: from columns to what the sink writes, with no `Event` between.

    It is asked by the source's own thread while the sink works. It decides nothing: what it does not take goes event by
    event.
    """

    @property
    def take(self) -> tuple[str, ...]:
        """The fields that it wants, those of the key first; one may occur twice."""

    @property
    def key(self) -> tuple[FieldPath, ...]:
        """Those of the key: numbers and texts."""

    def load(self, rows: list[ColumnarRow], removals: int, *, own_keys: bool) -> Any:
        """Make what the sink writes of rows in the order of their records, of which so many are removals.

        `own_keys`: rows of one key have one message key, as far as these are a captured table's. Raises NotColumnar.
        """


class ColumnarTargets(Protocol):
    """The columnar targets of a sink, which change with its tables."""

    def target(self, topic: str, fields: tuple[FieldPath, ...]) -> ColumnarTarget | None:
        """Return the target of rows that have just these fields; the same object for the same, as long as it holds."""


class NotColumnar(Exception):
    """Something of a batch does not fit the columnar path, whatever it is: the batch goes event by event."""


class OffsetStore(CheckpointLoader[Checkpoint], Protocol):
    """Where checkpoints live. `store` is durable on return; a torn write leaves the old checkpoint readable."""

    def store(self, checkpoint: Checkpoint) -> None: ...

    def clear(self) -> None:
        """Forget the checkpoint (teardown). Idempotent."""
