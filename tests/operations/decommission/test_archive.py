"""An archived table can be made again: definition, rows, keys, sequences."""

from __future__ import annotations

import gzip
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from pycdc.errors import EnvironmentNotReady
from pycdc.operations.decommission.archive import archive
from tests.services.postgres import PostgresServer

pytestmark = pytest.mark.server

TABLE = """
CREATE TABLE "Odd names" (
    id serial PRIMARY KEY, no bigint GENERATED ALWAYS AS IDENTITY, "a b" text DEFAULT 'it''s', n numeric(6, 2),
    twice numeric GENERATED ALWAYS AS (n * 2) STORED, at timestamptz, data jsonb, raw bytea, words text[] NOT NULL,
    UNIQUE (no), CHECK (n > 0), gone int
);
ALTER TABLE "Odd names" DROP COLUMN gone;
CREATE INDEX odd ON "Odd names" (lower("a b")) WHERE n > 1;
INSERT INTO "Odd names" ("a b", n, at, data, raw, words) VALUES
    (NULL, 1.5, now(), '{"a": "x, \\"y\\""}', '\\x00ff', '{a,NULL,"b c"}'), ('', NULL, NULL, NULL, '', '{}'),
    (E'line\\nbreak', 2, 'infinity', 'null', NULL, '{x}');
"""
DEFINITION = """SELECT attname, format_type(atttypid, atttypmod), attnotnull, attidentity, attgenerated
FROM pg_attribute WHERE attrelid = '"Odd names"'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum"""
OBJECTS = """SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = '"Odd names"'::regclass
UNION ALL SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = '"Odd names"'::regclass ORDER BY 1"""


def test_a_table_comes_back_as_it_was(database: str, tmp_path: Path) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(TABLE.encode())
        asked = [DEFINITION, OBJECTS, 'SELECT t::text FROM "Odd names" t ORDER BY id']
        before = [connection.execute(query.encode()).fetchall() for query in asked]
        found = archive(connection, ("public", "Odd names"), tmp_path / "new" / "folder")
        assert (found.table, found.rows) == ("public.Odd names", 3)
        connection.execute('DROP TABLE "Odd names"')
        connection.execute(Path(found.file.replace(".csv.gz", ".sql")).read_bytes())
        rows = gzip.decompress(Path(found.file).read_bytes())
        header = rows.partition(b"\n")[0].replace(b"a b", b'"a b"')
        statement = b'COPY "Odd names" (' + header + b") FROM STDIN (FORMAT csv, HEADER)"
        with connection.cursor() as cursor, cursor.copy(statement) as copy:
            copy.write(rows)
        assert [connection.execute(query.encode()).fetchall() for query in asked] == before
        connection.execute("INSERT INTO \"Odd names\" (words) VALUES ('{}')")
        assert connection.execute('SELECT max(id), max(no) FROM "Odd names"').fetchone() == (4, 4)


def test_a_folder_that_cannot_be_written_is_told_with_a_remedy(database: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE TABLE items (id int)")
        with pytest.raises(EnvironmentNotReady, match="cannot be written") as caught:
            archive(connection, ("public", "items"), tmp_path / "file" / "folder")
    assert caught.value.hint


def test_rows_that_a_policy_hides_from_the_tables_owner_are_not_left_out(
    database: str, postgres: PostgresServer, tmp_path: Path
) -> None:
    role = f"owner_{database.rpartition('=')[2]}"
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            f"CREATE ROLE {role} LOGIN; CREATE TABLE items (id int); INSERT INTO items VALUES (1), (2);"
            "ALTER TABLE items ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;"
            f"CREATE POLICY few ON items USING (id = 1); ALTER TABLE items OWNER TO {role}".encode()
        )
        try:
            with (
                psycopg.connect(postgres.dsn(connection.info.dbname, user=role)) as owner,
                pytest.raises(EnvironmentNotReady, match="cannot be read whole"),
            ):
                archive(owner, ("public", "items"), tmp_path)
        finally:
            connection.execute(f"DROP TABLE items; DROP ROLE {role}".encode())


@pytest.mark.pg("newest")
def test_tables_whose_names_join_to_one_have_files_of_their_own(database: str, tmp_path: Path) -> None:
    tables = [("a.b", "c"), ("a", "b.c"), ("a", "b/../c"), ("a", "b%2Ec"), ("a", "b c"), ("a", "ü")]
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute('CREATE SCHEMA "a.b"; CREATE SCHEMA a')
        files = []
        for number, table in enumerate(tables):
            name = sql.Identifier(*table)
            connection.execute(sql.SQL("CREATE TABLE {} AS SELECT {} AS number").format(name, number))
            files.append(Path(archive(connection, table, tmp_path).file))
    assert [gzip.decompress(file.read_bytes()) for file in files] == [b"number\n%d\n" % n for n in range(len(tables))]
    assert {file.parent for file in files} == {tmp_path}


@pytest.mark.pg("newest")
def test_an_archive_is_replaced_by_another_attempt_at_its_table_alone(database: str, tmp_path: Path) -> None:
    (tmp_path / "public.items.3.sql").write_text("-- somebody's own")
    with psycopg.connect(database, autocommit=True) as connection:

        def archived(value: int) -> tuple[str, bytes]:
            connection.execute(f"DROP TABLE IF EXISTS items; CREATE TABLE items AS SELECT {value} AS id".encode())
            return again()

        def again() -> tuple[str, bytes]:
            file = Path(archive(connection, ("public", "items"), tmp_path).file)
            return file.name, gzip.decompress(file.read_bytes())

        first = ("public.items.csv.gz", b"id\n1\n")
        assert [archived(1), again()] == [first, first]
        assert [archived(2), again()] == [("public.items.2.csv.gz", b"id\n2\n")] * 2
        assert archived(3)[0] == "public.items.4.csv.gz"
        assert gzip.decompress((tmp_path / first[0]).read_bytes()) == first[1]
        connection.execute("DROP TABLE items")
        connection.execute((tmp_path / "public.items.2.sql").read_bytes())
        assert b"./public.items.2.csv.gz" in (tmp_path / "public.items.2.sql").read_bytes()
