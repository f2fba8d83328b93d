"""A signal topic: what is meant for the pipeline reaches its stream, also after crashes and outages."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from pycdc.connectors.kafka.signal_topic import ListeningConnector, SignalTopic
from pycdc.connectors.postgres.signals.debezium import DebeziumSignal
from pycdc.errors import ConfigError, EnvironmentNotReady
from pycdc.observability.progress import Progress
from pycdc.testing import MemoryConnector
from tests.reading import PATIENCE, wait_for
from tests.services.kafka import KafkaAddress

pytestmark = pytest.mark.kafka_mock_ok

PAUSE = {"type": "pause-snapshot"}


class Rig:
    """A topic, and listeners to it that remember what they pass on."""

    def __init__(self, brokers: str, name: str) -> None:
        self.brokers = brokers
        self.topic = f"{name}-signal"
        self.group = f"pycdc-signals-{name}"
        self.heard: list[DebeziumSignal] = []
        self.refuse: Exception | None = None
        self.progress = Progress()
        self._producer = Producer({"bootstrap.servers": brokers})
        self._listeners: list[SignalTopic] = []

    def create(self, partitions: int = 1) -> None:
        admin = AdminClient({"bootstrap.servers": self.brokers})
        for made in admin.create_topics([NewTopic(self.topic, partitions, 1)]).values():
            made.result(PATIENCE)

    def send(self, document: object, key: str | None = "shop", *, partition: int = 0) -> None:
        value = document if isinstance(document, bytes) else json.dumps(document).encode()
        self._producer.produce(self.topic, value, key, partition=partition)
        assert self._producer.flush(10) == 0

    def listener(self, brokers: str | None = None, **client: Any) -> SignalTopic:
        settings = {"bootstrap.servers": brokers or self.brokers, "log_level": 0, **client}
        made = SignalTopic(settings, self.topic, "shop", self.group, self._forward, self.progress)
        self._listeners.append(made)
        return made

    def _forward(self, signal: DebeziumSignal) -> None:
        if self.refuse is not None:
            raise self.refuse
        self.heard.append(signal)

    def wait(self, count: int) -> None:
        wait_for(lambda: len(self.heard) >= count)

    @property
    def committed(self) -> int:
        consumer = Consumer({"bootstrap.servers": self.brokers, "group.id": self.group})
        try:
            return int(consumer.committed([TopicPartition(self.topic, 0)], timeout=60)[0].offset)
        finally:
            consumer.close()

    def close(self) -> None:
        for listener in self._listeners:
            listener.stop()


@pytest.fixture
def rig(kafka: KafkaAddress, topic_prefix: str) -> Iterator[Rig]:
    rig = Rig(kafka.bootstrap, topic_prefix)
    yield rig
    rig.close()


def test_only_messages_with_the_pipelines_key_are_passed_on_under_the_name_of_their_place(rig: Rig) -> None:
    rig.create()
    for key in ("other", None, "shop"):
        rig.send({"type": "log", "data": {"message": str(key)}, "id": "theirs"}, key)
    listener = rig.listener()
    listener.start()
    rig.wait(1)
    rig.send(PAUSE)
    rig.wait(2)
    assert [signal.id for signal in rig.heard] == [f"{rig.topic}-0-2", f"{rig.topic}-0-3"]
    assert json.loads(rig.heard[0].data) == {"message": "shop"}
    assert rig.heard[1].type == "pause-snapshot"


def test_what_was_passed_on_is_not_heard_again_and_what_came_meanwhile_is(rig: Rig) -> None:
    rig.create()
    rig.send(PAUSE)
    first = rig.listener()
    first.start()
    rig.wait(1)
    first.stop()
    rig.send({"type": "resume-snapshot"})
    rig.listener().start()
    rig.wait(2)
    assert [signal.type for signal in rig.heard] == ["pause-snapshot", "resume-snapshot"]


def test_a_signal_that_cannot_be_passed_on_is_kept_and_comes_first(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.create()
    rig.refuse = EnvironmentNotReady("the slot is not there yet")
    rig.send(PAUSE)
    rig.send({"type": "resume-snapshot"})
    listener = rig.listener()
    listener.start()
    wait_for(lambda: any(record.__dict__.get("fact") == "the slot is not there yet" for record in caplog.records))
    listener.stop()
    assert rig.committed < 1, "an offset that is committed is a signal that is lost"
    rig.refuse = None
    rig.listener().start()
    rig.wait(2)
    assert [signal.type for signal in rig.heard] == ["pause-snapshot", "resume-snapshot"]
    wait_for(lambda: rig.committed == 2)


def test_a_signal_is_passed_on_once_also_where_its_offset_cannot_be_committed(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by a user who may describe the group and not write its offsets."""
    refusals = 2
    commit = SignalTopic._commit

    def refused(listener: SignalTopic, consumer: Consumer) -> None:
        nonlocal refusals
        if refusals:
            refusals -= 1
            raise KafkaException(KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED))
        commit(listener, consumer)

    monkeypatch.setattr(SignalTopic, "_commit", refused)
    rig.create()
    rig.send(PAUSE)
    rig.listener().start()
    wait_for(lambda: rig.committed == 1)
    rig.send({"type": "resume-snapshot"})
    rig.wait(2)
    assert [signal.type for signal in rig.heard] == ["pause-snapshot", "resume-snapshot"]


