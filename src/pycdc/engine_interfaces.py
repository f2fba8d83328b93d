"""What the engine's own parts know of each other: the bounds of the loop, and what ties the two ends of an apply.

What a program may bring is in `interfaces`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from pycdc.model.event import ColumnarRow, FieldPath, Partition


class BatchLike(Protocol):
    """What the loop knows of a batch: of rows (`Batch`) or of events (`EventBatch`).

    `position` compares with `>` and is None while nothing new is complete.
    """

    @property
    def size(self) -> int: ...
    @property
    def ends_at_commit(self) -> bool: ...
    @property
    def checkpoint_now(self) -> bool: ...
    @property
    def flush_now(self) -> bool: ...
    @property
    def position(self) -> Any: ...
    def counts(self) -> Iterator[tuple[str, str, int]]: ...


class CheckpointLike(Protocol):
    """What the loop knows of a checkpoint: a `Checkpoint` or an `Applied`."""

    @property
    def position(self) -> Any: ...


BatchT = TypeVar("BatchT", bound=BatchLike)

BatchIn = TypeVar("BatchIn", bound=BatchLike, contravariant=True)

CheckpointT = TypeVar("CheckpointT", bound=CheckpointLike)

CheckpointOut = TypeVar("CheckpointOut", bound=CheckpointLike, covariant=True)


class BatchSource(Protocol[BatchT, CheckpointT]):
    """Where batches come from."""

    def batches(self, start: CheckpointT | None) -> Iterator[BatchT | None]:
        """Yield batches from `start` on, in order, without a gap; None when nothing came within the poll time.

        `start` is None on the very first run. Raises PositionGap where continuing would lose or invent rows. A batch
        must not be touched by the source after it was yielded. A lost connection is mended inside, from the last
        position yielded; nothing is repeated within one iteration.
        """

    def checkpoint(self, batch: BatchT) -> CheckpointT:
        """Return the checkpoint to store once `batch` is durable. Only called for a batch with a position."""

    def acknowledge(self, checkpoint: CheckpointT) -> None:
        """Forget what lies before `checkpoint`, which is durable. Never called with one that is not stored."""

    def close(self) -> None:
        """Release connections. Idempotent. The slot stays."""


class BatchSink(Protocol[BatchIn, CheckpointT]):
    """Where batches go. `close` is called where it exists, and so is `idle` where nothing came within the poll time.

    A transactional sink has a property `uncommitted`, not None: whether something was written since the last commit.
    What was written becomes visible by a commit, together with its position, and not before; so a commit only comes
    while all that was written belongs before the position.
    """

    def write(self, batch: BatchIn) -> None:
        """Take a batch; it need not be durable on return. May block (back-pressure)."""

    def commit(self, checkpoint: CheckpointT) -> CheckpointT | None:
        """Return once everything written so far is durable. Raises DeliveryError if anything may be missing.

        A sink that could not go as far as `checkpoint` returns what it stored instead, and the source reads on from
        there; otherwise None. After an exception the sink's in-flight records count as lost: the pipeline rewinds to
        the stored checkpoint.
        """


class CheckpointLoader(Protocol[CheckpointOut]):
    """Where a loop begins."""

    def load(self) -> CheckpointOut | None:
        """Return the stored checkpoint, None if there never was one. Raises CheckpointCorrupt rather than guess."""

    def close(self) -> None: ...


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
