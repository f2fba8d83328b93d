"""Nothing is lost, nothing overtakes, and whatever is in doubt is an error."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from confluent_kafka import KafkaError

from pycdc.clients.kafka_settings import PRODUCER_DEFAULTS
from pycdc.clients.kafka_topics import TopicAdmin
from pycdc.config.kafka import KafkaSinkConfig, TopicsConfig
from pycdc.errors import (
    ConnectionLost,
    DeliveryError,
    EnvironmentNotReady,
    PycdcError,
    RecordTooLarge,
    SinkFenced,
)
from pycdc.interfaces import Checkpoint, OffsetStore
from pycdc.model.change import Batch, Lsn, Position
from pycdc.offsets.memory import MemoryOffsetStore
from pycdc.sinks.kafka.producer import KafkaSink
from tests.proxy import Proxy
from tests.services.kafka import KafkaAddress
from tests.sinks.kafka.records import (
    GivenRecords,
    Groups,
    after_rewinding,
    batch_of,
    is_complete_and_ordered,
    numbered,
    numbers,
)


def settings(
    brokers: str, *, timeout: float = 30.0, topics: TopicsConfig | None = None, **options: Any
) -> KafkaSinkConfig:
    return KafkaSinkConfig(
        brokers=brokers,
        format="json",
        delivery_timeout=timeout,
        topics=topics or TopicsConfig(replication=1),
        options={name.replace("_", "."): value for name, value in options.items()},
    )


def checkpoint(lsn: int) -> Checkpoint:
    return Checkpoint(Position(Lsn(lsn)), source={"slot": "s"})


def deliver(sink: KafkaSink, batch: Batch | None = None) -> None:
    sink.write(batch or Batch())
    sink.commit(checkpoint(1))


Open = Callable[..., KafkaSink]


@pytest.fixture
def offsets() -> MemoryOffsetStore:
    return MemoryOffsetStore()


@pytest.fixture
def open_sink(offsets: OffsetStore) -> Iterator[Open]:
    """Open sinks that are closed afterwards: `open_sink(serializer, brokers, **settings)`."""
    opened: list[KafkaSink] = []

    def open_one(
        serializer: Any,
        brokers: str,
        stopping: threading.Event | None = None,
        admin: TopicAdmin | None = None,
        **more: Any,
    ) -> KafkaSink:
        opened.append(KafkaSink(serializer, settings(brokers, **more), offsets, topics=admin, stopping=stopping))
        return opened[-1]

    yield open_one
    for sink in opened:
        sink.close()


@pytest.mark.kafka_mock_ok
def test_after_a_commit_everything_written_is_durable_and_the_position_is_stored(
    kafka: KafkaAddress, topic_prefix: str, open_sink: Open, offsets: MemoryOffsetStore
) -> None:
    serializer = GivenRecords([(topic_prefix, numbered(0, 500)), (topic_prefix, numbered(500, 1000))])
    sink = open_sink(serializer, kafka.bootstrap)
    sink.write(Batch())
    assert offsets.load() is None
    sink.commit(checkpoint(100))
    assert offsets.load() == checkpoint(100)
    assert is_complete_and_ordered(numbers(kafka, topic_prefix), 1000)


@pytest.mark.kafka_mock_ok
def test_an_empty_batch_and_a_commit_without_records_are_fine(
    kafka: KafkaAddress, open_sink: Open, offsets: MemoryOffsetStore
) -> None:
    sink = open_sink(GivenRecords([]), kafka.bootstrap)
    sink.write(Batch())
    sink.commit(checkpoint(7))
    assert offsets.load() == checkpoint(7)


def test_a_tiny_queue_loses_nothing_and_keeps_the_order(
    kafka: KafkaAddress, topic_prefix: str, open_sink: Open
) -> None:
    count, size = 200_000, 4000
    batches: list[Groups] = [[(topic_prefix, numbered(n, n + size))] for n in range(0, count, size)]
    sink = open_sink(
        GivenRecords(*batches), kafka.bootstrap, queue_buffering_max_messages=300, topics=TopicsConfig(partitions=3)
    )
    for _ in batches:
        sink.write(Batch())
    sink.commit(checkpoint(1))
    assert is_complete_and_ordered(numbers(kafka, topic_prefix), count)


def test_a_queue_that_is_small_in_bytes_loses_nothing_and_keeps_the_order(
    kafka: KafkaAddress, topic_prefix: str, open_sink: Open
) -> None:
    serializer = GivenRecords([(topic_prefix, numbered(0, 3000, pad=1000))])
    sink = open_sink(serializer, kafka.bootstrap, queue_buffering_max_kbytes=64)
    sink.write(Batch())
    sink.commit(checkpoint(1))
    assert is_complete_and_ordered(numbers(kafka, topic_prefix), 3000)


@pytest.mark.kafka_mock_ok
def test_records_with_and_without_headers_keep_their_order_under_a_tiny_queue(
    kafka: KafkaAddress, topic_prefix: str, open_sink: Open
) -> None:
    records = numbered(0, 2000, keys=3)
    for record in records[::3]:
        record["headers"] = [("__op", b"c"), ("empty", b"")]
    plain = numbered(2000, 2500, keys=3)
    sink = open_sink(
        GivenRecords([(topic_prefix, records), (topic_prefix, plain)]),
        kafka.bootstrap,
        queue_buffering_max_messages=50,
    )
    sink.write(Batch())
    sink.commit(checkpoint(1))
    assert is_complete_and_ordered(numbers(kafka, topic_prefix), 2500, keys=3)
    with_headers = [message for message in kafka.consume_all(topic_prefix) if message.headers()]
    assert {tuple(message.headers()) for message in with_headers} == {(("__op", b"c"), ("empty", b""))}
    assert len(with_headers) == len(records[::3])


def test_a_record_goes_to_the_partition_it_names(kafka: KafkaAddress, topic_prefix: str, open_sink: Open) -> None:
    records = [{"key": None, "value": b"%d" % n, "partition": n % 3} for n in range(9)]
    sink = open_sink(GivenRecords([(topic_prefix, records)]), kafka.bootstrap, topics=TopicsConfig(partitions=3))
    sink.write(Batch())
    sink.commit(checkpoint(1))
    assert all(message.partition() == int(message.value()) % 3 for message in kafka.consume_all(topic_prefix))


@pytest.mark.kafka_mock_ok
def test_a_record_keeps_the_time_and_the_null_header_it_comes_with(
    kafka: KafkaAddress, topic_prefix: str, open_sink: Open
) -> None:
    record = {"key": b"k", "value": b"v", "headers": [("tenant", None)], "timestamp": 1_700_000_000_123}
    sink = open_sink(GivenRecords([(topic_prefix, [record])]), kafka.bootstrap)
    sink.write(Batch())
    sink.commit(checkpoint(1))
    (message,) = kafka.consume_all(topic_prefix)
    assert message.timestamp()[1] == 1_700_000_000_123
    assert message.headers() == [("tenant", None)]


@pytest.mark.kafka_mock_ok
def test_tombstones_arrive_as_null_values(kafka: KafkaAddress, topic_prefix: str, open_sink: Open) -> None:
    sink = open_sink(GivenRecords([(topic_prefix, [{"key": b"k", "value": None}])]), kafka.bootstrap)
    sink.write(Batch())
    sink.commit(checkpoint(1))
    assert [(m.key(), m.value()) for m in kafka.consume_all(topic_prefix)] == [(b"k", None)]


# -- brokers that go away


def deliver_with_rewinds(
    open_sink: Callable[[GivenRecords], KafkaSink], topic: str, count: int, size: int, disturb: Callable[[int], None]
) -> int:
    """Write `count` records in batches of `size` with a commit each; after an error go back to the last commit."""
    done = rewinds = 0
    sink: KafkaSink | None = None
    deadline = time.monotonic() + 90
    while done < count:
        serializer = GivenRecords([(topic, numbered(done, done + size))])
        try:
            if sink is None:
                sink = open_sink(serializer)
            sink._serializer = serializer
            disturb(done)
            sink.write(Batch())
            sink.commit(checkpoint(done + size))
            done += size
        except (DeliveryError, ConnectionLost):
            if time.monotonic() > deadline:
                raise
            if sink is not None:
                sink.close()
            sink, rewinds = None, rewinds + 1
    return rewinds


@pytest.mark.exclusive
@pytest.mark.slow
def test_a_broker_that_is_killed_and_comes_back_costs_no_record(
    kafka: KafkaAddress, topic_prefix: str, open_sink: Open
) -> None:
    back = threading.Timer(4.0, kafka.start)

    def disturb(done: int) -> None:
        if done == 4000 and not back.ident:
            kafka.kill()
            back.start()

    rewinds = deliver_with_rewinds(
        lambda serializer: open_sink(serializer, kafka.bootstrap, timeout=2.0), topic_prefix, 10_000, 1000, disturb
    )
    back.join()
    assert rewinds >= 1
    assert_nothing_lost(kafka, topic_prefix, 10_000)


@pytest.mark.exclusive
@pytest.mark.slow
def test_a_broker_that_stops_answering_for_a_while_costs_no_record(
    kafka: KafkaAddress, topic_prefix: str, open_sink: Open
) -> None:
    back = threading.Timer(4.0, kafka.resume)

    def disturb(done: int) -> None:
        if done == 4000 and not back.ident:
            kafka.pause()
            back.start()

    rewinds = deliver_with_rewinds(
        lambda serializer: open_sink(serializer, kafka.bootstrap, timeout=2.0), topic_prefix, 10_000, 1000, disturb
    )
    back.join()
    assert rewinds >= 1
    assert_nothing_lost(kafka, topic_prefix, 10_000)


def assert_nothing_lost(kafka: KafkaAddress, topic: str, count: int, keys: int = 7) -> None:
    """Each key's numbers are all there, and the last state of the key is the last that was written."""
    found = numbers(kafka, topic)
    for key in range(keys):
        wanted = list(range(key, count, keys))
        got = found[b"k%d" % key]
        assert sorted(set(got)) == wanted
        assert got[-1] == wanted[-1]
        assert after_rewinding(got) == wanted


