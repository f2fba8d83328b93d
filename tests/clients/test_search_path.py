"""Nothing that a stranger can create runs as the role of a pipeline, and no table of a stranger is taken for ours."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from psycopg import conninfo, sql

from pycdc.clients.postgres_sessions import connect_to_write, path_problems
from pycdc.config.postgres_sink import PostgresSinkConfig
from pycdc.errors import EnvironmentNotReady
from pycdc.offsets.postgres import PostgresOffsetStore
from pycdc.sinks.postgres.bookkeeping.apply_offsets import ApplyOffsets
from pycdc.sinks.postgres.preflight import inspect_target
from tests.offsets.contract import at
from tests.services.postgres import PostgresServer
from tests.sinks.postgres.rig import Rig

PLANTED = """
CREATE SCHEMA evil AUTHORIZATION {mallory};
GRANT USAGE ON SCHEMA evil TO PUBLIC;
CREATE TABLE ran (what text);
GRANT ALL ON ran TO PUBLIC;
CREATE FUNCTION evil.same(varchar, varchar) RETURNS boolean LANGUAGE plpgsql AS
    'BEGIN INSERT INTO public.ran VALUES (current_user); RETURN $1::text OPERATOR(pg_catalog.=) $2::text; END';
CREATE OPERATOR evil.= (LEFTARG = varchar, RIGHTARG = varchar, FUNCTION = evil.same);
CREATE FUNCTION evil.set_config(text, text, boolean) RETURNS text LANGUAGE plpgsql AS
    'BEGIN INSERT INTO public.ran VALUES (current_user); RETURN pg_catalog.set_config($1, $2, $3); END';
CREATE FUNCTION evil.to_regclass(text) RETURNS regclass LANGUAGE plpgsql AS
    'BEGIN INSERT INTO public.ran VALUES (current_user); RETURN pg_catalog.to_regclass($1); END';
CREATE TABLE items (id varchar PRIMARY KEY, name text);
GRANT ALL ON items TO {apply};
CREATE SCHEMA pycdc AUTHORIZATION {apply};
"""


@dataclass
class Stage:
    """A database with a stranger's schema, and the role that writes."""

    admin: str
    dsn: str
    apply: str
    mallory: str

    def sql(self, statement: str) -> list[Any]:
        with psycopg.connect(self.admin, autocommit=True) as connection:
            names = {"apply": sql.Identifier(self.apply), "mallory": sql.Identifier(self.mallory)}
            cursor = connection.execute(sql.SQL(statement).format(**names))
            return cursor.fetchall() if cursor.description else []

    def path(self, path: str) -> None:
        self.sql(f"ALTER ROLE {{apply}} SET search_path = {path}")

    def settings(self, **options: Any) -> PostgresSinkConfig:
        return PostgresSinkConfig.model_validate(
            {"dsn": self.dsn, "routes": [{"topic": "items", "table": "items"}], **options}
        )

    @property
    def ran(self) -> list[Any]:
        return self.sql("SELECT * FROM ran")


@pytest.fixture
def stage(postgres: PostgresServer, database: str) -> Iterator[Stage]:
    suffix = secrets.token_hex(4)
    apply, mallory = f"apply_{suffix}", f"mallory_{suffix}"
    dsn = conninfo.make_conninfo(database, user=apply, password="apply")
    made = Stage(database, dsn, apply, mallory)
    made.sql("CREATE ROLE {apply} LOGIN PASSWORD 'apply'; CREATE ROLE {mallory} LOGIN")
    made.sql(PLANTED)
    yield made
    made.sql("DROP OWNED BY {apply}, {mallory} CASCADE; DROP ROLE {apply}, {mallory}")


def write(stage: Stage, **options: Any) -> None:
    rig = Rig(stage.admin)
    try:
        rig.dsn = stage.dsn
        process = rig.process({"topic": "items", "table": "items"}, **options)
        process.feed(("items", {"id": "a"}, {"id": "a", "name": "x"}))
        process.feed(("items", {"id": "a"}, {"id": "a", "name": "y"}))
        process.feed(("items", {"id": "a"}, None))
    finally:
        rig.close()


