"""What the catalogs say, against every server: facts are right, names need no care, vanished objects are no errors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from psycopg import sql

from pycdc.connectors.postgres.catalog.catalog import Catalog, parse_history
from pycdc.connectors.postgres.catalog.metadata import TableMetadata
from pycdc.errors import ConfigError, EnvironmentNotReady
from pycdc.model.change import Lsn, PgType
from tests.services.postgres import PostgresServer


@pytest.fixture
def source(database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


@pytest.fixture
def catalog(database: str) -> Iterator[Catalog]:
    with Catalog(database) as catalog:
        yield catalog


def oid_of(source: psycopg.Connection[Any], name: str, kind: str = "regclass") -> int:
    row = source.execute(f"SELECT '{name}'::{kind}::oid::int8").fetchone()
    assert row is not None
    return int(row[0])


def metadata_of(catalog: Catalog, source: psycopg.Connection[Any], name: str) -> TableMetadata:
    facts = catalog.table_metadata(oid_of(source, name))
    assert facts is not None
    return facts


def names(catalog: Catalog, *patterns: str, exclude: tuple[str, ...] = ()) -> list[str]:
    return [str(table) for table in catalog.tables(patterns, exclude)]


# -- the server and its slots


def test_the_server_tells_what_a_checkpoint_needs(catalog: Catalog, source: psycopg.Connection[Any]) -> None:
    server = catalog.server()
    assert server.version == source.info.server_version
    assert server.database == source.info.dbname
    assert (server.timeline, server.wal_level, server.encoding) == (1, "logical", "UTF8")
    row = source.execute("SELECT system_identifier::text FROM pg_control_system()").fetchone()
    assert row == (server.system_identifier,)
    row = source.execute("SELECT pg_current_wal_lsn()::text").fetchone()
    assert row is not None
    assert 0 < server.current_lsn <= Lsn.parse(row[0])
    assert server.wal_sender_timeout == 60.0
    assert server.role_replicates


def test_a_slot_that_does_not_exist_is_none(catalog: Catalog) -> None:
    assert catalog.slot("no_such_slot") is None
    assert catalog.replication_lag("no_such_slot") is None


def test_a_slot_tells_where_it_stands(catalog: Catalog, source: psycopg.Connection[Any]) -> None:
    name = f"{source.info.dbname}_slot"
    row = source.execute("SELECT lsn::text FROM pg_create_logical_replication_slot(%s, 'pgoutput')", [name]).fetchone()
    slot = catalog.slot(name)
    assert slot is not None
    assert row is not None
    assert (slot.plugin, slot.database, slot.temporary) == ("pgoutput", source.info.dbname, False)
    assert slot.confirmed_flush == Lsn.parse(row[0])
    assert (slot.active_pid, slot.invalidation, slot.wal_status) == (None, None, "reserved")
    source.execute("CREATE TABLE t AS SELECT generate_series(1, 10000)")
    lag = catalog.replication_lag(name)
    assert lag is not None
    assert lag.bytes > 100_000
    assert lag.retained >= lag.bytes
    assert lag.sent is None


def test_an_invalidated_slot_says_so(
    catalog: Catalog, source: psycopg.Connection[Any], postgres: PostgresServer
) -> None:
    name = f"{source.info.dbname}_slot"
    source.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [name])
    postgres.configure(max_slot_wal_keep_size="1MB")
    for _ in range(3):
        source.execute("SELECT pg_logical_emit_message(false, 'x', 'x'), pg_switch_wal()")
    source.execute("CHECKPOINT")
    slot = catalog.slot(name)
    assert slot is not None
    assert slot.wal_status == "lost"
    assert slot.invalidation in ("lost", "wal_removed")


def test_a_timeline_history_tells_where_timelines_ended() -> None:
    history = b"1\t0/3000148\tno recovery target specified\n\n2\t16/B374D848\tbefore 2024-01-01\n# comment\n"
    assert parse_history(history) == {1: Lsn.parse("0/3000148"), 2: Lsn.parse("16/B374D848")}


def test_a_primary_that_was_never_promoted_has_no_earlier_timeline(catalog: Catalog) -> None:
    assert catalog.timeline_ends() == {}


# -- tables


def test_patterns_choose_tables(catalog: Catalog, source: psycopg.Connection[Any]) -> None:
    source.execute("CREATE SCHEMA app")
    for name in ("public.orders", "public.order_items", "public.order1items", "app.orders", "app.users"):
        source.execute(f"CREATE TABLE {name} (id int)")
    source.execute("CREATE VIEW public.orders_view AS SELECT 1")
    source.execute("CREATE UNLOGGED TABLE public.orders_unlogged ()")
    source.execute("CREATE TEMPORARY TABLE orders_temporary ()")
    assert names(catalog, "orders") == ["public.orders"]
    assert names(catalog, "*.orders") == ["app.orders", "public.orders"]
    assert names(catalog, "order_items") == ["public.order_items"]
    assert names(catalog, "app.*", "orders") == ["app.orders", "app.users", "public.orders"]
    assert names(catalog, "*.*", exclude=("app.*", "order*")) == []
    assert names(catalog, "*.*", exclude=("app.u*",)) == [
        "app.orders",
        "public.order1items",
        "public.order_items",
        "public.orders",
    ]
    assert names(catalog, "*.pg_class", "information_schema.*") == []


def test_own_tables_are_found_only_by_their_names(catalog: Catalog, source: psycopg.Connection[Any]) -> None:
    source.execute("CREATE SCHEMA pycdc")
    for name in ("public.orders", "public.pycdc_offsets", "pycdc.apply_offsets", "pycdc.parked"):
        source.execute(f"CREATE TABLE {name} (id int)")
    assert names(catalog, "*") == names(catalog, "*.*") == names(catalog, "public.*") == ["public.orders"]
    assert names(catalog, "*.*", "pycdc.p*") == ["public.orders", "pycdc.parked"]
    assert names(catalog, "pycdc_offsets") == ["public.pycdc_offsets"]


def test_any_name_is_found_and_described(catalog: Catalog, source: psycopg.Connection[Any]) -> None:
    for name in ('a"b', "a'b", "select", "emoji 🐘", "50%", "back\\slash"):
        quoted = sql.Identifier(name)
        source.execute(sql.SQL("CREATE SCHEMA {0} CREATE TABLE {0} ({0} int PRIMARY KEY)").format(quoted))
        (table,) = catalog.tables([f"{name}.{name}"])
        assert (table.schema, table.name) == (name, name)
        facts = catalog.table_metadata(table.oid)
        assert facts is not None
        assert facts.key == (name,)


def test_many_tables_are_described_in_as_many_questions_as_one(
    catalog: Catalog, source: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        source.execute(f"CREATE TABLE t{number} (id int PRIMARY KEY, c{number} text)".encode())
    source.execute("CREATE TABLE without ()")
    oids = [oid_of(source, name) for name in ("t3", "without", "t0", "t1", "t2", "t4")]
    single = {oid: catalog.table_metadata(oid) for oid in oids}
    asked = []
    query = catalog._query

    def counted(text: Any, parameters: Any) -> Any:
        asked.append(text)
        return query(text, parameters)

    monkeypatch.setattr(catalog, "_query", counted)
    found = catalog.metadata_of([*oids, 1])
    assert found == single
    assert list(found) == oids
    assert len(asked) == 3


def test_partitions_know_their_root(catalog: Catalog, source: psycopg.Connection[Any]) -> None:
    source.execute("CREATE TABLE m (id int, day int, PRIMARY KEY (id, day)) PARTITION BY RANGE (day)")
    source.execute("CREATE TABLE m1 PARTITION OF m FOR VALUES FROM (0) TO (10) PARTITION BY LIST (day)")
    source.execute("CREATE TABLE m1a PARTITION OF m1 FOR VALUES IN (1)")
    root = oid_of(source, "m")
    found = {table.name: (table.kind, table.root) for table in catalog.tables(["*"])}
    assert found == {"m": ("p", None), "m1": ("p", root), "m1a": ("r", root)}


def test_rows_are_estimated_once_analysed(catalog: Catalog, source: psycopg.Connection[Any]) -> None:
    source.execute("CREATE TABLE t AS SELECT generate_series(1, 1000)")
    assert catalog.tables(["t"])[0].rows_estimate is None
    source.execute("ANALYZE t")
    assert catalog.tables(["t"])[0].rows_estimate == 1000


def test_columns_are_described(catalog: Catalog, source: psycopg.Connection[Any]) -> None:
    source.execute(
        """CREATE TABLE t (
             id bigint GENERATED ALWAYS AS IDENTITY, gone int, name varchar(20) NOT NULL DEFAULT 'x',
             price numeric(10, 2), tags text[][], twice int GENERATED ALWAYS AS (1 + 1) STORED,
             at timestamptz DEFAULT now())"""
    )
    source.execute("ALTER TABLE t DROP COLUMN gone")
    columns = metadata_of(catalog, source, "t").columns
    assert list(columns) == ["id", "name", "price", "tags", "twice", "at"]
    assert columns["id"].type == PgType(20, "int8")
    assert columns["id"].nullable is False
    assert columns["id"].default is None
    assert columns["name"].type == PgType(1043, "varchar", 24)
    assert columns["name"].default == "'x'::character varying"
    assert columns["price"].type.typmod == (10 << 16 | 2) + 4
    assert columns["tags"].type == PgType(1009, "_text", element=PgType(25, "text"))
    assert columns["tags"].dimensions == 2
    assert (columns["twice"].generated, columns["twice"].default) == (True, None)
    assert (columns["at"].nullable, columns["at"].default) == (True, "now()")


@pytest.mark.parametrize(
    ("ddl", "key", "identity"),
    [
        ("CREATE TABLE t (a int, b int, c int, PRIMARY KEY (c, a) INCLUDE (b))", ("c", "a"), {"a", "c"}),
        ("CREATE TABLE t (a int, b int)", (), set()),
        ("CREATE TABLE t (a int NOT NULL, b int); CREATE UNIQUE INDEX i ON t (a)", ("a",), set()),
        ("CREATE TABLE t (a int, b int); CREATE UNIQUE INDEX i ON t (a)", (), set()),
        ("CREATE TABLE t (a int NOT NULL); CREATE UNIQUE INDEX i ON t (a) WHERE a > 0", (), set()),
        ("CREATE TABLE t (a int NOT NULL); CREATE UNIQUE INDEX i ON t ((a + 1))", (), set()),
        ("CREATE TABLE t (a int NOT NULL UNIQUE DEFERRABLE)", (), set()),
        (
            "CREATE TABLE t (a int NOT NULL, b int NOT NULL); CREATE UNIQUE INDEX y ON t (a);"
            " CREATE UNIQUE INDEX x ON t (b)",
            ("b",),
            set(),
        ),
        (
            "CREATE TABLE t (a int NOT NULL, b int NOT NULL); CREATE UNIQUE INDEX y ON t (a);"
            " CREATE UNIQUE INDEX x ON t (b); ALTER TABLE t REPLICA IDENTITY USING INDEX y",
            ("a",),
            {"a"},
        ),
        (
            "CREATE TABLE t (a int PRIMARY KEY, b int NOT NULL UNIQUE);"
            " ALTER TABLE t REPLICA IDENTITY USING INDEX t_b_key",
            ("a",),
            {"b"},
        ),
        ("CREATE TABLE t (a int PRIMARY KEY, b int); ALTER TABLE t REPLICA IDENTITY FULL", ("a",), {"a", "b"}),
        ("CREATE TABLE t (a int PRIMARY KEY, b int); ALTER TABLE t REPLICA IDENTITY NOTHING", ("a",), set()),
    ],
)
def test_the_key_and_the_identity_are_found(
    catalog: Catalog, source: psycopg.Connection[Any], ddl: str, key: tuple[str, ...], identity: set[str]
) -> None:
    source.execute(ddl)
    facts = metadata_of(catalog, source, "t")
    assert facts.key == key
    assert {name for name, column in facts.columns.items() if column.identity} == identity


def test_a_question_is_asked_again_where_a_table_was_dropped_while_it_was_answered(
    catalog: Catalog, source: psycopg.Connection[Any]
) -> None:
    source.execute(
        "CREATE SEQUENCE s; CREATE FUNCTION passing() RETURNS int LANGUAGE plpgsql AS $$ BEGIN"
        " IF nextval('public.s') < 3 THEN"
        " RAISE EXCEPTION 'could not open relation with OID 1' USING ERRCODE = 'XX000'; END IF; RETURN 7; END $$"
    )
    assert catalog.ask("SELECT public.passing() AS n") == [{"n": 7}]
    source.execute("ALTER SEQUENCE s INCREMENT -1 MINVALUE -1000")
    with pytest.raises(EnvironmentNotReady, match="could not open relation"):
        catalog.ask("SELECT public.passing() AS n")


def test_a_dropped_table_is_none(catalog: Catalog, source: psycopg.Connection[Any]) -> None:
    source.execute("CREATE TABLE t (id int)")
    oid = oid_of(source, "t")
    source.execute("DROP TABLE t")
    assert catalog.table_metadata(oid) is None
    assert catalog.columns_for_copy(oid) is None


# -- types


def test_types_are_resolved(catalog: Catalog, source: psycopg.Connection[Any]) -> None:
    source.execute("CREATE TYPE mood AS ENUM ('sad', 'happy'); ALTER TYPE mood ADD VALUE 'so so' BEFORE 'happy'")
    source.execute("CREATE TYPE pair AS (a int, b text); CREATE DOMAIN code AS varchar(5); CREATE DOMAIN sub AS code")
    source.execute("CREATE TYPE span AS RANGE (subtype = int)")
    oids = {
        name: oid_of(source, name, "regtype") for name in ("mood", "mood[]", "pair", "code", "sub", "span", "code[]")
    }
    types = catalog.types(oids.values())
    mood = PgType(oids["mood"], "mood", kind="e", labels=("sad", "so so", "happy"))
    code = PgType(1043, "varchar", 9, domain=True, declared="code")
    assert types[oids["mood"]] == mood
    assert types[oids["mood[]"]] == PgType(oids["mood[]"], "_mood", element=mood)
    assert (types[oids["pair"]].kind, types[oids["span"]].kind) == ("c", "r")
    assert types[oids["code"]] == code
    assert types[oids["sub"]] == replace(code, declared="sub")
    assert types[oids["code[]"]].element == code


def test_a_type_that_looks_like_an_array_but_is_none_has_no_element(catalog: Catalog) -> None:
    """point can be subscripted, and its catalog row names float8."""
    assert catalog.types([600])[600] == PgType(600, "point")


def test_a_columns_typmod_goes_before_the_domains(catalog: Catalog, source: psycopg.Connection[Any]) -> None:
    source.execute("CREATE DOMAIN amount AS numeric(8, 3)")
    oid = oid_of(source, "amount", "regtype")
    assert catalog.column_type(oid).typmod == (8 << 16 | 3) + 4
    assert catalog.column_type(1043, 24).typmod == 24
    array = catalog.column_type(1015, 24)
    assert array.element is not None
    assert array.element.typmod == 24


def test_a_dropped_type_is_missing_and_a_column_of_it_unknown(
    catalog: Catalog, source: psycopg.Connection[Any]
) -> None:
    source.execute("CREATE TYPE mood AS ENUM ('sad')")
    oid = oid_of(source, "mood", "regtype")
    source.execute("DROP TYPE mood")
    assert catalog.types([oid, 23]) == {23: PgType(23, "int4")}
    assert catalog.column_type(oid) == PgType(oid, "unknown")


def test_a_type_is_read_anew_once_forgotten(catalog: Catalog, source: psycopg.Connection[Any]) -> None:
    source.execute("CREATE TYPE mood AS ENUM ('sad')")
    mood, moods = oid_of(source, "mood", "regtype"), oid_of(source, "mood[]", "regtype")
    catalog.types([mood, moods])
    source.execute("ALTER TYPE mood ADD VALUE 'happy'")
    assert catalog.types([mood])[mood].labels == ("sad",)
    catalog.forget(mood)
    element = catalog.types([moods])[moods].element
    assert element is not None
    assert element.labels == ("sad", "happy")


# -- publications


def test_a_publication_that_does_not_exist_is_none(catalog: Catalog) -> None:
    assert catalog.publication("no such publication") is None
    assert catalog.publication_tables("no such publication") == ()


def test_a_publication_tells_what_it_publishes(catalog: Catalog, source: psycopg.Connection[Any]) -> None:
    source.execute('CREATE TABLE b (id int); CREATE TABLE "a""x" (id int)')
    source.execute("""CREATE PUBLICATION "p'1" FOR TABLE b, "a""x" WITH (publish = 'insert, delete')""")
    publication = catalog.publication("p'1")
    assert publication is not None
    assert publication.operations == {"insert", "delete"}
    assert (publication.all_tables, publication.via_partition_root, publication.owned) == (False, False, True)
    assert [(table.name, table.columns, table.row_filter) for table in publication.tables] == [
        ('a"x', None, None),
        ("b", None, None),
    ]
    assert publication.covered == {oid_of(source, "b"), oid_of(source, '"a""x"')}


@pytest.mark.parametrize("via_root", [False, True])
def test_a_published_root_covers_its_partitions(
    catalog: Catalog, source: psycopg.Connection[Any], via_root: bool
) -> None:
    source.execute("CREATE TABLE m (day int) PARTITION BY LIST (day)")
    source.execute("CREATE TABLE m1 PARTITION OF m FOR VALUES IN (1)")
    source.execute(f"CREATE PUBLICATION p FOR TABLE m WITH (publish_via_partition_root = {via_root})")
    publication = catalog.publication("p")
    assert publication is not None
    assert publication.covered == {oid_of(source, "m"), oid_of(source, "m1")}
    assert [table.name for table in publication.tables] == ["m" if via_root else "m1"]


@pytest.mark.pg(">=15")
def test_a_snapshot_reads_the_columns_and_rows_that_the_stream_sends(
    catalog: Catalog, source: psycopg.Connection[Any]
) -> None:
    source.execute(
        "CREATE TABLE t (id int PRIMARY KEY, secret text, price int, twice int GENERATED ALWAYS AS (price * 2) STORED)"
    )
    source.execute("CREATE TABLE whole (id int)")
    source.execute("CREATE PUBLICATION p FOR TABLE t (price, id) WHERE (price > 10), TABLE whole")
    oid = oid_of(source, "t")
    copied = catalog.columns_for_copy(oid, "p")
    assert copied is not None
    assert (copied.columns, copied.row_filter) == (("id", "price"), "(price > 10)")
    everything = catalog.columns_for_copy(oid)
    assert everything is not None
    assert (everything.columns, everything.row_filter) == (("id", "secret", "price"), None)
    generated = catalog.columns_for_copy(oid, generated=True)
    assert generated is not None
    assert generated.columns == ("id", "secret", "price", "twice")
    whole = catalog.columns_for_copy(oid_of(source, "whole"), "p")
    assert whole is not None
    assert (whole.columns, whole.row_filter) == (("id",), None)


# -- the connection


def test_a_stale_connection_is_replaced(catalog: Catalog, source: psycopg.Connection[Any]) -> None:
    catalog.server()
    source.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    assert catalog.server().database == source.info.dbname
    assert catalog.slot("no_such_slot") is None


def test_a_dsn_that_does_not_parse_is_reported_without_its_password() -> None:
    with pytest.raises(ConfigError) as caught:
        Catalog("host=localhost password=hunter2 hunter2").server()
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_a_database_that_does_not_exist_is_reported(database: str) -> None:
    with pytest.raises(EnvironmentNotReady, match="does not exist") as caught:
        Catalog(f"{database} dbname=no_such_database").server()
    assert "dsn" in caught.value.hint