@pytest.mark.exclusive
def test_an_outage_shorter_than_the_timeout_is_not_even_noticed(
    kafka: KafkaAddress, topic_prefix: str, open_sink: Open
) -> None:
    serializer = GivenRecords([(topic_prefix, numbered(0, 1000))], [(topic_prefix, numbered(1000, 2000))])
    sink = open_sink(serializer, kafka.bootstrap, timeout=60.0)
    sink.write(Batch())
    sink.commit(checkpoint(1))
    kafka.pause()
    timer = threading.Timer(1.5, kafka.resume)
    timer.start()
    sink.write(Batch())
    sink.commit(checkpoint(2))
    timer.join()
    assert is_complete_and_ordered(numbers(kafka, topic_prefix), 2000)


@pytest.mark.exclusive
def test_a_broker_that_stays_silent_is_a_delivery_error_within_the_timeout(
    kafka: KafkaAddress, topic_prefix: str, open_sink: Open, offsets: MemoryOffsetStore
) -> None:
    serializer = GivenRecords([(topic_prefix, numbered(0, 10))], [(topic_prefix, numbered(10, 20))])
    sink = open_sink(serializer, kafka.bootstrap, timeout=1.0)
    sink.write(Batch())
    sink.commit(checkpoint(1))
    kafka.pause()
    sink.write(Batch())
    started = time.monotonic()
    with pytest.raises(DeliveryError) as caught:
        sink.commit(checkpoint(2))
    assert time.monotonic() - started < 10
    assert caught.value.retry
    assert caught.value.hint
    assert offsets.load() == checkpoint(1)


