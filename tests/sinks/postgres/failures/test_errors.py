"""One record never stops the rest: whatever it makes the database, the driver or Python raise is its own fault."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql

from pycdc.clients.postgres import Client
from pycdc.clients.postgres_errors import target_error
from pycdc.errors import ApplyError, ConnectionLost, PycdcError
from pycdc.sinks.postgres.failures.errors import FaultKind, fault
from pycdc.sinks.postgres.schema_drift import KnownTables
from tests.reading import wait_for
from tests.sinks.postgres.rig import TABLES, Rig

pytestmark = pytest.mark.pg("newest")


@pytest.fixture
def rig(database: str) -> Iterator[Rig]:
    rig = Rig(database)
    rig.sql(TABLES)
    yield rig
    rig.close()


def trigger(rig: Rig, body: str, language: str = "plpgsql") -> None:
    """One that acts on the row whose id is 2."""
    rig.sql(
        f"CREATE FUNCTION act() RETURNS trigger LANGUAGE {language} AS $act$ BEGIN IF NEW.id = 2 THEN {body} END IF; "
        "RETURN NEW; END $act$; CREATE TRIGGER act BEFORE INSERT ON items FOR EACH ROW EXECUTE FUNCTION act()"
    )


def only_the_second_is_parked(rig: Rig, **options: Any) -> tuple[str, str | None]:
    """Three records: what was the second's error?"""
    taken = rig.process(on_error="park", **options).apply({"id": 1}, {"id": 2}, {"id": 3})
    assert taken is None
    assert rig.sql("SELECT id FROM items ORDER BY 1") == [(1,), (3,)]
    [found] = rig.sql('SELECT "offset", error, sqlstate FROM pycdc.parked')
    assert found[0] == 1
    return found[1], found[2]


STATES = [
    "45000",
    "55000",
    "54000",
    "42501",
    "27000",
    "P0001",
    "22012",
    "23514",
    "0A000",
    "42P01",
    "38000",
    "U0001",
    "2F005",
    "28000",
    "25001",
    "XX000",
    "3F000",
    "26000",
    "40001",
    "55P03",
    "57014",
    "08006",
    "25006",
    "53100",
    "57P01",
    "58030",
]


def test_whatever_code_a_trigger_raises_is_its_rows_fault(rig: Rig) -> None:
    rig.sql(
        "CREATE FUNCTION act() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN IF NEW.id > 0 THEN RAISE EXCEPTION 'no' USING ERRCODE = NEW.name; END IF; RETURN NEW; END $$; "
        "CREATE TRIGGER act BEFORE INSERT ON items FOR EACH ROW EXECUTE FUNCTION act()"
    )
    process = rig.process(on_error="park", max_attempts=2)
    poison = [{"id": number, "name": state} for number, state in enumerate(STATES, 1)]
    assert process.apply({"id": -1}, *poison, {"id": -2}) is None
    assert rig.sql("SELECT id FROM items ORDER BY 1") == [(-2,), (-1,)]
    assert rig.sql('SELECT sqlstate FROM pycdc.parked ORDER BY "offset"') == [(state,) for state in STATES]


@pytest.mark.parametrize(
    ("body", "state"),
    [
        ("PERFORM 1 FROM missing;", "42P01"),
        ("PERFORM missing(1);", "42883"),
        ("UPDATE items SET missing = 1;", "42703"),
        ("EXECUTE 'SELEC';", "42601"),
        ("PERFORM currval('lines_id_seq');", "55000"),
        ("PERFORM repeat('x', 2000000000);", "54000"),
        ("COMMIT;", "2D000"),
        ("ASSERT false;", "P0004"),
    ],
)
def test_what_happens_within_a_trigger_is_its_rows_fault(rig: Rig, body: str, state: str) -> None:
    trigger(rig, body)
    _, told = only_the_second_is_parked(rig)
    assert told is not None
    assert told == state or state == "54000"


def test_a_value_that_an_index_cannot_hold_is_parked(rig: Rig) -> None:
    rig.sql("ALTER TABLE items ALTER COLUMN name TYPE text; CREATE INDEX ON items (name)")
    long = random.Random(1).randbytes(10_000).hex()
    process = rig.process(on_error="park")
    assert process.apply({"id": 1, "name": "a"}, {"id": 2, "name": long}, {"id": 3, "name": "c"}) is None
    assert rig.sql("SELECT id FROM items ORDER BY 1") == [(1,), (3,)]
    assert rig.sql("SELECT sqlstate FROM pycdc.parked") == [("54000",)]