@pytest.mark.parametrize("path", ["evil, public", "public, evil", "evil, pg_catalog, public"])
def test_a_schema_on_the_path_that_a_stranger_may_write_is_refused(stage: Stage, path: str) -> None:
    stage.path(path)
    with pytest.raises(EnvironmentNotReady, match=f"schema evil is on the search_path, and {stage.mallory}") as caught:
        write(stage)
    assert "REVOKE CREATE ON SCHEMA" in caught.value.hint
    assert [one.fact for one in inspect_target(stage.settings(), "back").path] == [caught.value.fact]
    assert stage.ran == []


def test_a_grant_to_all_makes_a_schema_a_strangers_too(stage: Stage) -> None:
    stage.sql("CREATE SCHEMA shared; GRANT ALL ON SCHEMA shared TO PUBLIC")
    stage.path("public, shared")
    with pytest.raises(EnvironmentNotReady, match="every role may create in it"):
        connect_to_write(stage.settings())
    stage.sql("REVOKE CREATE ON SCHEMA shared FROM PUBLIC; GRANT CREATE ON SCHEMA shared TO {mallory}")
    with pytest.raises(EnvironmentNotReady, match=stage.mallory):
        connect_to_write(stage.settings())
    stage.sql("REVOKE CREATE ON SCHEMA shared FROM {mallory}; GRANT CREATE ON SCHEMA shared TO {apply}")
    connect_to_write(stage.settings()).close()


def test_a_chosen_path_takes_the_place_of_the_roles_and_planted_operators_do_not_run(stage: Stage) -> None:
    stage.path("evil, pg_catalog, public")
    write(stage, search_path=["public"])
    write(stage, search_path=[])
    assert stage.ran == []
    with connect_to_write(stage.settings(search_path=["public"])) as connection:
        assert connection.execute("SHOW search_path").fetchone() == (
            "pg_catalog, public, pg_temp",
        ) or connection.execute("SHOW search_path").fetchone() == ('pg_catalog, "public", pg_temp',)
    with pytest.raises(EnvironmentNotReady, match="evil"):
        connect_to_write(stage.settings(search_path=["evil"]))


def test_the_owner_of_the_written_table_is_no_stranger(stage: Stage) -> None:
    stage.sql("ALTER TABLE items OWNER TO {mallory}")
    stage.path("evil, public")
    assert path_problems(stage.settings()) == []


def test_the_triggers_of_a_table_find_what_the_roles_path_holds(stage: Stage) -> None:
    stage.sql(
        """CREATE TABLE audit (name text); GRANT INSERT ON audit TO {apply};
        CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN INSERT INTO audit VALUES (new.name); RETURN new; END';
        CREATE TRIGGER note AFTER INSERT ON items FOR EACH ROW EXECUTE FUNCTION note()"""
    )
    write(stage)
    assert stage.sql("SELECT name FROM audit") == [("x",)]


def test_the_offset_store_runs_nothing_of_a_stranger(stage: Stage) -> None:
    stage.sql("GRANT CREATE ON SCHEMA public TO {apply}; GRANT USAGE ON SCHEMA evil TO {apply}")
    stage.path("evil, pg_catalog, public")
    stage.sql("CREATE TABLE public.pycdc_offsets (LIKE items); DROP TABLE public.pycdc_offsets")
    store = PostgresOffsetStore(stage.dsn, "shop", "public.pycdc_offsets")
    store.store(at(1))
    assert store.load() == at(1)
    store.close()
    assert stage.ran == []
    stage.path("public")
    by_path = PostgresOffsetStore(stage.dsn, "shop")
    assert by_path.load() == at(1)
    by_path.close()