def test_messages_that_are_no_signals_are_counted_and_left_behind(rig: Rig) -> None:
    rig.create()
    for value in (b"{", b"[]", b'{"data": {}}'):
        rig.send(value)
    rig.send(PAUSE)
    rig.listener().start()
    rig.wait(1)
    assert rig.progress.signals == {("topic", "unreadable"): 3}
    wait_for(lambda: rig.committed == 4)


def test_messages_for_others_move_the_offset_too(rig: Rig) -> None:
    rig.create()
    rig.send(PAUSE, "other")
    rig.listener().start()
    wait_for(lambda: rig.committed == 1)
    assert rig.heard == []


def test_every_partition_is_listened_to(rig: Rig) -> None:
    rig.create(partitions=3)
    for number in range(3):
        rig.send(PAUSE, partition=number)
    rig.listener().start()
    rig.wait(3)
    assert {signal.id for signal in rig.heard} == {f"{rig.topic}-{number}-0" for number in range(3)}


def test_a_topic_that_is_made_later_is_found(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.listener().start()
    wait_for(lambda: any("have to wait" in record.getMessage() for record in caplog.records))
    rig.create()
    rig.send(PAUSE)
    rig.wait(1)


def test_brokers_that_are_away_delay_signals_and_stopping_waits_for_seconds_only(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    listener = rig.listener("127.0.0.1:1")
    listener.start()
    wait_for(lambda: any("have to wait" in record.getMessage() for record in caplog.records))
    began = time.monotonic()
    listener.stop()
    assert time.monotonic() - began < 10
    assert not listening()


def test_options_that_librdkafka_does_not_take_are_refused_without_their_values(rig: Rig) -> None:
    with pytest.raises(ConfigError) as refused:
        rig.listener(**{"socket.keepalive.enable": "s3cret"}).start()
    assert "s3cret" not in str(refused.value)


def test_a_connector_listens_from_its_first_batch_on_and_stops_with_it(rig: Rig) -> None:
    rig.create()
    rig.send(PAUSE)
    source = MemoryConnector([], idle=True)
    connector = ListeningConnector(source, rig.listener())
    batches = connector.batches(None)
    assert not listening()
    next(batches)
    rig.wait(1)
    connector.close()
    assert not listening()
    assert source.closed == 1


def listening() -> bool:
    return any(thread.name == "pycdc-signals" for thread in threading.enumerate())
