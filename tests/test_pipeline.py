from __future__ import annotations

import threading
from typing import Any

import pytest

from pycdc.config import CheckpointRule, Retries
from pycdc.errors import ConfigError, ConnectionLost, DeliveryError, PositionGap
from pycdc.interfaces import Checkpoint
from pycdc.model import Lsn, Position
from pycdc.offsets.memory import MemoryOffsetStore
from pycdc.pipeline import Loop
from pycdc.testing import MemoryConnector, MemorySink

ROWS = [{"id": number} for number in range(10)]
AT_ONCE = CheckpointRule(interval=0)
QUICK = Retries(first_delay=0.001, max_delay=0.002)


class StoringSink(MemorySink):
    def __init__(self, offsets: MemoryOffsetStore, **options: Any) -> None:
        super().__init__(**options)
        self._offsets = offsets

    def commit(self, checkpoint: Checkpoint) -> None:
        super().commit(checkpoint)
        self._offsets.store(checkpoint)


def loop_over(source: MemoryConnector, sink: MemorySink, offsets: MemoryOffsetStore, **options: Any) -> Loop:
    rule, retries = options.get("rule", AT_ONCE), options.get("retries", QUICK)
    return Loop(lambda: source, lambda: sink, offsets, rule, retries)


def ids(sink: MemorySink) -> list[int]:
    return [change.after["id"] for change in sink.written if change.after is not None]


def test_all_is_written_stored_and_acknowledged_in_order() -> None:
    offsets = MemoryOffsetStore()
    source, sink = MemoryConnector.of_rows("t", ROWS), StoringSink(offsets)
    loop_over(source, sink, offsets).run()
    assert ids(sink) == list(range(10))
    assert source.acknowledged == sorted(source.acknowledged)
    assert source.acknowledged[-1] == Position(Lsn(1000)) == offsets.load().position  # type: ignore[union-attr]
    assert source.closed == 1


def test_the_source_is_never_told_to_forget_what_was_not_stored() -> None:
    offsets = MemoryOffsetStore()
    source = MemoryConnector.of_rows("t", ROWS)
    sink = StoringSink(offsets, faults={"commit": [None, None, PositionGap("x")]})
    with pytest.raises(PositionGap):
        loop_over(source, sink, offsets).run()
    assert source.acknowledged == [Position(Lsn(100)), Position(Lsn(200))]


@pytest.mark.parametrize("method", ["write", "commit"])
def test_a_delivery_that_failed_is_repeated_from_the_stored_position(method: str) -> None:
    offsets = MemoryOffsetStore()
    source = MemoryConnector.of_rows("t", ROWS)
    sink = StoringSink(offsets, faults={method: [None, None, DeliveryError("away"), DeliveryError("away")]})
    loop = loop_over(source, sink, offsets)
    loop.run()
    assert list(dict.fromkeys(ids(sink))) == list(range(10))
    assert len(ids(sink)) <= 12
    assert loop.progress.reconnects == 2


def test_a_lost_connection_stores_what_the_sink_took_and_goes_on_behind_it() -> None:
    offsets = MemoryOffsetStore()
    source = MemoryConnector.of_rows("t", ROWS, faults={"batches": [None, None, None, ConnectionLost("gone")]})
    sink = StoringSink(offsets)
    loop_over(source, sink, offsets, rule=CheckpointRule(interval=3600)).run()
    assert ids(sink) == list(range(10))
    assert [str(c.position) for c in sink.checkpoints] == ["0/12C", "0/3E8"]


def test_an_error_that_cannot_pass_ends_the_pipeline_at_once() -> None:
    offsets = MemoryOffsetStore()
    sink = StoringSink(offsets, faults={"write": [ConfigError("wrong")]})
    loop = loop_over(MemoryConnector.of_rows("t", ROWS), sink, offsets)
    with pytest.raises(ConfigError):
        loop.run()
    assert loop.progress.last_error == "wrong"
    assert offsets.load() is None


def test_it_gives_up_after_the_time_without_progress_that_was_set() -> None:
    offsets = MemoryOffsetStore()
    sink = StoringSink(offsets, faults={"write": [DeliveryError("away")] * 1000})
    retries = Retries(first_delay=0.001, max_delay=0.002, give_up_after=0.05)
    with pytest.raises(DeliveryError):
        loop_over(MemoryConnector.of_rows("t", ROWS), sink, offsets, retries=retries).run()


def test_stop_delivers_and_stores_what_was_read() -> None:
    offsets = MemoryOffsetStore()
    source, sink = MemoryConnector.of_rows("t", ROWS, idle=True), StoringSink(offsets)
    loop = loop_over(source, sink, offsets, rule=CheckpointRule(interval=3600))
    thread = threading.Thread(target=loop.run)
    thread.start()
    while loop.progress.events < 10:
        pass
    loop.stop()
    thread.join(10)
    assert not thread.is_alive()
    assert offsets.load().position == Position(Lsn(1000))  # type: ignore[union-attr]
    assert len(sink.durable) == 10


def test_a_restart_begins_behind_the_stored_position() -> None:
    offsets = MemoryOffsetStore()
    offsets.store(Checkpoint(Position(Lsn(300))))
    sink = StoringSink(offsets)
    loop_over(MemoryConnector.of_rows("t", ROWS), sink, offsets).run()
    assert ids(sink) == list(range(3, 10))