def test_a_row_that_a_policy_refuses_is_a_row_and_a_missing_right_is_the_configuration(rig: Rig) -> None:
    rig.sql("DROP ROLE IF EXISTS pycdc_applier; CREATE ROLE pycdc_applier LOGIN")
    rig.sql("GRANT SELECT, INSERT ON items TO pycdc_applier")
    rig.sql("ALTER TABLE items ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON items USING (true) WITH CHECK (id <> 2)")
    try:
        with psycopg.connect(rig.dsn, options="-c role=pycdc_applier", autocommit=True) as connection:
            with pytest.raises(psycopg.errors.InsufficientPrivilege) as met:
                connection.execute("INSERT INTO items (id) VALUES (2)")
            assert fault(met.value, connection) is FaultKind.ROW
            with pytest.raises(psycopg.errors.InsufficientPrivilege) as met:
                connection.execute("DELETE FROM items")
            assert fault(met.value, connection) is FaultKind.OTHER
            assert "GRANT" in target_error(met.value).hint
    finally:
        rig.sql("DROP OWNED BY pycdc_applier; DROP ROLE pycdc_applier")


@pytest.mark.parametrize(
    "value",
    [
        {"id": 2, "tags": ["a\0b"]},
        {"id": 2, "name": "\0"},
        {"id": 2, "tags": [["a"], ["b", "\0"]]},
        {"id": 2, "doc": {"a": "\0"}},
        json.dumps({"id": 2, "name": "x"}).replace("x", r"\ud83d").encode(),
        json.dumps({"id": 2, "tags": ["x"]}).replace("x", r"\udc00").encode(),
        json.dumps({"id": 2, "doc": {"x": 1}}).replace("x", r"\ud83d").encode(),
        json.dumps({"id": 2, "email": "y"}).replace("y", r"\u0000").encode(),
        b'{"id": 2, "quantity": 1e400}',
        b'{"id": 2, "quantity": ' + b"9" * 5000 + b"}",
        b'{"id": 2, "doc": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"id": 2, "doc": ' + b'{"a":' * 30_000 + b"1" + b"}" * 30_000 + b"}",
        b'{"id": 2, "tags": {"a": 1}}',
        b"\xff\xfe\x00",
        b"[1]",
        b"",
    ],
    ids=range(16),
)
def test_a_value_that_cannot_be_sent_is_parked_alone(rig: Rig, value: Any) -> None:
    process = rig.process(on_error="park")
    assert process.feed(("items", 1, {"id": 1}), ("items", 2, value), ("items", 3, {"id": 3})) is None
    assert rig.sql("SELECT id FROM items ORDER BY 1") == [(1,), (3,)]
    assert rig.sql('SELECT "offset" FROM pycdc.parked') == [(1,)]


def test_where_errors_stop_the_record_is_named_and_no_value(rig: Rig) -> None:
    process = rig.process()
    with pytest.raises(ApplyError, match=r"items\[0\] offset 1 cannot be applied") as met:
        process.feed(("items", 1, {"id": 1}), ("items", 2, {"id": 2, "tags": ["secret\0"]}), ("items", 3, {"id": 3}))
    assert "secret" not in f"{met.value!r} {met.value}"
    assert rig.sql("SELECT id FROM items") == [(1,)]


def test_strange_names_of_headers_park_their_record_and_any_bytes_are_an_id_of_the_inbox(rig: Rig) -> None:
    process = rig.process(on_error="park", inbox={})
    headers = [(("id", b"1"),), (("id", b"a\0b"),), (("id", b"3"), ("a\0b\ud800", b"x"))]
    values: list[Any] = [{"id": 1}, {"id": 2}, {"id": 3, "name": "far too long"}]
    assert process.feed(*(("items", v["id"], v, own) for v, own in zip(values, headers, strict=True))) is None
    assert rig.sql("SELECT id FROM items") == [(1,), (2,)]
    assert rig.sql('SELECT "offset", header_names FROM pycdc.parked') == [(2, ["id", r"a\x00b\ud800"])]


def test_names_with_a_percent_sign_are_only_names(rig: Rig) -> None:
    rig.sql('CREATE TABLE "50% off" (id int PRIMARY KEY, "%s" int, "a%(x)s" text, "100%" int DEFAULT 0)')
    delta = {"key": {"id": "id"}, "operation": "delta", "delta": {"100%": "more"}, "when": {"kind": "add"}}
    routes = [
        {"topic": "items", "table": "50% off", "when": {"kind": "row"}, "set": {"%s": "n", "a%(x)s": "t"}},
        {"topic": "items", "table": "50% off", **delta},
    ]
    process = rig.process(*routes)
    process.apply({"kind": "row", "id": 1, "n": 5, "t": "x"})
    process.apply({"kind": "add", "id": 1, "more": 2})
    process.apply({"kind": "row", "id": 1, "n": 6, "t": "%s"})
    assert rig.sql('SELECT * FROM "50% off"') == [(1, 6, "%s", 2)]


