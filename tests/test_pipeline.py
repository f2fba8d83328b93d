from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from pycdc.config.runtime import CheckpointConfig, RetriesConfig
from pycdc.errors import (
    ConfigError,
    ConnectionLost,
    DeliveryError,
    PositionGap,
    ProtocolError,
    ProtocolViolation,
    RegistryLost,
    Undelivered,
)
from pycdc.interfaces import Checkpoint
from pycdc.model.change import Batch, Lsn, Position
from pycdc.offsets.memory import MemoryOffsetStore
from pycdc.pipeline import Loop
from pycdc.testing import MemoryConnector, MemorySink

ROWS = [{"id": number} for number in range(10)]
AT_ONCE = CheckpointConfig(interval=0)
QUICK = RetriesConfig(first_delay=0.001, max_delay=0.002)


class StoringSink(MemorySink):
    def __init__(self, offsets: MemoryOffsetStore, **options: Any) -> None:
        super().__init__(**options)
        self._offsets = offsets

    def commit(self, checkpoint: Checkpoint) -> None:
        super().commit(checkpoint)
        self._offsets.store(checkpoint)


def loop_over(
    source: MemoryConnector, sink: MemorySink, offsets: MemoryOffsetStore, **options: Any
) -> Loop[Batch, Checkpoint]:
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
    loop_over(source, sink, offsets, rule=CheckpointConfig(interval=3600)).run()
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
    retries = RetriesConfig(first_delay=0.001, max_delay=0.002, give_up_after=0.05)
    with pytest.raises(DeliveryError):
        loop_over(MemoryConnector.of_rows("t", ROWS), sink, offsets, retries=retries).run()


def test_records_that_wait_in_the_sink_are_no_progress() -> None:
    offsets = MemoryOffsetStore()
    sink = StoringSink(offsets, faults={"commit": [DeliveryError("away")] * 1000})
    retries = RetriesConfig(first_delay=0.001, max_delay=0.002, give_up_after=0.05)
    with pytest.raises(DeliveryError):
        loop_over(MemoryConnector.of_rows("t", ROWS), sink, offsets, retries=retries).run()


def test_a_pipeline_that_had_nothing_to_do_has_the_whole_time_when_a_fault_comes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "pycdc")
    offsets = MemoryOffsetStore()
    source = MemoryConnector.of_rows("t", ROWS, faults={"batches": [ConnectionLost("gone", hint="wait")]})
    loop = loop_over(source, StoringSink(offsets), offsets, retries=RetriesConfig(first_delay=0.001, give_up_after=5))
    loop._faults.since -= 3600
    loop.run()
    assert loop.progress.events == 10
    lines = [(record.__dict__["pycdc_event"], record.__dict__.get("hint")) for record in caplog.records]
    assert lines == [("rewinding to the stored position", "wait"), ("goes on after a fault", None)]


def test_a_record_that_waits_for_its_schema_is_left_when_the_pipeline_is_stopped() -> None:
    offsets = MemoryOffsetStore()
    source = MemoryConnector.of_rows("t", ROWS, faults={"batches": [RegistryLost("no registry")] * 1000})
    loop = loop_over(source, StoringSink(offsets), offsets)
    threading.Timer(0.05, loop.stop).start()
    with pytest.raises(Undelivered, match="no registry"):
        loop.run()


def test_a_source_that_is_away_leaves_nothing_when_the_pipeline_is_stopped() -> None:
    offsets = MemoryOffsetStore()
    source = MemoryConnector.of_rows("t", ROWS, faults={"batches": [ConnectionLost("no server")] * 1000})
    loop = loop_over(source, StoringSink(offsets), offsets)
    threading.Timer(0.05, loop.stop).start()
    loop.run()
    assert loop.progress.state == "stopped"


def test_stop_delivers_and_stores_what_was_read() -> None:
    offsets = MemoryOffsetStore()
    source, sink = MemoryConnector.of_rows("t", ROWS, idle=True), StoringSink(offsets)
    loop = loop_over(source, sink, offsets, rule=CheckpointConfig(interval=3600))
    thread = threading.Thread(target=loop.run)
    thread.start()
    while loop.progress.events < 10:
        pass
    loop.stop()
    thread.join(120)
    assert not thread.is_alive()
    assert offsets.load().position == Position(Lsn(1000))  # type: ignore[union-attr]
    assert len(sink.durable) == 10


def test_a_restart_begins_behind_the_stored_position() -> None:
    offsets = MemoryOffsetStore()
    offsets.store(Checkpoint(Position(Lsn(300))))
    sink = StoringSink(offsets)
    loop_over(MemoryConnector.of_rows("t", ROWS), sink, offsets).run()
    assert ids(sink) == list(range(3, 10))


class PatientConnector(MemoryConnector):
    """Stays while its sink is away; what it yields next is decided by `rewind`."""

    def __init__(self, offsets: MemoryOffsetStore, **options: Any) -> None:
        made = MemoryConnector.of_rows("t", ROWS)
        super().__init__(made._batches, **options)
        self._offsets = offsets
        self._at = 0
        self.calls: list[str] = []

    def batches(self, start: Checkpoint | None) -> Iterator[Batch | None]:
        self.calls.append("batches")
        while self._at < len(self._batches):
            self._at += 1
            yield self._batches[self._at - 1]

    def wait(self, seconds: float) -> None:
        self.calls.append("wait")

    def rewind(self) -> None:
        self._script.step("rewind")
        stored = self._offsets.load()
        self._at = 0 if stored is None else int(stored.position.lsn) // 100
        self.calls.append("rewind")


