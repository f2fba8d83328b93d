"""Columns, keys and names on real servers: what is delivered, the same in snapshot and stream, and what is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from decimal import Decimal
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import psycopg
import pytest

import pycdc
from pycdc.errors import ConfigError
from tests.running import Running
from tests.services import matrix
from tests.services.postgres import VARIABLE, PostgresServer, database_name
from tests.test_golden import config_for, record_until

CANARY = "canary@example.org"


def run_sql(dsn: str, *statements: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def both_ways(dsn: str, table: str, stream: str, **options: Any) -> list[Any]:
    """Records of the rows that were there, then of what the statement adds."""
    config = config_for(dsn, "shop", "initial", **options)
    left = [stream]

    def delivered(records: list[Any]) -> bool:
        if records and left:
            run_sql(dsn, left.pop())
        return len(records) >= 2

    records = record_until(config, dsn, None, delivered)
    return [record for record in records if record.topic.endswith(table)]


@pytest.mark.pg(">=18")
@pytest.mark.parametrize(
    "publish",
    [
        "CREATE PUBLICATION pycdc_shop FOR TABLE g WITH (publish_generated_columns = stored)",
        "CREATE PUBLICATION pycdc_shop FOR TABLE g (id, v, low)",
        "CREATE PUBLICATION pycdc_shop FOR TABLE g (id, low)",
        "CREATE PUBLICATION pycdc_shop FOR TABLE g",
    ],
)
def test_a_snapshot_has_the_generated_columns_that_the_stream_has(database: str, publish: str) -> None:
    run_sql(
        database,
        "CREATE TABLE g (id int PRIMARY KEY, v text, low text GENERATED ALWAYS AS (lower(v)) STORED,"
        " up text GENERATED ALWAYS AS (upper(v)) VIRTUAL)",
        publish,
        "INSERT INTO g VALUES (1, 'Ab')",
    )
    first, second = both_ways(database, "g", "INSERT INTO g VALUES (2, 'Ab')")
    assert first.value_schema == second.value_schema
    assert {**first.value["after"], "id": 2} == second.value["after"]


@pytest.mark.pg("newest")
@pytest.mark.parametrize(
    "table",
    [
        "k (raw text, k text GENERATED ALWAYS AS (lower(raw)) STORED PRIMARY KEY)",
        "k (a int, raw text, k text GENERATED ALWAYS AS (lower(raw)) STORED, PRIMARY KEY (a, k))",
    ],
)
def test_a_key_that_replication_does_not_send_is_refused_at_the_start(database: str, table: str) -> None:
    run_sql(database, f"CREATE TABLE {table}")
    document = {"name": "shop", "source": {"postgres": {"dsn": database, "tables": ["*"]}}, "sink": {"null": {}}}
    with Running(document) as pipeline:
        error = pipeline.failure()
    assert isinstance(error, ConfigError)
    assert "key column 'k' of table public.k" in error.fact
    assert "rules[].key" in error.hint
    rules = [{"tables": "public.k", "key": ["raw"]}]
    with Running({**document, "rules": rules}) as pipeline:
        pipeline.until_streaming()


@pytest.mark.pg(">=15")
@pytest.mark.pg("newest")
def test_a_key_that_the_column_list_leaves_out_is_refused_at_the_start(database: str) -> None:
    run_sql(
        database,
        "CREATE TABLE k (a int, b int, v text, PRIMARY KEY (a, b))",
        "CREATE PUBLICATION pycdc_shop FOR TABLE k (a, v) WITH (publish = 'insert')",
    )
    with Running(
        {"name": "shop", "source": {"postgres": {"dsn": database, "tables": ["*"]}}, "sink": {"null": {}}}
    ) as pipeline:
        assert "key column 'b' of table public.k" in pipeline.failure().fact


@pytest.mark.pg("newest")
def test_tables_of_one_topic_are_refused_at_the_start_and_left_out_when_they_join(database: str) -> None:
    run_sql(database, 'CREATE TABLE "a b" (id int PRIMARY KEY)', "CREATE TABLE other (id int PRIMARY KEY)")
    source = {"postgres": {"dsn": database, "tables": ["*"], "publication_check": 0.1}}
    document = {"name": "shop", "source": source, "sink": {"null": {}}}
    published = "SELECT tablename::text FROM pg_publication_tables ORDER BY 1"
    with Running(document) as pipeline, psycopg.connect(database, autocommit=True) as connection:
        pipeline.until_streaming()
        connection.execute("CREATE TABLE a_b (id int PRIMARY KEY)")
        connection.execute("CREATE TABLE later (id int PRIMARY KEY)")
        pipeline.until(lambda: ("later",) in connection.execute(published).fetchall())
        assert connection.execute(published).fetchall() == [("a b",), ("later",), ("other",)]
        connection.execute("INSERT INTO later VALUES (1)")
        pipeline.until(lambda: ("public.later", "c") in pipeline.pipeline.progress.operations)
    with Running({**document, "name": "shop2"}) as pipeline:
        assert "shop2.public.a_b" in pipeline.failure().fact


@pytest.mark.pg(">=17")
@pytest.mark.pg("newest")
@pytest.mark.parametrize("text", ["infinity", "-infinity"])
def test_an_interval_without_an_end_is_null_where_that_is_asked_for(database: str, text: str) -> None:
    run_sql(database, "CREATE TABLE i (id int PRIMARY KEY, v interval)", f"INSERT INTO i VALUES (1, '{text}')")
    records = both_ways(database, "i", f"INSERT INTO i VALUES (2, '{text}')", compatibility={"unrepresentable": "null"})
    assert [record.value["after"]["v"] for record in records] == [None, None]
    with pytest.raises(pycdc.ConversionError, match=r"column 'v' of table public\.i"):
        both_ways(database, "i", "SELECT 1")


@pytest.mark.pg("newest")
def test_rules_hold_for_programs_that_iterate_and_for_the_console(
    database: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run_sql(
        database,
        "CREATE TABLE p (id int PRIMARY KEY, mail text, note text)",
        "ALTER TABLE p REPLICA IDENTITY FULL",
        f"INSERT INTO p VALUES (1, '{CANARY}', '{CANARY}')",
    )
    rules = [{"tables": "public.p", "mask": {"mail": 4}, "exclude_columns": ["note"]}]
    changes = pycdc.capture(database, ["p"], snapshot="initial", rules=rules, idle=True)
    seen = [next(change for change in changes if change is not None)]
    run_sql(database, "UPDATE p SET id = 2", "DELETE FROM p")
    seen += [next(change for change in changes if change is not None) for _ in range(2)]
    changes.close()
    assert [(change.op, change.before, change.after) for change in seen] == [
        ("r", None, {"id": 1, "mail": "****"}),
        ("u", {"id": 1, "mail": "****"}, {"id": 2, "mail": "****"}),
        ("d", {"id": 2, "mail": "****"}, None),
    ]
    run_sql(database, f"INSERT INTO p VALUES (3, '{CANARY}', '{CANARY}')")
    source = {"postgres": {"dsn": database, "tables": ["p"], "snapshot": "only", "slot": "s2", "publication": "p2"}}
    with Running({"name": "console", "source": source, "sink": {"console": {}}, "rules": rules}) as pipeline:
        pipeline.end()
    printed = capsys.readouterr().out
    assert '"mail": "****"' in printed
    assert CANARY not in printed


LOCALES = {"C": 2, "ja_JP.UTF-8": 0, "ar_BH.UTF-8": 3, "de_DE.UTF-8": 2}


@pytest.fixture(scope="module")
def monetary() -> Iterator[tuple[PostgresServer, list[str]]]:
    """A server that has locales with other digits after the point, as far as they can be made here."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)  # The server may be another user.
    names = ["C"]
    for name in list(LOCALES)[1:] if shutil.which("localedef") else []:
        language, _, _ = name.partition(".")
        made = subprocess.run(["localedef", "-i", language, "-f", "UTF-8", str(folder / name)], capture_output=True)
        names += [name] if made.returncode == 0 else []
    installed = [source for source in matrix.sources() if source.origin not in (VARIABLE, "docker")]
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("LOCPATH", str(folder))
        server = (installed or matrix.sources())[-1].launch()
    yield server, names if installed else ["C"]
    server.close()
    shutil.rmtree(folder)