def test_an_offset_table_of_a_stranger_is_not_used(stage: Stage) -> None:
    stage.sql(
        """CREATE TABLE evil.pycdc_offsets (name text PRIMARY KEY, position pg_lsn NOT NULL, index bigint NOT NULL,
        source jsonb NOT NULL, checkpoint text NOT NULL, stored_at timestamptz NOT NULL DEFAULT now());
        ALTER TABLE evil.pycdc_offsets OWNER TO {mallory}; GRANT USAGE ON SCHEMA evil TO PUBLIC;
        GRANT ALL ON evil.pycdc_offsets TO PUBLIC"""
    )
    stage.path("evil, public")
    store = PostgresOffsetStore(stage.dsn, "shop")
    for call in (store.load, lambda: store.store(at(1)), store.clear):
        with pytest.raises(EnvironmentNotReady, match=f"pycdc_offsets.* belongs to role {stage.mallory}"):
            call()
    store.close()
    stage.sql("GRANT {mallory} TO {apply}")
    trusted = PostgresOffsetStore(stage.dsn, "shop")
    trusted.store(at(1))
    trusted.close()


def test_tables_of_pycdc_s_own_that_a_stranger_owns_or_another_version_made_are_not_used(stage: Stage) -> None:
    apply_offsets = ApplyOffsets(stage.dsn, "back", has_inbox=True)
    with psycopg.connect(stage.dsn) as connection:
        apply_offsets.ensure_tables(connection)
        apply_offsets.ensure_tables(connection)
        stage.sql("ALTER TABLE pycdc.parked OWNER TO {mallory}")
        with pytest.raises(EnvironmentNotReady, match=f"belongs to role {stage.mallory}"):
            apply_offsets.ensure_tables(connection)
        connection.rollback()
        stage.sql("ALTER TABLE pycdc.parked OWNER TO {apply}; ALTER TABLE pycdc.apply_offsets DROP COLUMN epoch")
        with pytest.raises(EnvironmentNotReady, match="is not of this version of pycdc: see its columns epoch"):
            apply_offsets.ensure_tables(connection)
        connection.rollback()
        stage.sql("ALTER TABLE pycdc.apply_offsets ADD epoch bigint; ALTER TABLE pycdc.inbox ADD later int NOT NULL")
        with pytest.raises(EnvironmentNotReady, match="see its columns later"):
            apply_offsets.ensure_tables(connection)


def test_keys_of_an_extension_s_type_need_its_schema_on_the_path(contrib_database: str) -> None:
    with psycopg.connect(contrib_database, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA ext; CREATE EXTENSION citext SCHEMA ext")
        connection.execute("CREATE TABLE items (id ext.citext PRIMARY KEY, name text, tags ext.citext[])")
    routes = [{"topic": "items", "table": "items"}]
    for path in ([], ["public"]):
        settings = PostgresSinkConfig.model_validate({"dsn": contrib_database, "routes": routes, "search_path": path})
        with pytest.raises(EnvironmentNotReady, match=r"keys have the type ext\.citext"):
            connect_to_write(settings)
    settings = PostgresSinkConfig.model_validate({"dsn": contrib_database, "routes": routes, "search_path": ["ext"]})
    connect_to_write(settings).close()


def test_an_offset_table_that_cannot_be_made_or_written_is_found_before_the_start(stage: Stage) -> None:
    stage.path("public")
    for table, missing in (("pycdc_offsets", "make"), ("nowhere.t", "make"), ("public.theirs", "read and write")):
        stage.sql("CREATE TABLE IF NOT EXISTS theirs (LIKE items)")
        store = PostgresOffsetStore(stage.dsn, "shop", table)
        with pytest.raises(EnvironmentNotReady, match=f"the role may not {missing}") as caught:
            store.require_room()
        assert "GRANT SELECT, INSERT, UPDATE, DELETE" in caught.value.hint
        store.close()
    stage.sql("GRANT CREATE ON SCHEMA public TO {apply}")
    store = PostgresOffsetStore(stage.dsn, "shop")
    store.require_room()
    assert stage.sql("SELECT to_regclass('public.pycdc_offsets')") == [(None,)]
    store.store(at(1))
    store.require_room()
    store.close()