@pytest.mark.exclusive
def test_a_full_queue_with_a_silent_broker_ends_in_a_delivery_error(
    kafka: KafkaAddress, topic_prefix: str, open_sink: Open
) -> None:
    serializer = GivenRecords([(topic_prefix, numbered(0, 10))], [(topic_prefix, numbered(10, 5000))])
    sink = open_sink(serializer, kafka.bootstrap, timeout=1.0, queue_buffering_max_messages=100)
    sink.write(Batch())
    sink.commit(checkpoint(1))
    kafka.pause()
    with pytest.raises(DeliveryError):
        sink.write(Batch())


@pytest.mark.exclusive
def test_stopping_ends_the_wait_for_a_silent_broker(
    kafka: KafkaAddress, topic_prefix: str, open_sink: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pycdc.sinks.kafka.producer._STOP_GRACE", 0.5)
    stopping = threading.Event()
    serializer = GivenRecords([(topic_prefix, numbered(0, 10))], [(topic_prefix, numbered(10, 20))])
    sink = open_sink(serializer, kafka.bootstrap, stopping, timeout=300.0)
    sink.write(Batch())
    sink.commit(checkpoint(1))
    kafka.pause()
    sink.write(Batch())
    threading.Timer(0.3, stopping.set).start()
    started = time.monotonic()
    with pytest.raises(DeliveryError, match="stopped"):
        sink.commit(checkpoint(2))
    assert time.monotonic() - started < 10


@pytest.mark.exclusive
def test_closing_with_a_silent_broker_does_not_block(kafka: KafkaAddress, topic_prefix: str, open_sink: Open) -> None:
    serializer = GivenRecords([(topic_prefix, numbered(0, 10))], [(topic_prefix, numbered(10, 20_000))])
    sink = open_sink(serializer, kafka.bootstrap, timeout=300.0)
    sink.write(Batch())
    sink.commit(checkpoint(1))
    kafka.pause()
    sink.write(Batch())
    started = time.monotonic()
    sink.close()
    sink.close()
    assert time.monotonic() - started < 5


def test_brokers_that_never_answered_are_a_lost_connection(open_sink: Open) -> None:
    topics = TopicAdmin({"bootstrap.servers": "127.0.0.1:1"}, TopicsConfig(), timeout=0.5)
    sink = open_sink(GivenRecords([("t", numbered(0, 1))]), "127.0.0.1:1", admin=topics)
    with pytest.raises(ConnectionLost, match=r"127\.0\.0\.1:1") as caught:
        sink.write(Batch())
    assert caught.value.retry
    assert "sink.kafka.brokers" in caught.value.hint


@pytest.mark.slow
def test_connections_that_are_cut_all_the_time_neither_lose_nor_reorder(
    kafka_proxy: Proxy, kafka: KafkaAddress, topic_prefix: str, open_sink: Open
) -> None:
    count, size = 40_000, 2000
    batches: list[Groups] = [[(topic_prefix, numbered(n, n + size, pad=100))] for n in range(0, count, size)]
    sink = open_sink(GivenRecords(*batches), kafka_proxy.address, timeout=60.0, reconnect_backoff_max_ms=200)
    for number, _ in enumerate(batches):
        sink.write(Batch())
        if number % 3 == 2:
            kafka_proxy.reset_connections()
            sink.commit(checkpoint(number))
    sink.commit(checkpoint(1000))
    assert is_complete_and_ordered(numbers(kafka, topic_prefix), count)


# -- after an error


class Broken:
    def serialize(self, batch: Batch) -> Groups:
        raise ValueError("a serializer that fails")

    def serialize_apart(self, batch: Batch) -> Groups:
        return self.serialize(batch)


@pytest.mark.kafka_mock_ok
def test_a_sink_that_failed_takes_and_commits_nothing_more(
    kafka: KafkaAddress, open_sink: Open, offsets: MemoryOffsetStore
) -> None:
    sink = open_sink(Broken(), kafka.bootstrap)
    with pytest.raises(ValueError, match="fails"):
        sink.write(Batch())
    with pytest.raises(DeliveryError, match="cannot go on"):
        sink.write(Batch())
    with pytest.raises(DeliveryError, match="cannot go on"):
        sink.commit(checkpoint(1))
    assert offsets.load() is None


@pytest.mark.kafka_mock_ok
@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (KafkaError._MSG_TIMED_OUT, DeliveryError),
        (KafkaError.NOT_ENOUGH_REPLICAS, DeliveryError),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, EnvironmentNotReady),
        (KafkaError.SASL_AUTHENTICATION_FAILED, EnvironmentNotReady),
        (KafkaError.INVALID_RECORD, EnvironmentNotReady),
        (KafkaError._FENCED, SinkFenced),
        (KafkaError.INVALID_PRODUCER_EPOCH, SinkFenced),
    ],
)
def test_a_reported_failure_is_raised_at_the_next_call(
    kafka: KafkaAddress, topic_prefix: str, open_sink: Open, code: int, kind: type[PycdcError]
) -> None:
    sink = open_sink(GivenRecords([]), kafka.bootstrap)

    class Report:
        def topic(self) -> str:
            return topic_prefix

    sink._on_delivery(KafkaError(code), Report())
    with pytest.raises(kind) as caught:
        sink.write(Batch())
    assert caught.value.hint
    assert caught.value.retry == (kind is DeliveryError)