def test_money_is_worth_what_the_server_says_it_is(monetary: tuple[PostgresServer, list[str]]) -> None:
    server, names = monetary
    for name in names:
        digits = LOCALES[name]
        dsn = server.create_database()
        run_sql(dsn, f"ALTER DATABASE {database_name(dsn)} SET lc_monetary = '{name}'")
        amounts = [Decimal(text).scaleb(-digits) for text in ("123456", "-5", "0", "92233720368547758")]
        rows = ", ".join(f"({number}, '{amount}'::numeric::money)" for number, amount in enumerate(amounts))
        run_sql(dsn, "CREATE TABLE m (id int PRIMARY KEY, v money, a money[])", f"INSERT INTO m VALUES {rows}")
        run_sql(dsn, "UPDATE m SET a = ARRAY[v, NULL]")
        records = record_until(config_for(dsn, "shop", "initial"), dsn, None, partial(updated_once, dsn, [1]))
        for record in records:
            assert record.value_schema is not None
            schema = next(field for field in json.loads(record.value_schema)["fields"] if field["name"] == "before")
            money = next(field for field in schema["type"][1]["fields"] if field["name"] == "v")["type"][1]
            stored = int.from_bytes(bytes.fromhex(record.value["after"]["v"]["bytes"]), "big", signed=True)
            amount = amounts[record.value["after"]["id"]]
            assert (money["scale"], Decimal(stored).scaleb(-digits)) == (digits, amount), name
            shown = f"{abs(amount):,.{digits}f}"
            assert f"${shown}" in record.value["after"]["a"], name
        assert len(records) == 2 * len(amounts)
        for change in islice(pycdc.capture(dsn, ["m"], name="c", snapshot="initial"), len(amounts)):
            assert change.after is not None
            assert change.after["v"] == amounts[change.after["id"]]
        server.drop_database(dsn)


def updated_once(dsn: str, left: list[int], records: list[Any]) -> bool:
    if len(records) == 4 and left:
        left.pop()
        run_sql(dsn, "UPDATE m SET id = id")
    return len(records) >= 8
