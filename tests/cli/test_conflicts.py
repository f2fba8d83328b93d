"""`pycdc conflicts` on real servers."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from pycdc.config.postgres_sink import PostgresSinkConfig
from pycdc.operations.doctor.routes import conflict_findings
from pycdc.sinks.postgres.preflight import inspect_target
from tests.cli.conftest import Invoke
from tests.reading import wait_for
from tests.sinks.postgres.conflicts.test_resolver import LOCAL, TABLES, removal, update
from tests.sinks.postgres.rig import Process, Rig

pytestmark = pytest.mark.pg("!=17")

Command = Callable[..., Any]


@pytest.fixture
def rig(database: str) -> Iterator[Rig]:
    rig = Rig(database)
    rig.sql(TABLES)
    yield rig
    rig.close()


class Shop:
    """A pipeline, by hand and by the command."""

    def __init__(self, rig: Rig, folder: Path, invoke: Invoke, **rule: Any) -> None:
        self.rig, self._invoke = rig, invoke
        routes = [{"topic": "items", "table": "items", **({"conflict": rule} if rule else {})}]
        sink = {"dsn": rig.dsn, "routes": routes, "on_error": "park"}
        source = {"brokers": "127.0.0.1:1", "topics": ["items"], "format": "json"}
        self.path = folder / "back.yaml"
        self.path.write_text(yaml.safe_dump({"name": "back", "source": {"kafka": source}, "sink": {"postgres": sink}}))
        self.process: Process = rig.process(*routes, on_error="park")

    def __call__(self, command: str, *arguments: Any, code: int = 0) -> str:
        done = self._invoke("conflicts", command, str(self.path), *map(str, arguments))
        assert done.exit_code == code, done.output
        return str(done.output)

    def json(self, command: str, *arguments: Any, code: int = 0) -> Any:
        return json.loads(self(command, *arguments, "--json", code=code))

    def names(self) -> list[Any]:
        return self.rig.sql("SELECT id, name FROM items ORDER BY id")


@pytest.fixture
def shop(rig: Rig, tmp_path: Path, invoke: Invoke) -> Callable[..., Shop]:
    return lambda **rule: Shop(rig, tmp_path, invoke, **rule)


def test_conflicts_are_listed_and_shown(shop: Callable[..., Shop]) -> None:
    back = shop()
    assert back("list") == "no conflicts\n"
    row = {"id": 1, "name": "cup", "price": "1.50"}
    back.process.apply(update(None, row), removal({"id": 9}))
    back.rig.sql(LOCAL)
    back.process.apply(update(row, {"name": "pot", "price": "2.25"}))
    listed = back("list").splitlines()
    assert 'update_origin_differs  apply_remote public.items {"id": 1}' in listed[0]
    assert 'delete_missing         ignored      public.items {"id": "9"}' in listed[1]
    assert [
        found["kind"] for found in back.json("list", "--table", "items", "--kind", "delete_missing")["conflicts"]
    ] == ["delete_missing"]
    assert back.json("list", "--table", "other") == {"conflicts": [], "parked": []}
    assert back("list", "--open") == "no conflicts\n"
    number = back.json("list")["conflicts"][0]["id"]
    text = back("show", number)
    assert "current_origin        an application" in text
    assert "record                items[0]@2" in text
    assert ["name", '"cup"', '"local"', '"pot"'] in [line.split() for line in text.splitlines()]
    found = back.json("show", number)
    assert (found["current"]["price"], found["incoming"]["price"]) == (9.0, 2.25)
    assert "there is no conflict 99" in back("show", 99, code=5)


@pytest.mark.parametrize(("side", "name"), [("incoming", "pot"), ("existing", "local")])
def test_a_parked_conflict_is_resolved_and_its_followers_come_after_it(
    shop: Callable[..., Shop], side: str, name: str
) -> None:
    back = shop(default="park")
    row = {"id": 1, "name": "cup"}
    back.process.apply(update(None, row), {"id": 2, "name": "jug"})
    back.rig.sql(LOCAL)
    back.process.apply(update(row, {"name": "pot"}), (1, {"id": 1, "quantity": 4}), {"id": 2, "name": "pan"})
    ((number, place),) = [(f["id"], f"items[0]@{f['offset']}") for f in back.json("list", "--open")["conflicts"]]
    assert [f["error"] for f in back.json("list")["parked"]] == ["Conflict", "Follower"]
    assert "park" in back("replay", place, code=1), "it is a conflict still"
    assert "applied 2 events" in back("resolve", number, "--with", side)
    assert back.names() == [(1, name), (2, "pan")]
    assert back.rig.sql("SELECT quantity FROM items WHERE id = 1") == [(4,)]
    assert back.json("list", "--open") == {"conflicts": [], "parked": []}
    assert "was resolved before" in back("resolve", number, "--with", side, code=5)
    back.process.apply({"id": 1, "name": "tin"})
    assert back.names()[0] == (1, "tin"), "the running process lets the key go on"


def test_what_was_decided_can_be_decided_otherwise(shop: Callable[..., Shop]) -> None:
    back = shop(default="apply_remote")
    row = {"id": 1, "name": "cup", "price": "1.5", "doc": {"a": [1.5]}}
    back.process.apply(update(None, row), {"id": 2, "name": "jug"})
    back.rig.sql(f"{LOCAL}; UPDATE items SET name = 'm', doc = '{{\"big\": 12345678901234567890.123}}' WHERE id = 2")
    back.process.apply(update(row, {"name": "pot"}), removal({"id": 2, "name": "jug"}))
    assert back.names() == [(1, "pot")]
    removed, changed = (found["id"] for found in back.json("list")["conflicts"])
    for number in (removed, changed):
        assert f"resolved {number} with existing" in back("resolve", number, "--with", "existing")
    assert back.names() == [(1, "local"), (2, "m")]
    assert back.rig.sql("SELECT price, doc::text FROM items ORDER BY id")[1][1] == '{"big": 12345678901234567890.123}'
    assert {found["resolution"] for found in back.json("list")["conflicts"]} == {"existing"}


@pytest.mark.parametrize("kind", ["json", "jsonb"])
def test_a_document_of_an_event_that_lost_within_its_batch_is_written_as_a_document(
    shop: Callable[..., Shop], kind: str
) -> None:
    back = shop(default="version", version="version")
    back.rig.sql(f"ALTER TABLE items ALTER doc TYPE {kind} USING NULL")
    back = shop(default="version", version="version")
    lost = b'{"id": 1, "version": 4, "name": "1", "doc": {"a": [1, "2"], "big": 12345678901234567890.5}}'
    back.process.apply({"id": 1, "version": 5, "doc": {"b": 1}}, (1, lost))
    (found,) = back.json("list")["conflicts"]
    assert found["kind"] == "update_stale"
    assert f"resolved {found['id']} with incoming" in back("resolve", found["id"], "--with", "incoming")
    assert back.rig.sql("SELECT name, doc ->> 'a', doc ->> 'big' FROM items") == [
        ("1", '[1, "2"]', "12345678901234567890.5")
    ]


def test_what_is_parked_is_replayed_when_the_table_takes_it(shop: Callable[..., Shop]) -> None:
    back = shop()
    back.rig.sql("ALTER TABLE items ADD CHECK (quantity < 5)")
    back.process.apply({"id": 1, "quantity": 7}, {"id": 1, "name": "pot"}, ("a b", b"{"), {"id": 3, "quantity": 9})
    assert "CheckViolation" in back("replay", "--all", code=1)
    back.rig.sql("ALTER TABLE items DROP CONSTRAINT items_quantity_check")
    assert back.json("replay", "--key", "1") == [
        {"topic": "items", "partition": 0, "key": "1", "applied": 2, "left": 0, "reason": None}
    ]
    assert back.json("replay", "items[0]@3")[0]["applied"] == 1
    assert back.rig.sql("SELECT id, name, quantity FROM items ORDER BY id") == [(1, "pot", 7), (3, None, 9)]
    (left,) = back.json("replay", "--all", code=1)
    assert (left["key"], left["left"]) == ('"a b"', 1)
    assert left["reason"].startswith("the record is not JSON")
    assert "not parked" in back("replay", "items[0]@0", code=5)
    assert back("replay", "--key", "1") == "nothing is parked\n"
    assert "EVENT" in back("replay", code=2)


def test_a_follower_that_is_being_parked_is_waited_for(shop: Callable[..., Shop]) -> None:
    """Else its key would stay blocked by an event that nobody knows to be there."""
    back = shop()
    back.rig.sql("ALTER TABLE items ADD CHECK (quantity < 5)")
    back.process.apply({"id": 1, "quantity": 7}, {"id": 1, "name": "pot"})
    back.rig.sql("ALTER TABLE items DROP CONSTRAINT items_quantity_check")
    rows = 'SELECT * FROM pycdc.parked WHERE "offset" = 1'
    back.rig.sql(f'CREATE TABLE late AS {rows}; DELETE FROM pycdc.parked WHERE "offset" = 1')
    with psycopg.connect(back.rig.dsn) as running:
        running.execute("UPDATE pycdc.apply_offsets SET applied_at = now(); INSERT INTO pycdc.parked TABLE late")
        outputs: list[str] = []
        command = threading.Thread(target=lambda: outputs.append(back("replay", "--all")))
        command.start()
        wait_for(lambda: back.rig.sql("SELECT count(*) FROM pg_locks WHERE NOT granted") != [(0,)])
    command.join(120)
    assert "applied 2 events" in outputs[0]
    assert back.rig.sql("SELECT name, quantity FROM items") == [("pot", 7)]


# doctor.


def diagnosis(dsn: str, *routes: dict[str, Any]) -> list[tuple[str, str, str]]:
    sink = PostgresSinkConfig.model_validate(
        {"dsn": dsn, "routes": [{"topic": "t", "table": "items", **r} for r in routes]}
    )
    facts = inspect_target(sink, "back").conflicts
    return [(finding.status.value, finding.title, finding.fix) for finding in conflict_findings(facts)]


def test_doctor_says_whether_conflicts_are_seen(rig: Rig, postgres: Any) -> None:
    assert diagnosis(rig.dsn, {}) == [("ok", "conflicts are seen by the last writer of a row", "")]
    assert diagnosis(rig.dsn, {"conflict": {"default": "version", "version": "version"}}) == []
    role = f"doctor_{postgres.major}"
    rig.sql(f"CREATE ROLE {role} LOGIN")
    try:
        dsn = postgres.dsn(psycopg.conninfo.conninfo_to_dict(rig.dsn)["dbname"], user=role)
        ((status, title, fix),) = diagnosis(dsn, {})
        assert (status, f"role {role} may set no replication origin" in title) == ("warning", True)
        ((status, title, _),) = diagnosis(dsn, {"conflict": "keep_local"})
        assert (status, "its conflicts are not seen" in title) == ("failed", True)
        rig.sql(fix)
        assert diagnosis(dsn, {"conflict": "keep_local"})[0][0] == "ok"
    finally:
        rig.sql(f"DROP OWNED BY {role}; DROP ROLE {role}")


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"default": "version", "version": "name"}, "neither a number nor a time"),
        ({"default": "python", "function": "nowhere:decide"}, "cannot be imported"),
    ],
)
def test_doctor_tells_rules_that_cannot_be_kept(rig: Rig, rule: Any, words: str) -> None:
    ((status, title, _),) = diagnosis(rig.dsn, {"conflict": rule})
    assert (status, words in title) == ("failed", True)


@pytest.mark.pg("newest")
def test_doctor_asks_for_commit_timestamps_and_without_them_the_default_runs(rig: Rig, postgres: Any) -> None:
    rig.connection.close()
    postgres.configure(track_commit_timestamp="off")
    ((status, title, fix),) = diagnosis(rig.dsn, {})
    assert (status, "track_commit_timestamp is off" in title) == ("warning", True)
    assert "track_commit_timestamp = on" in fix
    again = Rig(rig.dsn)
    process = again.process()
    process.apply({"id": 1, "name": "cup"}, removal({"id": 2}))
    assert again.sql("SELECT kind FROM pycdc.conflicts") == [("delete_missing",)]
    again.close()


def test_a_pipeline_that_captures_meets_none(tmp_path: Path, invoke: Invoke, database: str) -> None:
    path = tmp_path / "capture.yaml"
    path.write_text(f"name: a\nsource: {{postgres: {{dsn: '{database}', tables: ['*.*']}}}}\nsink: {{console: {{}}}}\n")
    done = invoke("conflicts", "list", str(path))
    assert (done.exit_code, "does not write into Postgres" in done.output) == (2, True)