def test_a_record_that_hangs_is_bounded_and_parked_in_the_end(rig: Rig) -> None:
    trigger(rig, "PERFORM pg_sleep(60);")
    known = KnownTables()
    options: dict[str, Any] = {"on_error": "park", "max_transaction_seconds": 0.3, "known": known}
    for _ in range(3):
        process = rig.process(**options)
        with pytest.raises(ConnectionLost, match="offset 1 takes longer"):
            process.apply({"id": 1}, {"id": 2}, {"id": 3})
        known.most = 1
        rig.sql("DELETE FROM items")
        rig.sql("UPDATE pycdc.apply_offsets SET next_offset = 0")
    assert rig.process(**options).apply({"id": 1}, {"id": 2}, {"id": 3}) is None
    assert rig.sql("SELECT id FROM items ORDER BY 1") == [(1,), (3,)]


def test_a_statement_that_hangs_hears_a_stop(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pycdc.clients.postgres.STOP_GRACE", 0.2)
    trigger(rig, "PERFORM pg_sleep(60);")
    stopping = threading.Event()
    process = rig.process(stopping=stopping)
    thrown: list[PycdcError] = []

    def run() -> None:
        try:
            process.apply({"id": 2})
        except PycdcError as error:
            thrown.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    wait_for(lambda: rig.sql("SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'") == [(1,)])
    stopping.set()
    thread.join(120)
    assert not thread.is_alive()
    assert type(thrown[0]) is ConnectionLost
    wait_for(lambda: rig.sql("SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'") == [])


def test_a_column_that_was_widened_or_added_is_noticed_before_anything_is_parked(rig: Rig) -> None:
    process = rig.process(on_error="park")
    process.apply({"id": 1, "name": "short"})
    rig.sql("ALTER TABLE items ALTER COLUMN quantity TYPE bigint")
    assert process.apply({"id": 2, "quantity": 5_000_000_000}) is None
    rig.sql("ALTER TABLE items ADD COLUMN colour text")
    assert process.apply({"id": 3, "colour": "red"}) is None
    assert rig.sql("SELECT id, quantity, colour FROM items ORDER BY 1") == [
        (1, 0, None),
        (2, 5_000_000_000, None),
        (3, 0, "red"),
    ]
    assert rig.sql("SELECT count(*) FROM pycdc.parked") == [(0,)]


MUCH = "PERFORM i FROM generate_series(1, 100000) i ORDER BY md5(i::text)"


@pytest.mark.parametrize(
    ("setting", "body", "state"),
    [
        ("default_transaction_read_only = on", "CREATE TABLE more ()", "25006"),
        ("temp_file_limit = '1kB'", MUCH, "53400"),
        ("temp_file_limit = '1kB'", f"{MUCH}; EXCEPTION WHEN OTHERS THEN RAISE", "53400"),
    ],
)
def test_an_outage_is_nobodys_fault(rig: Rig, setting: str, body: str, state: str) -> None:
    with psycopg.connect(rig.dsn, autocommit=True) as connection:
        connection.execute(f"SET {setting}; SET work_mem = '64kB'".encode())
        with pytest.raises(psycopg.Error) as met:
            connection.execute(f"DO $$ BEGIN {body}; END $$".encode())
        assert met.value.sqlstate == state
        for lasting in (False, True):
            assert fault(met.value, connection, lasting=lasting) is FaultKind.OTHER


@pytest.mark.parametrize("state", ["08006", "53200", "57P02", "57P03"])
def test_an_outage_that_a_trigger_tells_of_on_and_on_is_its_rows_fault(rig: Rig, state: str) -> None:
    with psycopg.connect(rig.dsn, autocommit=True) as connection:
        body = sql.SQL("DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = {}; END $$").format(sql.Literal(state))
        with pytest.raises(psycopg.Error) as met:
            connection.execute(body)
        assert fault(met.value, connection) is FaultKind.AGAIN
        assert fault(met.value, connection, lasting=True) is FaultKind.ROW
        connection.close()
        assert fault(met.value, connection, lasting=True) is FaultKind.OTHER


def test_a_connection_that_broke_is_an_outage_whatever_was_said(rig: Rig) -> None:
    with psycopg.connect(rig.dsn, autocommit=True) as connection:
        with pytest.raises(psycopg.Error) as met:
            connection.execute("SELECT 1 / 0")
        assert fault(met.value, connection) is FaultKind.ROW
        assert fault(psycopg.DataError("a NUL"), connection) is FaultKind.ROW
        assert fault(psycopg.OperationalError("sending query and params failed"), connection) is FaultKind.ROW
        assert fault(MemoryError(), connection) is FaultKind.OTHER
        connection.close()
        assert fault(met.value, connection) is FaultKind.OTHER
        assert fault(psycopg.OperationalError("server closed the connection"), connection) is FaultKind.OTHER


def test_a_call_has_a_limit(rig: Rig) -> None:
    connection = Client.connect(rig.dsn, autocommit=True)
    connection.seconds = 0.3
    began = time.monotonic()
    with pytest.raises(psycopg.OperationalError, match="no answer within"):
        connection.execute("SELECT pg_sleep(60)")
    assert time.monotonic() - began < 30
    assert connection.closed
