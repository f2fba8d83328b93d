"""`pycdc run --dry-run`: what would be executed next, and that nothing is."""

from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest
from click.testing import Result
from confluent_kafka import Producer

from tests.reverse.conftest import Rig
from tests.reverse.test_status import applied, call

pytestmark = pytest.mark.pg("newest")


def dry_run(rig: Rig, *options: str, document: dict[str, Any] | None = None) -> Result:
    return call(rig, "run", "--dry-run", *options, document=document)


def lines(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def offsets(result: Result) -> list[int]:
    return [line["offset"] for line in lines(result)[:-1]]


def test_what_is_printed_does_what_the_pipeline_would_do(rig: Rig) -> None:
    rig.sql("ALTER TABLE items ADD note jsonb, ADD tags text[]")
    rig.kafka.create_topic(rig.topic)
    hard = {"id": 1, "name": 'it\'s \\ "hard" $1 %s', "note": {"a": ["'"]}, "tags": ["x,y", None, '"']}
    rig.produce([(1, hard), (2, {"id": 2, "name": None}), (3, {"id": 3}), (1, {"id": 1, "quantity": 7}), (3, None)])
    result = dry_run(rig)
    assert result.exit_code == 0, result.output
    assert result.stdout.endswith("ROLLBACK;\n-- 5 records, 5 statements; nothing was written\n")
    assert [line for line in result.stdout.splitlines() if line.startswith("-- ")][:5] == [
        f"-- {rig.topic}[0] offset {offset}" for offset in range(5)
    ]
    with psycopg.connect(rig.dsn) as connection:
        connection.execute(result.stdout.replace("ROLLBACK;", "").encode())
        pasted = connection.execute("SELECT * FROM items ORDER BY id").fetchall()
        connection.rollback()
    assert rig.sql("SELECT * FROM items") == []
    applied(rig, rig.document(), 5)
    assert rig.sql("SELECT * FROM items ORDER BY id") == pasted != []


def test_nobody_notices_a_dry_run(rig: Rig) -> None:
    rig.kafka.create_topic(rig.topic)
    rig.produce([(1, {"id": 1})])
    assert dry_run(rig).exit_code == 0
    assert rig.sql("SELECT to_regnamespace('pycdc')") == [(None,)]
    assert rig.name not in {group.group_id for group in rig.kafka.admin().list_consumer_groups().result().valid}
    applied(rig, rig.document(), 1)
    before = rig.sql("SELECT *, xmin FROM pycdc.apply_offsets")
    rig.produce([(2, {"id": 2})])
    assert offsets(dry_run(rig, "--json")) == [1]
    assert rig.sql("SELECT *, xmin FROM pycdc.apply_offsets") == before


def test_it_goes_on_where_the_pipeline_would_or_from_the_first_record(rig: Rig) -> None:
    rig.kafka.create_topic(rig.topic)
    rig.produce([(n, {"id": n}) for n in range(3)])
    latest = rig.document(source={"start": "latest"})
    assert offsets(dry_run(rig, "--json", document=latest)) == []
    assert offsets(dry_run(rig, "--json", "--from", "earliest", document=latest)) == [0, 1, 2]
    assert offsets(dry_run(rig, "--json", "--limit", "2")) == [0, 1]
    applied(rig, rig.document(), 3)
    assert offsets(dry_run(rig, "--json")) == []
    assert offsets(dry_run(rig, "--json", "--from", "earliest")) == [0, 1, 2]
    rig.sql("UPDATE pycdc.apply_offsets SET next_offset = 9")
    gone = dry_run(rig, "--json")
    assert (gone.exit_code, "is not in the topic any more" in gone.stderr) == (3, True)


def test_records_that_cannot_be_applied_are_told_and_those_behind_them(rig: Rig) -> None:
    rig.kafka.create_topic(rig.topic)
    rig.produce([(1, {"id": 1, "unknown": 5}), (1, {"id": 1}), (2, {"id": 2}), (3, [1])])
    parking = rig.document(sink={"on_error": "park"})
    result = dry_run(rig, "--json", document=parking)
    *records, totals = lines(result)
    assert result.exit_code == 0
    assert totals == {"records": 4, "statements": 1, "problems": 2, "waiting": 1}
    assert "has no column unknown" in records[0]["problem"]
    assert [record["waits"] for record in records] == [False, True, False, False]
    stopping = dry_run(rig)
    assert stopping.exit_code == 1
    assert "offset 0: cannot be applied: table public.items has no column unknown" in stopping.stdout
    applied(rig, parking, 4)
    rig.produce([(1, {"id": 1})])
    (record, _) = lines(dry_run(rig, "--json", document=parking))
    assert record["waits"]


def test_values_are_left_out_on_request(rig: Rig) -> None:
    rig.kafka.create_topic(rig.topic)
    rig.produce([(424242, {"id": 424242, "name": "private"}), (424242, {"id": 424242, "quantity": "private"})])
    for options in (["--no-values"], ["--no-values", "--json"]):
        result = dry_run(rig, *options)
        assert "INSERT INTO" in result.stdout
        assert "private" not in result.output
        assert "424242" not in result.output


def test_it_ends_behind_transactions_that_were_rolled_back(rig: Rig) -> None:
    rig.kafka.create_topic(rig.topic)
    producer = Producer({"bootstrap.servers": rig.kafka.bootstrap, "transactional.id": rig.name})
    producer.init_transactions(10)
    for number, end in enumerate((producer.commit_transaction, producer.abort_transaction)):
        producer.begin_transaction()
        producer.produce(rig.topic, json.dumps({"id": number}).encode(), b"1")
        end(10)
    assert offsets(dry_run(rig, "--json")) == [0]
    applied(rig, rig.document(), 1)
    assert offsets(dry_run(rig, "--json")) == []


def test_a_pipeline_that_captures_is_told_what_to_do_instead(rig: Rig) -> None:
    document = {"name": rig.name, "source": {"postgres": {"dsn": rig.dsn}}, "sink": {"console": {}}}
    result = dry_run(rig, document=document)
    assert result.exit_code == 2
    assert "prints them" in result.stderr


def test_users_functions_are_called_and_what_they_fail_at_is_told(rig: Rig) -> None:
    rig.kafka.create_topic(rig.topic)
    rig.produce([(1, {"id": 1, "name": "cup"}), (2, {"id": 2, "name": "jug"})])
    functions = [f"tests.transforms.shop_functions:{name}" for name in ("fails_at_two", "upper")]
    result = dry_run(rig, "--json", document=rig.document(transforms=functions))
    first, second, _ = lines(result)
    assert first["statements"][0]["parameters"] == ['{"1"}', '{"CUP"}']
    assert "fails_at_two failed (KeyError" in second["problem"]
    assert "canary" not in result.output


def test_a_field_name_is_no_command_of_psql(rig: Rig) -> None:
    rig.kafka.create_topic(rig.topic)
    hostile = {"id": 2, "name": "\x1b]0;owned\x07\r\n\\! touch owned"}
    rig.produce([(1, {"id": 1, "x\n\\! touch owned\r\\q": 5}), (2, hostile)])
    result = dry_run(rig, document=rig.document(sink={"on_error": "park"}))
    printed = result.stdout.split("\n")
    assert [line for line in printed if line.lstrip().startswith("\\")] == []
    assert all(line.isprintable() for line in printed)
    with psycopg.connect(rig.dsn) as connection:
        connection.execute(result.stdout.replace("ROLLBACK;", "").encode())
        assert connection.execute("SELECT name FROM items").fetchall() == [(hostile["name"],)]
        connection.rollback()