# -- sizes


CANARY = b"canary-4929-1234"


def test_a_record_above_the_topics_limit_is_refused_before_anything_after_it_is_sent(
    kafka: KafkaAddress, topic_prefix: str, open_sink: Open
) -> None:
    topic = f"{topic_prefix}.public.orders"
    kafka.create_topic(topic, config={"max.message.bytes": "10000"})
    records = [
        {"key": b"a", "value": b"small"},
        {"key": CANARY, "value": CANARY * 1000},
        {"key": b"a", "value": b"after"},
    ]
    sink = open_sink(GivenRecords([(topic, records)]), kafka.bootstrap, compression_type="none")
    with pytest.raises(RecordTooLarge) as caught:
        sink.write(batch_of())
    sink.close()
    assert kafka.consume_all(topic) == []
    text = str(caught.value)
    assert "table public.orders, key tenant, id" in text
    assert "16016 bytes (key 16, value 16000)" in text
    assert "10000 bytes" in text
    assert "canary" not in text
    assert f"--topic {topic}" in caught.value.hint
    assert not caught.value.retry


def test_a_record_that_only_compression_makes_small_enough_is_delivered(
    kafka: KafkaAddress, topic_prefix: str, open_sink: Open
) -> None:
    kafka.create_topic(topic_prefix, config={"max.message.bytes": "10000"})
    sink = open_sink(GivenRecords([(topic_prefix, [{"key": b"k", "value": b"x" * 200_000}])]), kafka.bootstrap)
    sink.write(Batch())
    sink.commit(checkpoint(1))
    assert [len(message.value()) for message in kafka.consume_all(topic_prefix)] == [200_000]