@pytest.mark.parametrize("method", ["write", "commit"])
def test_a_source_that_can_wait_stays_while_its_sink_is_made_anew_and_goes_on_at_the_stored_position(
    method: str,
) -> None:
    offsets = MemoryOffsetStore()
    source = PatientConnector(offsets, faults={"rewind": [ConnectionLost("still away")]})
    sinks = [StoringSink(offsets, faults={method: [None, None, ConnectionLost("away")]}) for _ in range(2)]
    made = iter([sinks[0], ConnectionLost("not yet"), *[sinks[1]] * 9])

    def sink() -> StoringSink:
        found = next(made)
        if isinstance(found, Exception):
            raise found
        return found  # type: ignore[return-value]

    loop = Loop(lambda: source, sink, offsets, AT_ONCE, QUICK)
    loop.run()
    calls = [call for number, call in enumerate(source.calls) if call != source.calls[number - 1]]
    assert calls == ["batches", "wait", "rewind", "wait", "rewind"]
    assert source.closed == 1
    assert ids(sinks[0])[:2] + ids(sinks[1]) == [*range(10)] if method == "write" else True
    assert offsets.load().position == Position(Lsn(1000))  # type: ignore[union-attr]
    assert loop.progress.events == 10


def test_an_error_of_the_source_makes_it_anew_even_if_it_can_wait() -> None:
    offsets = MemoryOffsetStore()

    class Failing(PatientConnector):
        def batches(self, start: Checkpoint | None) -> Iterator[Batch | None]:
            yield from MemoryConnector.batches(self, start)

    source = Failing(offsets, faults={"batches": [None, ConnectionLost("gone")]})
    loop_over(source, StoringSink(offsets), offsets).run()
    assert source.closed == 2
    assert source.calls == []


def test_a_sink_that_could_not_go_so_far_says_where_it_is() -> None:
    offsets = MemoryOffsetStore()

    class Halting(StoringSink):
        def commit(self, checkpoint: Checkpoint) -> Checkpoint:  # type: ignore[override]
            return Checkpoint(Position(Lsn(50)))

    source = MemoryConnector.of_rows("t", ROWS[:1])
    loop = loop_over(source, Halting(offsets), offsets)
    loop.run()
    assert source.acknowledged == [loop.progress.position] == [Position(Lsn(50))]


def test_a_pipeline_that_is_stopped_while_its_sink_is_away_says_that_something_is_left() -> None:
    offsets = MemoryOffsetStore()
    away = [DeliveryError("the brokers are away")] * 1000
    sink = StoringSink(offsets, faults={"commit": away})
    loop = loop_over(MemoryConnector.of_rows("t", ROWS), sink, offsets)
    thread = threading.Timer(0.05, loop.stop)
    thread.start()
    with pytest.raises(Undelivered, match="the brokers are away") as told:
        loop.run()
    thread.join()
    assert told.value.exit_code == 6
    assert offsets.load() is None


def test_a_pipeline_that_is_stopped_after_its_sink_came_back_ends_well() -> None:
    offsets = MemoryOffsetStore()
    sink = StoringSink(offsets, faults={"commit": [DeliveryError("away")]})
    source = MemoryConnector.of_rows("t", ROWS, idle=True)
    loop = loop_over(source, sink, offsets)
    thread = threading.Timer(0.2, loop.stop)
    thread.start()
    loop.run()
    thread.join()
    assert ids(sink)[-1] == 9


class Shared(MemoryConnector):
    """A source that somebody else has at first."""

    def __init__(self, offsets: MemoryOffsetStore, **options: Any) -> None:
        super().__init__(MemoryConnector.of_rows("t", ROWS)._batches, **options)
        self.offsets = offsets
        self.asked = 0

    def acquire(self, seconds: float) -> bool:
        self.asked += 1
        if self.asked == 3:
            self.offsets.store(Checkpoint(Position(Lsn(400))))
        return self.asked >= 3


def test_the_stored_position_is_loaded_once_the_source_is_acquired() -> None:
    offsets = MemoryOffsetStore()
    sink = StoringSink(offsets)
    loop_over(Shared(offsets), sink, offsets).run()
    assert ids(sink) == list(range(4, 10))


def test_a_violation_of_the_protocol_that_comes_again_and_again_ends_the_pipeline_with_its_position() -> None:
    class Violating(MemoryConnector):
        def batches(self, start: Checkpoint | None) -> Iterator[Batch | None]:
            yield from super().batches(start)
            raise ProtocolViolation("invalid message", hint="look for a proxy")

    offsets = MemoryOffsetStore()
    source = Violating.of_rows("t", ROWS[:1])
    with pytest.raises(ProtocolError, match=r"invalid message: 5 times, going on from position .*64") as caught:
        loop_over(source, StoringSink(offsets), offsets).run()
    assert caught.value.hint == "look for a proxy"
    assert source.closed == 5


def test_violations_of_the_protocol_between_which_rows_are_delivered_pass() -> None:
    class Violating(MemoryConnector):
        def batches(self, start: Checkpoint | None) -> Iterator[Batch | None]:
            for number, batch in enumerate(super().batches(start)):
                if number == 1:
                    raise ProtocolViolation("invalid message")
                yield batch

    offsets = MemoryOffsetStore()
    source, sink = Violating.of_rows("t", ROWS), StoringSink(offsets)
    loop_over(source, sink, offsets).run()
    assert ids(sink) == list(range(10))
