"""Transforms between real servers, in both directions."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from pycdc.build.apply import build_replay
from pycdc.config import validate
from tests.reverse.conftest import Rig
from tests.running import Running, TopicReader

pytestmark = pytest.mark.pg("newest")

HERE = "tests.transforms.shop_functions"


@pytest.fixture
def rig(database: str, kafka: Any, topic_prefix: str, tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(database, kafka, topic_prefix, tmp_path)
    yield rig
    rig.close()


def document(dsn: str, kafka: Any, registry: Any, name: str, *entries: Any) -> dict[str, Any]:
    return {
        "name": name,
        "source": {"postgres": {"dsn": dsn, "tables": ["public.users", "public.orders"]}},
        "sink": {"kafka": {"brokers": kafka.bootstrap, "registry": registry.url}},
        "transforms": list(entries),
        "checkpoint": {"interval": 0.05},
        "http": {"enabled": False},
    }


def test_what_a_function_fails_at_is_in_the_dead_letters_and_the_rest_in_its_topics(
    database: str, kafka: Any, registry: Any, topic_prefix: str
) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(b"CREATE TABLE users (id int PRIMARY KEY, name text)")
        connection.execute(b"CREATE TABLE orders (id int PRIMARY KEY, total numeric(8,2), note text)")
        connection.execute(b"INSERT INTO users VALUES (1, 'ada'), (2, 'bob')")
        entries = (
            {"function": f"{HERE}:fails_at_two", "on_error": "dead_letter"},
            {"function": f"{HERE}:upper", "tables": ["public.users"]},
        )
        with (
            closing(TopicReader(kafka.bootstrap, registry.url)) as reader,
            Running(document(database, kafka, registry, topic_prefix, *entries)) as pipeline,
        ):
            pipeline.until_streaming()
            connection.execute(b"INSERT INTO orders VALUES (1, 1.50, NULL), (2, 2.50, 'x'), (3, 3.50, 'y')")
            connection.execute(b"UPDATE users SET name = 'eve' WHERE id = 1")
            pipeline.until(lambda: len(list(reader.messages(f"{topic_prefix}.public.users"))) == 2)
            pipeline.until(lambda: len(list(reader.messages(f"{topic_prefix}.public.orders"))) == 2)
            users = reader.read(f"{topic_prefix}.public.users")
            dead = reader.read(f"{topic_prefix}.dead-letter")
            assert pipeline.pipeline.progress.dead_letters == {"public.users": 1, "public.orders": 1}
    assert [record.value["after"]["name"] for record in users] == ["ADA", "EVE"]
    assert [(record.key, record.value["after"]) for record in dead] == [
        ({"id": 2}, {"id": 2, "name": "bob"}),
        ({"id": 2}, {"id": 2, "total": dead[1].value["after"]["total"], "note": "x"}),
    ]
    assert dead[1].headers["__pycdc.table"] == b"public.orders"
    assert dead[1].headers["__pycdc.function"] == f"{HERE}:fails_at_two".encode()


def test_parts_have_keys_and_numbers_of_their_own(database: str, kafka: Any, registry: Any, topic_prefix: str) -> None:
    entry = {"function": f"{HERE}:twice", "tables": ["public.users"], "columns": {"line": "integer not null"}}
    settings = document(database, kafka, registry, topic_prefix, entry)
    settings["rules"] = [{"tables": "public.users", "key": ["id", "line"]}]
    topic = f"{topic_prefix}.public.users"
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(b"CREATE TABLE users (id int PRIMARY KEY, name text)")
        with closing(TopicReader(kafka.bootstrap, registry.url)) as reader, Running(settings) as pipeline:
            pipeline.until_streaming()
            connection.execute(b"INSERT INTO users VALUES (1, 'ada')")
            pipeline.until(lambda: len(list(reader.messages(topic))) == 2)
            first, second = reader.read(topic)
    assert (first.key, first.headers["__pycdc.part"]) == ({"id": 1, "line": 1}, b"0")
    assert (second.key, second.headers["__pycdc.part"]) == ({"id": 1, "line": 2}, b"1")
    assert first.value["source"]["lsn"] == second.value["source"]["lsn"]


def test_an_event_that_a_function_fails_at_is_parked_with_its_bytes_and_the_functions_name(rig: Rig) -> None:
    rig.kafka.create_topic(rig.topic)
    events = [(1, {"id": 1, "name": "cup"}), (2, {"id": 2, "name": "jug"}), (2, {"id": 2, "name": "later"})]
    rig.produce(events)
    entries = [{"function": f"{HERE}:fails_at_two", "topics": [rig.topic]}, f"{HERE}:upper"]
    process = rig.start(rig.document(sink={"on_error": "park"}, transforms=entries))
    rig.wait_for_offsets(3)
    process.stop()
    assert rig.sql("SELECT id, name FROM items") == [(1, "CUP")]
    parked = rig.sql('SELECT "offset", detail, value FROM pycdc.parked ORDER BY 1')
    assert [offset for offset, _, _ in parked] == [1, 2]
    assert f"function {HERE}:fails_at_two failed (KeyError in shop_functions.py" in parked[0][1]
    assert json.loads(bytes(parked[0][2])) == events[1][1]
    assert "jug" not in process.log
    corrected = rig.document(sink={"on_error": "park"}, transforms=[f"{HERE}:upper"])
    with build_replay(validate(corrected)) as replay:
        [waiting] = replay.waiting()
        assert replay.replay(waiting).applied == 2
    assert rig.sql("SELECT id, name FROM items ORDER BY id") == [(1, "CUP"), (2, "LATER")]


def test_an_event_that_was_split_is_written_whole_or_not_at_all(rig: Rig) -> None:
    """Its second part is refused by the table."""
    rig.kafka.create_topic(rig.topic)
    rig.produce([(1, {"id": 1, "name": "cup"}), (2, {"id": 2, "name": "jug"})])
    entry = {"function": f"{HERE}:second_part_is_refused"}
    process = rig.start(rig.document(sink={"on_error": "park"}, transforms=[entry]))
    rig.wait_for_offsets(2)
    process.stop()
    assert rig.sql("SELECT id FROM items ORDER BY id") == [(2,), (102,)]
    assert rig.sql('SELECT "offset" FROM pycdc.parked') == [(0,)]


def test_doctor_looks_at_functions_and_at_what_they_make_of_tables(database: str, tmp_path: Path) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(b"CREATE TABLE users (id int PRIMARY KEY, name text)")
    (tmp_path / "beside.py").write_text("def fine(change):\n    return change\n")
    settings = {
        "name": "shop",
        "source": {"postgres": {"dsn": database, "tables": ["public.users"]}},
        "sink": {"null": {"format": "json"}},
        "transforms": [
            "beside:fine",
            {"function": "beside:fine", "tables": ["public.users"], "drop": ["gone"]},
            {"function": "beside:fine", "tables": ["public.elsewhere"]},
        ],
    }
    found = doctor(tmp_path, settings)
    assert ("ok", "function beside:fine") in found
    assert (
        "failed",
        "transform beside:fine drops column 'gone' of table public.users, which has no such column",
    ) in found
    assert ("failed", "table public.elsewhere is not captured") in found
    settings["transforms"] = ["beside:missing", {"function": "beside:fine", "columns": {"a": "intger"}}]
    found = doctor(tmp_path, settings)
    assert ("failed", "transforms[0].function: module beside has no 'missing'") in found
    assert ("failed", "transforms[1].columns: the type of column 'a' is not known") in found


def doctor(folder: Path, settings: dict[str, Any]) -> list[tuple[str, str]]:
    (folder / "shop.yaml").write_text(yaml.safe_dump(settings))
    command = [sys.executable, "-m", "pycdc", "doctor", str(folder / "shop.yaml"), "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 3, done.stderr
    return [(finding["status"], finding["title"]) for finding in json.loads(done.stdout)["findings"]]