def test_a_record_that_the_broker_finds_too_large_ends_the_sink(
    kafka: KafkaAddress, topic_prefix: str, open_sink: Open, offsets: MemoryOffsetStore
) -> None:
    topic = f"{topic_prefix}.public.orders"
    kafka.create_topic(topic, config={"max.message.bytes": "10000"})
    incompressible = random.Random(1).randbytes(60_000)
    groups: Groups = [(topic, [{"key": b"k", "value": incompressible}, *numbered(0, 50)])]
    sink = open_sink(GivenRecords(groups), kafka.bootstrap)
    with pytest.raises(RecordTooLarge) as caught:
        deliver(sink, batch_of())
    assert "table public.orders, key tenant, id" in caught.value.fact
    assert "key 1, value 60000" in caught.value.fact
    assert offsets.load() is None


@pytest.mark.kafka_mock_ok
@pytest.mark.parametrize("headers", [False, True])
def test_a_record_above_the_clients_limit_is_refused(
    kafka: KafkaAddress, topic_prefix: str, open_sink: Open, headers: bool
) -> None:
    record: dict[str, Any] = {"key": b"k", "value": b"x" * 5000}
    if headers:
        record["headers"] = [("h", b"1")]
    sink = open_sink(GivenRecords([(topic_prefix, [record])]), kafka.bootstrap, message_max_bytes=4000)
    with pytest.raises(RecordTooLarge):
        sink.write(Batch())


