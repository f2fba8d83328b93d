from __future__ import annotations

import pytest

from pycdc.checkpoint import Checkpointer
from pycdc.config.runtime import CheckpointConfig
from pycdc.errors import DeliveryError
from pycdc.interfaces import Checkpoint
from pycdc.model.change import Batch, Lsn, Position
from pycdc.testing import MemoryConnector, MemorySink


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def batch(lsn: int | None, size: int = 1, **options: bool) -> Batch:
    return Batch(position=None if lsn is None else Position(Lsn(lsn)), size=size, **options)  # type: ignore[arg-type]


def checkpointer(interval: float = 1.0, changes: int = 100) -> tuple[Checkpointer[Batch, Checkpoint], Clock]:
    clock = Clock()
    return Checkpointer(CheckpointConfig(interval=interval, changes=changes), clock), clock


def test_a_position_is_due_after_the_interval() -> None:
    subject, clock = checkpointer()
    subject.written(batch(10))
    assert not subject.due()
    clock.now = 1.0
    assert subject.due()


def test_a_position_is_due_after_that_many_changes() -> None:
    subject, _ = checkpointer(changes=3)
    subject.written(batch(10, 2))
    assert not subject.due()
    subject.written(batch(20, 1))
    assert subject.due()


def test_the_middle_of_a_transaction_is_never_due() -> None:
    subject, clock = checkpointer(changes=1)
    subject.written(batch(None, 50))
    clock.now = 100
    assert not subject.due()
    assert not subject.pending


def test_an_urgent_position_is_due_at_once() -> None:
    subject, _ = checkpointer(interval=3600)
    subject.written(batch(10, 0, checkpoint_now=True))
    assert subject.due()


def test_a_position_that_moved_without_changes_waits_longer() -> None:
    subject, clock = checkpointer()
    subject.written(batch(10, 0))
    clock.now = 9.0
    assert not subject.due()
    clock.now = 10.0
    assert subject.due()


def test_positions_never_go_back() -> None:
    subject, _ = checkpointer(interval=0)
    source, sink = MemoryConnector([]), MemorySink()
    subject.written(batch(20))
    subject.store(source, sink)
    subject.written(batch(10))
    assert not subject.pending
    assert subject.store(source, sink) is None
    assert source.acknowledged == [Position(Lsn(20))]


def test_changes_behind_the_last_commit_count_for_the_next_checkpoint() -> None:
    subject, _ = checkpointer(interval=3600, changes=5)
    subject.written(batch(10, 4))
    subject.written(batch(None, 4))
    assert not subject.due()
    subject.written(batch(20, 0))
    assert subject.due()


def test_the_source_forgets_nothing_whose_position_was_not_stored() -> None:
    class Failing(MemorySink):
        def commit(self, checkpoint: Checkpoint) -> None:
            raise DeliveryError("the brokers are away", hint="wait for them")

    subject, _ = checkpointer()
    source, sink = MemoryConnector([batch(10)]), Failing()
    subject.written(batch(10))
    with pytest.raises(DeliveryError):
        subject.store(source, sink)
    assert source.acknowledged == []
    assert subject.pending


def transactional(interval: float = 1.0, changes: int = 100) -> tuple[Checkpointer[Batch, Checkpoint], Clock]:
    clock = Clock()
    return Checkpointer(CheckpointConfig(interval=interval, changes=changes), clock, transactional=True), clock


def test_what_becomes_visible_with_a_position_all_lies_before_it() -> None:
    """The beginning of the next transaction was written too: it would be visible before its position."""
    subject, clock = transactional()
    subject.written(batch(10))
    subject.written(batch(None, ends_at_commit=False))
    clock.now = 100
    assert not subject.due(at_once=True)
    subject.written(batch(20))
    assert subject.due()


def test_a_transactional_sink_stores_at_once_when_readers_wait() -> None:
    subject, _ = transactional(interval=3600)
    subject.written(batch(10))
    assert subject.due(at_once=True)
    assert not checkpointer()[0].due(at_once=True)


def test_what_comes_without_changes_is_stored_with_the_position_that_there_is() -> None:
    """Such as a notification of a snapshot."""
    subject, _ = transactional()
    subject.written(batch(10))
    subject.store(MemoryConnector.of_rows("t", []), MemorySink())
    subject.written(batch(None, 0))
    assert subject.due(at_once=True)
