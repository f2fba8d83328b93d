"""A capture, from outside: what the slot holds, and how long ago the newest records in Kafka were committed.

Nothing is written unless probes are asked for. These are logical messages, which arrive in the topic `{name}.message`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Final, Protocol

from pycdc.clients.kafka_settings import client_settings
from pycdc.clients.schema_registry import SchemaRegistry
from pycdc.config.pipeline import ApplyPipeline, CapturePipeline, PipelineConfig
from pycdc.connectors.kafka.topic_tail import TopicTail
from pycdc.connectors.postgres.catalog.catalog import Catalog
from pycdc.connectors.postgres.signals.lag_probe import clock_ahead
from pycdc.errors import ConfigError, EnvironmentNotReady
from pycdc.model.event import Partition
from pycdc.model.patterns import names_any
from pycdc.operations.lag.delays import Delays, LagMeasurement, Marks
from pycdc.operations.lag.probes import Probes
from pycdc.operations.lag.record_times import RecordTimes
from pycdc.operations.lag.topics import message_topic, topics_of
from pycdc.sinks.postgres.bookkeeping.applied_offsets import AppliedOffsets

_LOOK: Final = 0.1
"""Seconds between looks at the slot."""
_WAIT: Final = 0.01
_FOLLOW_WAIT: Final = 0.002
_READY: Final = 30.0
"""Seconds that the first probe may take: it may have to make its topic."""
_GRACE: Final = 3.0
"""Seconds for what was emitted last to arrive."""
_DECODED: Final = 20
"""Records of one read that are looked into: a consumer that cannot keep up would measure itself."""


def measure_capture(
    config: CapturePipeline, *, seconds: float, probe: bool = False, follow: PipelineConfig | None = None
) -> LagMeasurement:
    """Watch for that long. `follow` is an apply pipeline that reads the probes. Raises PycdcError."""
    _require(config, probe=probe, follow=follow)
    with ExitStack() as opened:
        catalog = opened.enter_context(Catalog(config.source.postgres.dsn.get_secret_value()))
        slot = _Slot(catalog, config.slot)
        watched: Watched
        if probe:
            watched = opened.enter_context(_probing(config, follow))
        elif config.sink.kafka is not None:
            watched = opened.enter_context(_arriving(config, catalog))
        else:
            watched = _Nothing()
        watched.begin()
        started = time.monotonic()
        while time.monotonic() < started + seconds:
            slot.look()
            watched.read()
        measured = time.monotonic() - started
        delays, unanswered = {"stored": slot.delays(), **watched.end()}, watched.unanswered
    found = {name: summary for name, one in delays.items() if (summary := one.summary()) is not None}
    return LagMeasurement(
        config.name, measured, "bytes", slot.behind, slot.most_behind, found, unanswered, slot.running
    )


def _require(config: CapturePipeline, *, probe: bool, follow: PipelineConfig | None) -> None:
    if follow is not None and not probe:
        raise ConfigError("following probes needs probes", hint="add --probe")
    if not probe:
        return
    if config.sink.kafka is None:
        raise ConfigError(f"pipeline {config.name} does not write to Kafka", hint="leave --probe out")
    if not config.source.postgres.messages:
        raise ConfigError(
            f"pipeline {config.name} leaves logical messages out, and probes are such messages",
            hint="set `source.postgres.messages: true`, or leave --probe out",
        )
    topic = message_topic(config)
    if follow is not None and not (isinstance(follow, ApplyPipeline) and names_any(follow.source.kafka.topics, topic)):
        raise ConfigError(
            f"pipeline {follow.name} does not read {topic}, where the probes of {config.name} are",
            hint=f"add {topic} to its source.kafka.topics, and a route that takes it and writes nothing: "
            f"`{{topic: {topic}, table: …, when: {{op: none}}}}`",
        )


class _Slot:
    """The server's end of WAL against what the pipeline has confirmed."""

    def __init__(self, catalog: Catalog, name: str) -> None:
        self._catalog, self._name = catalog, name
        if catalog.slot(name) is None:
            raise EnvironmentNotReady(f"slot {name} does not exist", hint="start the pipeline with `pycdc run`")
        self._marks, self._delays, self._next = Marks(), Delays(), 0.0
        self.behind = self.most_behind = 0
        self.running = False

    def look(self) -> None:
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + _LOOK
        lag = self._catalog.replication_lag(self._name)
        if lag is None:
            return
        self.running = lag.sent is not None
        self.behind = lag.bytes
        self.most_behind = max(self.most_behind, lag.bytes)
        self._marks.put(lag.current, now)
        self._delays.add(self._marks.passed(lag.confirmed, time.monotonic()))

    def delays(self) -> Delays:
        self._delays.add_overdue(self._marks.waiting(time.monotonic()))
        return self._delays


class Watched(Protocol):
    """What is looked at beside the slot."""

    unanswered: int

    def begin(self) -> None:
        """Return when the measurement may start."""

    def read(self) -> None:
        """Look, and wait a moment."""

    def end(self) -> dict[str, Delays]: ...