def test_a_topic_that_takes_less_than_a_usual_batch_gets_smaller_batches(
    kafka: KafkaAddress, topic_prefix: str, open_sink: Open
) -> None:
    """The broker's limit is for a batch: many small records together would be refused."""
    small = f"{topic_prefix}-small"
    kafka.create_topic(small, config={"max.message.bytes": "5000"})
    first, second = numbered(0, 3000), numbered(0, 3000, pad=50)
    sink = open_sink(
        GivenRecords([(topic_prefix, first), (small, second)], [(topic_prefix, numbered(3000, 4000))]),
        kafka.bootstrap,
        compression_type="none",
    )
    sink.write(Batch())
    sink.write(Batch())
    sink.commit(checkpoint(1))
    assert is_complete_and_ordered(numbers(kafka, small), 3000)
    assert is_complete_and_ordered(numbers(kafka, topic_prefix), 4000)


def test_a_record_larger_than_the_clients_default_is_delivered_where_the_topic_takes_it(
    kafka: KafkaAddress, topic_prefix: str, open_sink: Open
) -> None:
    kafka.create_topic(topic_prefix, config={"max.message.bytes": "20000000"})
    serializer = GivenRecords([(topic_prefix, [{"key": b"k", "value": b"ab" * 5_000_000}])])
    sink = open_sink(serializer, kafka.bootstrap, compression_type="none")
    sink.write(Batch())
    sink.commit(checkpoint(1))
    assert [len(message.value()) for message in kafka.consume_all(topic_prefix)] == [10_000_000]


# -- topics


def test_a_null_key_on_a_compacted_topic_is_explained(kafka: KafkaAddress, topic_prefix: str, open_sink: Open) -> None:
    kafka.create_topic(topic_prefix, config={"cleanup.policy": "compact"})
    sink = open_sink(GivenRecords([(topic_prefix, [{"key": None, "value": b"v"}])]), kafka.bootstrap)
    with pytest.raises(EnvironmentNotReady, match="null keys"):
        deliver(sink)


# -- speed or delay


class Lingering:
    """A sink whose records wait for half a minute, unless they are hastened."""

    def __init__(self, kafka: KafkaAddress, topic: str, open_sink: Open, **options: Any) -> None:
        self.records = GivenRecords([(topic, numbered(0, 1))])
        self.sink = open_sink(self.records, kafka.bootstrap, timeout=120.0, **options)
        deliver(self.sink)

    def write(self, batch: Batch, *groups: tuple[str, list[Any]]) -> int:
        self.records.give(list(groups))
        self.sink.write(batch)
        return self.sink.queued


@pytest.fixture
def long_linger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRODUCER_DEFAULTS, "linger.ms", 30_000)


@pytest.mark.usefixtures("long_linger")
def test_a_prompt_batch_does_not_wait_for_company(kafka: KafkaAddress, topic_prefix: str, open_sink: Open) -> None:
    lingering = Lingering(kafka, topic_prefix, open_sink)
    left = lingering.write(Batch(flush_now=True), (topic_prefix, numbered(1, 2)))
    deadline = time.monotonic() + 120
    while left and time.monotonic() < deadline:
        left = lingering.write(Batch(flush_now=True))
    assert left == 0


@pytest.mark.usefixtures("long_linger")
def test_a_batch_behind_which_more_is_waiting_does(kafka: KafkaAddress, topic_prefix: str, open_sink: Open) -> None:
    lingering = Lingering(kafka, topic_prefix, open_sink)
    lingering.write(Batch(), (topic_prefix, numbered(1, 2)))
    assert [lingering.write(Batch()) for _ in range(1000)] == [1] * 1000


def test_a_linger_that_is_configured_holds_for_prompt_batches_too(
    kafka: KafkaAddress, topic_prefix: str, open_sink: Open
) -> None:
    lingering = Lingering(kafka, topic_prefix, open_sink, linger_ms=30_000)
    lingering.write(Batch(flush_now=True), (topic_prefix, numbered(1, 2)))
    assert [lingering.write(Batch(flush_now=True)) for _ in range(100)] == [1] * 100
