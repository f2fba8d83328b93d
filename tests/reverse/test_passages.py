"""Changes that pycdc wrote and a capture passes on: who may take them, and where they end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import psycopg
import pytest

import pycdc
from tests.reading import Reader, wait_for
from tests.reverse.conftest import Rig
from tests.running import Running

pytestmark = pytest.mark.pg("newest")

HTTP = {"enabled": False}


@pytest.fixture
def third(postgres: Any) -> Iterator[str]:
    dsn = postgres.create_database()
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE items (id int PRIMARY KEY, name text, quantity bigint NOT NULL DEFAULT 0)")
    yield dsn
    postgres.drop_database(dsn)


def rows(dsn: str) -> list[Any]:
    with psycopg.connect(dsn) as connection:
        return connection.execute("SELECT id, name FROM items ORDER BY id").fetchall()


@pytest.mark.slow
def test_what_is_passed_on_is_marked_and_taken_only_by_those_who_say_how_far(
    rig: Rig, third: str, registry: Any, topic_prefix: str
) -> None:
    """From a topic into one database, through its capture, and into another."""
    brokers = {"brokers": rig.kafka.bootstrap, "registry": registry.url}
    passed = f"{topic_prefix}b.public.items"
    rig.kafka.create_topic(rig.topic)
    rig.kafka.create_topic(passed)
    capture = {
        "name": f"{topic_prefix}b",
        "source": {"postgres": {"dsn": rig.dsn, "tables": ["public.items"], "skip_origins": []}},
        "sink": {"kafka": brokers},
        "http": HTTP,
    }

    def onward(name: str, dsn: str, loops: dict[str, Any]) -> dict[str, Any]:
        sink = {"dsn": dsn, "routes": [{"topic": passed, "table": "items"}], "loops": loops}
        source = {"kafka": {**brokers, "topics": [passed]}}
        return {"name": f"{topic_prefix}-{name}", "source": source, "sink": {"postgres": sink}, "http": HTTP}

    with ExitStack() as stack:
        stack.enter_context(Running(capture)).until_streaming()
        stack.enter_context(Running(rig.document()))
        rig.produce([(1, {"id": 1, "name": "carried"})])
        wait_for(lambda: rows(rig.dsn) == [(1, "carried")])
        with psycopg.connect(rig.dsn) as connection:
            connection.execute("INSERT INTO items VALUES (2, 'own')")
        cautious = stack.enter_context(Running(onward("cautious", third, {}))).pipeline
        wait_for(lambda: rows(third) == [(2, "own")])
        assert cautious.progress.skipped == {(passed, "loop"): 1}
        loops = {"max_hops": 9, "refuse_origins": [rig.name]}
        back = stack.enter_context(Running(onward("back", rig.dsn, loops))).pipeline
        # The one that was carried in, and its own write of the other, which the capture passes on once more.
        wait_for(lambda: back.progress.skipped == {(passed, "loop"): 2})
        stack.enter_context(Running(onward("far", third, {"max_hops": 2})))
        wait_for(lambda: rows(third) == [(1, "carried"), (2, "own")])
    reader = Reader(rig.kafka.bootstrap, registry.url)
    headers = [dict(record.headers) for record in reader.read(passed)]
    reader.close()
    assert headers[:2] == [{"pycdc.origin": rig.name.encode(), "pycdc.hops": b"1"}, {}]


def test_by_tables_what_triggers_write_elsewhere_is_captured(rig: Rig) -> None:
    rig.kafka.create_topic(rig.topic)
    rig.sql(
        "CREATE TABLE audit (id serial PRIMARY KEY, what text);"
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN INSERT INTO public.audit (what) VALUES (NEW.name); RETURN NEW; END';"
        "CREATE TRIGGER t AFTER INSERT ON items FOR EACH ROW EXECUTE FUNCTION f()"
    )
    tables = ["public.items", "public.audit"]
    changes = pycdc.capture(rig.dsn, tables, name=rig.name, skip_scope="tables", idle=True)
    assert next(changes) is None, "the slot is there"
    with Running(rig.document()):
        rig.produce([(1, {"id": 1, "name": "carried"})])
        rig.wait_for_offsets(1)
    rig.sql("INSERT INTO items VALUES (2, 'own')")
    seen: list[Any] = []
    while len(seen) < 3:
        seen += [(str(change.table), change.after) for change in [next(changes)] if change is not None]
    changes.close()
    rig.sql(f"SELECT pg_drop_replication_slot('pycdc_{rig.name}')")
    assert [(table, after["what"] if table == "public.audit" else after["name"]) for table, after in seen] == [
        ("public.audit", "carried"),
        ("public.items", "own"),
        ("public.audit", "own"),
    ]
