"""Events that need what others bring: they wait, and are applied with them, though batches are of one event."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from confluent_kafka import Producer

from pycdc.errors import ApplyError
from tests.reverse.conftest import Rig
from tests.running import Running

pytestmark = pytest.mark.pg("newest")

TABLES = """
CREATE TABLE a (id int PRIMARY KEY, b_id int);
CREATE TABLE b (id int PRIMARY KEY, a_id int REFERENCES a DEFERRABLE);
ALTER TABLE a ADD FOREIGN KEY (b_id) REFERENCES b DEFERRABLE;
CREATE TABLE seats (id int PRIMARY KEY, place text UNIQUE);
"""


def made(rig: Rig, table: str, partitions: int = 1) -> str:
    topic = f"{rig.name}.{table}"
    rig.kafka.create_topic(topic, partitions=partitions)
    return topic


def produce(rig: Rig, topic: str, *rows: dict[str, Any], partition: int = 0) -> None:
    producer = Producer({"bootstrap.servers": rig.kafka.bootstrap})
    for row in rows:
        producer.produce(topic, json.dumps(row).encode(), json.dumps({"id": row["id"]}).encode(), partition=partition)
    assert producer.flush(20) == 0


def document(rig: Rig, topics: list[str], *, most: int = 20000, batch: int = 1, **sink: Any) -> dict[str, Any]:
    routes = [{"topic": topic, "table": topic.rpartition(".")[2]} for topic in topics]
    # A static member: who comes after one that was killed has its partitions at once, and not when its session is over.
    member = {"group.instance.id": "one"}
    source = {"topics": topics, "max_batch_events": batch, "max_waiting_events": most, "options": member}
    return rig.document(source=source, sink={"routes": routes, **sink})


def test_the_first_events_of_two_topics_that_need_each_other_are_one_transaction(rig: Rig) -> None:
    rig.sql(TABLES)
    topics = [made(rig, "a"), made(rig, "b")]
    produce(rig, topics[0], {"id": 1, "b_id": 1}, {"id": 2, "b_id": None})
    produce(rig, topics[1], {"id": 1, "a_id": 1})
    with Running(document(rig, topics)) as running:
        running.until(lambda: rig.offsets() == 3)
    assert rig.sql("SELECT id, b_id FROM a ORDER BY 1") == [(1, 1), (2, None)]
    assert rig.sql("SELECT a.xmin = b.xmin FROM a JOIN b USING (id)") == [(True,)]


def test_a_unique_value_moves_between_rows_of_two_partitions(rig: Rig) -> None:
    rig.sql(TABLES + "INSERT INTO seats VALUES (1, 'x'), (2, 'y'), (3, 'z')")
    topic = made(rig, "seats", 2)
    produce(rig, topic, {"id": 1, "place": "y"}, {"id": 3, "place": "w"}, partition=0)
    produce(rig, topic, {"id": 2, "place": "x"}, partition=1)
    with Running(document(rig, [topic])) as running:
        running.until(lambda: rig.offsets() == 3)
    assert rig.sql("SELECT id, place FROM seats ORDER BY 1") == [(1, "y"), (2, "x"), (3, "w")]


def test_a_unique_value_is_waited_for_that_a_later_batch_gives_up(rig: Rig) -> None:
    rig.sql(TABLES + "INSERT INTO seats VALUES (1, 'x')")
    topic = made(rig, "seats")
    produce(rig, topic, {"id": 2, "place": "x"}, {"id": 3, "place": "v"})
    with Running(document(rig, [topic])) as running:
        running.until(lambda: running.pipeline.progress.partitions)
        assert rig.offsets() == 0
        produce(rig, topic, {"id": 1, "place": "y"})
        running.until(lambda: rig.offsets() == 3)
    assert rig.sql("SELECT id, place FROM seats ORDER BY 1") == [(1, "y"), (2, "x"), (3, "v")]


def test_beyond_the_bound_a_partition_is_read_no_further_and_others_bring_what_it_needs(rig: Rig) -> None:
    rig.sql(TABLES)
    topics = [made(rig, "a"), made(rig, "b")]
    produce(rig, topics[0], {"id": 0, "b_id": 99}, *({"id": n, "b_id": None} for n in range(1, 30)))
    with Running(document(rig, topics, most=3)) as running:
        running.until(lambda: running.pipeline.progress.partitions)
        produce(rig, topics[1], *({"id": n, "a_id": None} for n in range(100)))
        running.until(lambda: rig.offsets() == 130)
    assert rig.sql("SELECT count(*), max(b_id) FROM a") == [(30, 99)]


def test_what_nobody_brings_is_refused_by_name_and_the_rest_of_its_partition_stays(rig: Rig) -> None:
    rig.sql(TABLES)
    topics = [made(rig, "a"), made(rig, "b")]
    produce(rig, topics[0], {"id": 1, "b_id": None}, {"id": 2, "b_id": 7}, {"id": 3, "b_id": None})
    produce(rig, topics[1], {"id": 1, "a_id": None})
    with Running(document(rig, topics, wait_for_parents=1)) as running:
        refused = running.failure()
    assert isinstance(refused, ApplyError)
    assert re.search(r"\.a\[0\] offset 1 .*a_b_id_fkey; no event brought", str(refused))
    assert "source.kafka.max_waiting_events" in (refused.hint or "")
    assert rig.sql("SELECT next_offset FROM pycdc.apply_offsets ORDER BY topic") == [(1,), (1,)]
    with Running(document(rig, topics, wait_for_parents=1, on_error="park")) as running:
        running.until(lambda: rig.offsets() == 4)
    assert rig.sql("SELECT error FROM pycdc.parked") == [("ForeignKeyViolation",)]
    assert rig.sql("SELECT id FROM a ORDER BY 1") == [(1,), (3,)]


def test_a_process_that_is_killed_while_events_wait_loses_and_doubles_none(rig: Rig) -> None:
    rig.sql(TABLES + "CREATE TABLE log (id int)")
    body = "BEGIN INSERT INTO log VALUES (NEW.id); RETURN NEW; END"
    rig.sql(f"CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS '{body}'")
    rig.sql("CREATE TRIGGER note AFTER INSERT OR UPDATE ON a FOR EACH ROW EXECUTE FUNCTION note()")
    topics = [made(rig, "a"), made(rig, "b")]
    rows = [{"id": n, "b_id": 7 if n == 2 else None} for n in range(1, 9)]
    produce(rig, topics[0], *rows)
    produce(rig, topics[1], {"id": 1, "a_id": None})
    process = rig.start(document(rig, topics))
    rig.wait_for_offsets(2)
    process.kill()
    with Running(document(rig, topics)) as running:
        running.until(lambda: running.pipeline.progress.partitions)
        produce(rig, topics[1], {"id": 7, "a_id": 8})
        running.until(lambda: rig.offsets() == 10)
    assert rig.sql("SELECT id FROM log ORDER BY 1") == [(n,) for n in range(1, 9)]