class _Nothing:
    unanswered = 0

    def begin(self) -> None: ...

    def read(self) -> None:
        time.sleep(_WAIT)

    def end(self) -> dict[str, Delays]:
        return {}


@contextmanager
def _arriving(config: CapturePipeline, catalog: Catalog) -> Iterator[Watched]:
    topics = set(
        topics_of(config, catalog.tables(config.source.postgres.tables, config.source.postgres.exclude_tables))
    )
    with _kafka(config, topics.__contains__) as (tail, payloads):
        yield _Arrivals(tail, payloads, clock_ahead(config.source.postgres.dsn.get_secret_value()))


class _Arrivals:
    """Records that come anyway: from the commit that they tell to their arrival here."""

    unanswered = 0

    def __init__(self, tail: TopicTail, payloads: RecordTimes, ahead: float) -> None:
        self._tail, self._payloads, self._ahead = tail, payloads, ahead
        self._delays = Delays()

    def begin(self) -> None: ...

    def read(self) -> None:
        records = self._tail.read(_WAIT)
        now = time.time() + self._ahead
        times = [self._payloads.committed_at(one.value()) for one in records[:: len(records) // _DECODED + 1]]
        self._delays.add(now - at for at in times if at is not None)

    def end(self) -> dict[str, Delays]:
        return {"delivered": self._delays}


@contextmanager
def _probing(config: CapturePipeline, follow: PipelineConfig | None) -> Iterator[Watched]:
    topic = message_topic(config)
    with ExitStack() as opened:
        tail, payloads = opened.enter_context(_kafka(config, topic.__eq__))
        applied = None
        if isinstance(follow, ApplyPipeline):
            applied = opened.enter_context(closing(AppliedOffsets(follow.sink.postgres, follow.name)))
        probes = opened.enter_context(Probes(config.source.postgres.dsn.get_secret_value()))
        yield _Probing(tail, payloads, probes, applied)


class _Probing:
    """Probes: from their commit to Kafka, and where somebody follows, to the moment that he has applied them."""

    def __init__(self, tail: TopicTail, payloads: RecordTimes, probes: Probes, applied: AppliedOffsets | None) -> None:
        self._tail, self._payloads, self._probes, self._applied = tail, payloads, probes, applied
        self._marks: dict[Partition, Marks] = {}
        self._applications = Delays()
        self.unanswered = 0

    def begin(self) -> None:
        deadline = time.monotonic() + _READY
        while not self._probes.any_arrived or self._followers_wait():
            if time.monotonic() > deadline:
                missing = "has been applied" if self._probes.any_arrived else "has arrived in Kafka"
                raise EnvironmentNotReady(
                    f"no probe {missing} within {_READY:.0f} s",
                    hint="look in the log of the pipeline whether it runs and may make the topic of its messages; one "
                    "that follows finds a new topic when it is started again",
                )
            self.read()
        self._probes.count_from_here()
        self._applications = Delays()

    def read(self) -> None:
        records = self._tail.read(_WAIT if self._applied is None else _FOLLOW_WAIT)
        now = time.monotonic()
        for record in records:
            number = self._probes.arrived(self._payloads.message(record.value()), now)
            if number is not None and self._applied is not None:
                partition = Partition(record.topic() or "", record.partition() or 0)
                marks = self._marks.setdefault(partition, Marks())
                marks.put((record.offset() or 0) + 1, self._probes.committed_at(number, now))
        if self._applied is not None:
            offsets = self._applied.read()
            now = time.monotonic()
            for partition, marks in self._marks.items():
                self._applications.add(marks.passed(offsets.get(partition, 0), now))

    def _followers_wait(self) -> bool:
        return self._applied is not None and not len(self._applications)

    def end(self) -> dict[str, Delays]:
        self._probes.stop()
        deadline = time.monotonic() + _GRACE
        while time.monotonic() < deadline and not (self._probes.all_arrived and not self._unapplied()):
            self.read()
        delays = Delays()
        delays.add(self._probes.delays())
        self.unanswered = delays.add_overdue(self._probes.waiting(time.monotonic()))
        if self._applied is None:
            return {"probe": delays}
        self.unanswered += self._applications.add_overdue(self._unapplied())
        return {"probe": delays, "applied": self._applications}

    def _unapplied(self) -> list[float]:
        now = time.monotonic()
        return [one for marks in self._marks.values() for one in marks.waiting(now)]


@contextmanager
def _kafka(config: CapturePipeline, wanted: Callable[[str], bool]) -> Iterator[tuple[TopicTail, RecordTimes]]:
    sink = config.sink.kafka
    assert sink is not None
    with ExitStack() as opened:
        schema_text = None
        if sink.registry is not None and sink.format == "avro":
            schema_text = opened.enter_context(closing(SchemaRegistry(sink.registry))).text_for
        settings = client_settings(sink.brokers, sink.options)
        tail = opened.enter_context(closing(TopicTail(settings, wanted, "sink.kafka")))
        yield tail, RecordTimes(schema_text)
