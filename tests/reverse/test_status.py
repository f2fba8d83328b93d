"""`pycdc status` and `pycdc teardown` of pipelines that write into tables."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner, Result

from pycdc.cli import main
from tests.reading import wait_for
from tests.reverse.conftest import Rig

pytestmark = pytest.mark.pg("newest")

TABLES = "SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace('pycdc') AND relkind = 'r' ORDER BY 1"


def call(rig: Rig, *command: str, document: dict[str, Any] | None = None) -> Result:
    path = rig.folder / "called.json"
    path.write_text(json.dumps(document or rig.document()))
    return CliRunner().invoke(main, [command[0], str(path), *command[1:]])


def status(rig: Rig, **expected: Any) -> dict[str, Any]:
    result = call(rig, "status", "--json")
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    assert {name: found[name] for name in expected} == expected
    return found


def applied(rig: Rig, document: dict[str, Any], total: int) -> None:
    """Run a pipeline until that many records are applied."""
    process = rig.start(document)
    rig.wait_for_offsets(total)
    process.stop()


def test_the_place_in_each_partition_is_told_before_during_and_after_a_run(rig: Rig) -> None:
    rig.kafka.create_topic(rig.topic, partitions=2)
    rig.produce((n, {"id": n, "name": "a"}) for n in range(10))
    before = status(rig, running=False, lag_records=10, blocked_keys=0, parked={"records": 0, "errors": {}})
    assert before["conflicts"] is None
    assert [(place["stored"], place["lag_records"], place["epoch"]) for place in before["partitions"]] == [
        (None, place["end"], None) for place in before["partitions"]
    ]
    process = rig.start(rig.document())
    rig.wait_for_offsets(10)
    wait_for(lambda: status(rig)["running"])
    during = status(rig, lag_records=0)
    (member,) = during["members"]
    assert member["partitions"] == [f"{rig.topic}[{number}]" for number in range(2)]
    assert {place["owner"] for place in during["partitions"]} == {member["id"]}
    assert call(rig, "status").stdout.startswith(f"{rig.name}: running, 1 of the group\n")
    process.stop()
    rig.produce([(1, {"id": 1, "name": "b"})])
    after = status(rig, running=False, lag_records=1, problems=[])
    assert sum(place["stored"] for place in after["partitions"]) == 10
    assert "nothing applied yet" not in call(rig, "status").stdout


def test_parked_records_and_the_keys_behind_them_are_counted(rig: Rig) -> None:
    rig.kafka.create_topic(rig.topic)
    rig.produce([(1, {"id": 1, "name": "a"}), (2, {"id": 2, "nothing": 1}), (2, {"id": 2}), (3, {"id": "x"})])
    applied(rig, rig.document(sink={"on_error": "park"}), 4)
    errors = {"Follower": 1, "InvalidTextRepresentation": 1, "Unwritable": 1}
    found = status(rig, lag_records=0, blocked_keys=2, parked={"records": 3, "errors": errors})
    assert found["conflicts"] == 0
    assert "3 records (" in call(rig, "status").stdout


def test_a_stored_offset_that_is_not_in_the_topic_is_a_problem(rig: Rig) -> None:
    rig.kafka.create_topic(rig.topic)
    rig.produce([(1, {"id": 1})])
    applied(rig, rig.document(), 1)
    rig.sql("UPDATE pycdc.apply_offsets SET next_offset = 7")
    (problem,) = status(rig)["problems"]
    assert problem["fact"].startswith(f"{rig.topic}[0]: the stored offset 7 is not in the topic any more")


def test_a_server_that_does_not_answer_is_told_beside_what_the_other_says(rig: Rig) -> None:
    rig.kafka.create_topic(rig.topic)
    rig.produce([(1, {"id": 1})])
    applied(rig, rig.document(), 1)
    result = call(rig, "status", "--json", document=rig.document(source={"brokers": "127.0.0.1:1"}))
    found = json.loads(result.stdout)
    assert (result.exit_code, found["kafka_reachable"], found["database_reachable"]) == (1, False, True)
    assert found["partitions"][0]["stored"] == 1
    result = call(rig, "status", "--json", document=rig.document(sink={"dsn": "host=127.0.0.1 port=1 dbname=x"}))
    found = json.loads(result.stdout)
    assert (result.exit_code, found["kafka_reachable"], found["database_reachable"]) == (1, True, False)
    assert found["partitions"][0]["end"] == 1
    assert found["parked"] is None


def test_a_pipeline_that_is_torn_down_leaves_its_rows_and_nothing_else(rig: Rig) -> None:
    rig.kafka.create_topic(rig.topic)
    rig.produce([(1, {"id": 1}), (2, {"nothing": 1})])
    applied(rig, rig.document(sink={"on_error": "park"}), 2)
    asked = call(rig, "teardown")
    assert asked.exit_code == 2
    assert "to be removed: 1 row of pycdc.parked: these records were never applied\n" in asked.stderr
    assert f"to be removed: replication origin pycdc:{rig.name}:0\n" in asked.stderr
    assert rig.sql("SELECT count(*) FROM pycdc.parked") == [(1,)]
    done = call(rig, "teardown", "--yes")
    assert done.exit_code == 0, done.output
    assert f"deleted consumer group {rig.name}\n" in done.stdout
    assert rig.sql("SELECT to_regnamespace('pycdc')") == [(None,)]
    assert rig.sql(f"SELECT roname FROM pg_replication_origin WHERE roname LIKE '%{rig.name}%'") == []
    assert rig.sql("SELECT id FROM items") == [(1,)]
    again = call(rig, "teardown", "--yes")
    assert (again.exit_code, again.stdout) == (0, f"consumer group {rig.name} did not exist\n")


def test_the_tables_stay_while_another_pipeline_uses_them(rig: Rig) -> None:
    rig.kafka.create_topic(rig.topic)
    rig.produce([(1, {"id": 1})])
    applied(rig, rig.document(), 1)
    rig.sql("INSERT INTO pycdc.apply_offsets VALUES ('another', 'topic', 0, 5)")
    assert call(rig, "teardown", "--yes").exit_code == 0
    assert rig.sql("SELECT pipeline FROM pycdc.apply_offsets") == [("another",)]
    assert ("parked",) in rig.sql(TABLES)


def test_a_running_pipeline_is_not_torn_down(rig: Rig) -> None:
    rig.kafka.create_topic(rig.topic)
    rig.produce([(1, {"id": 1})])
    process = rig.start(rig.document())
    rig.wait_for_offsets(1)
    wait_for(lambda: status(rig)["running"])
    refused = call(rig, "teardown", "--yes")
    assert refused.exit_code == 3
    assert "is running" in refused.stderr
    assert rig.offsets() == 1
    process.stop()


def test_sequences_that_events_left_behind_are_told_and_set(rig: Rig) -> None:
    rig.sql("ALTER TABLE items ALTER id ADD GENERATED BY DEFAULT AS IDENTITY")
    rig.kafka.create_topic(rig.topic)
    rig.produce([(n, {"id": n}) for n in range(1, 8)])
    applied(rig, rig.document(), 7)
    warned = [f for f in json.loads(call(rig, "doctor", "--json").stdout)["findings"] if f["status"] == "warning"]
    titles = [f["title"].split(":")[0] for f in warned if "superuser" not in f["title"]]
    assert titles == ["sequence public.items_id_seq is behind public.items.id"]
    assert "next 1, the table has 7, behind" in call(rig, "sequences").stdout
    (found,) = json.loads(call(rig, "sequences", "--apply", "--margin", "100", "--json").stdout)["sequences"]
    assert (found["set"], found["behind"], found["next"]) == (True, False, 108)
    assert rig.sql("INSERT INTO items DEFAULT VALUES RETURNING id") == [(108,)]
    assert "behind" not in call(rig, "doctor").stdout


def test_force_is_refused_where_there_is_no_slot(rig: Rig) -> None:
    assert call(rig, "teardown", "--yes", "--force").exit_code == 2
