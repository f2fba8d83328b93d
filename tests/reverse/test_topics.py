"""Topics that are not what they were: made anew, found later, with more partitions than before."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewPartitions

from pycdc.cli import main
from pycdc.errors import PositionGap
from tests.reading import PATIENCE, wait_for
from tests.reverse.conftest import Rig
from tests.running import Running

pytestmark = pytest.mark.pg("newest")


def make_anew(rig: Rig) -> None:
    admin = AdminClient({"bootstrap.servers": rig.kafka.bootstrap})
    admin.delete_topics([rig.topic])[rig.topic].result(PATIENCE)
    wait_for(lambda: rig.topic not in admin.list_topics(timeout=60).topics)
    rig.kafka.create_topic(rig.topic)


def write(rig: Rig, topic: str, partition: int, *ids: int) -> None:
    producer = Producer({"bootstrap.servers": rig.kafka.bootstrap})
    for number in ids:
        producer.produce(topic, b'{"id": %d}' % number, b"%d" % number, partition=partition)
    assert producer.flush(20) == 0


def test_a_topic_that_was_made_anew_is_not_taken_for_the_one_that_was_read(rig: Rig) -> None:
    rig.kafka.create_topic(rig.topic)
    rig.produce((n, {"id": n}) for n in range(5))
    document = rig.document()
    with Running(document) as running:
        running.until(lambda: rig.offsets() == 5)
    make_anew(rig)
    rig.produce((n, {"id": 100 + n}) for n in range(10))
    with Running(document) as running:
        error = running.failure()
    assert isinstance(error, PositionGap)
    assert f"topic {rig.topic} is another one" in error.fact
    assert "apply_offsets" in error.hint
    assert rig.sql("SELECT max(id), count(*) FROM items") == [(4, 5)]
    path = rig.folder / "doctor.json"
    path.write_text(json.dumps(document))
    told = CliRunner().invoke(main, ["doctor", str(path)])
    assert told.exit_code == 3
    assert "is another one than the stored offsets are of" in told.output
    rig.sql("DELETE FROM pycdc.apply_offsets")
    with Running(document) as running:
        running.until(lambda: rig.offsets() == 10)
    assert rig.sql("SELECT count(*) FROM items WHERE id >= 100") == [(10,)]


def test_a_topic_that_is_made_anew_while_it_is_read_ends_the_pipeline(rig: Rig) -> None:
    rig.kafka.create_topic(rig.topic)
    rig.produce((n, {"id": n}) for n in range(5))
    with Running(rig.document()) as running:
        running.until(lambda: rig.offsets() == 5)
        make_anew(rig)
        rig.produce((n, {"id": 100 + n}) for n in range(3))
        error = running.failure()
    assert not error.retry
    assert rig.topic in error.fact


def test_partitions_and_topics_that_are_found_later_begin_at_their_first_record(rig: Rig) -> None:
    rig.kafka.create_topic(rig.topic)
    rig.produce((n, {"id": n}) for n in range(5))
    named = {"topics": [rig.topic], "start": "latest"}
    fast = {"topic.metadata.refresh.interval.ms": 500, "metadata.max.age.ms": 1000}
    document = rig.document({"topic": f"{rig.topic}*"}, source={**named, "topics": [f"{rig.topic}*"], "options": fast})
    with Running(document) as running:
        running.until(lambda: rig.offsets() == 5)
        write(rig, rig.topic, 0, 10)
        running.until(lambda: rig.sql("SELECT id FROM items") == [(10,)])
    admin = AdminClient({"bootstrap.servers": rig.kafka.bootstrap})
    admin.create_partitions([NewPartitions(rig.topic, 2)])[rig.topic].result(PATIENCE)
    wait_for(lambda: len(admin.list_topics(rig.topic, timeout=60).topics[rig.topic].partitions) == 2)
    write(rig, rig.topic, 1, 20, 21)
    rig.kafka.create_topic(f"{rig.topic}.more")
    write(rig, f"{rig.topic}.more", 0, 30)
    with Running(document) as running:
        running.until(lambda: rig.sql("SELECT id FROM items ORDER BY 1") == [(10,), (20,), (21,), (30,)])
        rig.kafka.create_topic(f"{rig.topic}.even_more")
        write(rig, f"{rig.topic}.even_more", 0, 40)
        running.until(lambda: rig.sql("SELECT 1 FROM items WHERE id = 40") == [(1,)])


def test_a_pattern_that_matches_no_topic_yet_waits_for_those_that_come(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    """They are found without an option, well within librdkafka's five minutes."""
    caplog.set_level("INFO", "pycdc")
    with Running(rig.document({"topic": f"{rig.topic}*"}, source={"topics": [f"{rig.topic}*"]})) as running:
        running.until(lambda: "no topic matches" in caplog.text)
        assert f"pattern={rig.topic}*" in caplog.text
        rig.kafka.create_topic(rig.topic)
        write(rig, rig.topic, 0, 1)
        running.until(lambda: rig.sql("SELECT id FROM items") == [(1,)], 60)


def test_latest_is_for_what_there_is_at_the_first_start(rig: Rig) -> None:
    """Of a process that ends before it gets its partitions, too."""
    rig.kafka.create_topic(rig.topic, partitions=3)
    rig.produce((n, {"id": n}) for n in range(20))
    document = rig.document(source={"start": "latest"})
    with Running(document) as running:
        running.until(lambda: rig.offsets() == 20)
    rig.produce([(50, {"id": 50})])
    with Running(document) as running:
        running.until(lambda: rig.sql("SELECT id FROM items") == [(50,)])


def test_a_tombstone_is_behind_its_delete_though_another_process_read_that(rig: Rig) -> None:
    """The route's key is not the message key, so the tombstone tells no row."""
    rig.kafka.create_topic(rig.topic)
    document = rig.document({"key": {"id": "code"}, "set": {}, "replica_identity": "full"})
    envelope = {"op": "c", "before": None, "after": {"code": 7}}
    rig.produce([({"no": 1}, envelope), ({"no": 1}, {"op": "d", "before": {"code": 7}, "after": None})])
    with Running(document) as running:
        running.until(lambda: rig.offsets() == 2)
    rig.produce([({"no": 1}, None), ({"no": 2}, {**envelope, "after": {"code": 8}})])
    with Running(document) as running:
        running.until(lambda: rig.offsets() == 4)
    assert rig.sql("SELECT id FROM items") == [(8,)]
    rig.produce([({"no": 2}, None)])
    with Running(document) as running:
        assert "does not tell the key column id" in running.failure().fact
