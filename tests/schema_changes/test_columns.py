"""Each row is delivered as it was written, whatever is done to its table before, after and in the same transaction."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from typing import Any, Literal

import pytest

from tests.schema_changes.stream import Row, Stream

pytestmark = pytest.mark.pg("outermost")

_NUMBERS = count(1)
ONE = "INSERT INTO {t} VALUES ({id}, 'x{id}', 7)"
MORE = ("INSERT INTO {t} (id, a) VALUES (2, 'y')", "UPDATE {t} SET a = 'z' WHERE id = 1")
Way = Literal["outside", "inside", "while stopped", "again after a crash"]


@dataclass(frozen=True)
class Change:
    """`ddl` is done to a table of `columns` after `row` was written; `after` is written then.

    `versions` is how many schemas the values have had by then; `late` how many more where the pipeline reads all of it
    afterwards, when the catalog has forgotten what was. `hidden` columns are not in the stream. `commits`: what `ddl`
    makes cannot be used before it is committed.
    """

    name: str
    ddl: str
    versions: int = 2
    columns: str = "id int PRIMARY KEY, a text, n int"
    row: str = ONE
    after: tuple[str, ...] = MORE
    setup: str = ""
    hidden: tuple[str, ...] = ()
    late: int = 0
    commits: bool = False


MOOD: dict[str, Any] = {
    "columns": "id int PRIMARY KEY, m {t}_type",
    "setup": "CREATE TYPE {t}_type AS ENUM ('old', 'older')",
    "row": "INSERT INTO {t} VALUES ({id}, 'old')",
}
AMOUNT: dict[str, Any] = {
    "columns": "id int PRIMARY KEY, a text, n {t}_type",
    "setup": "CREATE DOMAIN {t}_type AS numeric(6,2)",
}

CHANGES = [
    Change("add nullable", "ALTER TABLE {t} ADD b int"),
    Change("add with a constant", "ALTER TABLE {t} ADD b int DEFAULT 5"),
    Change("add with a volatile default", "ALTER TABLE {t} ADD b text DEFAULT md5(random()::text)"),
    Change("add not null", "ALTER TABLE {t} ADD b int NOT NULL DEFAULT 5"),
    Change(
        "add not null, no default stays",
        "ALTER TABLE {t} ADD b int NOT NULL DEFAULT 5; ALTER TABLE {t} ALTER b DROP DEFAULT",
        after=("INSERT INTO {t} VALUES (2, 'y', 7, 8)", MORE[1]),
    ),
    Change("add an identity column", "ALTER TABLE {t} ADD b int GENERATED ALWAYS AS IDENTITY"),
    Change("drop", "ALTER TABLE {t} DROP n"),
    Change("drop and add as another type", "ALTER TABLE {t} DROP n; ALTER TABLE {t} ADD n text DEFAULT 'seven'"),
    Change("drop and add as the same", "ALTER TABLE {t} DROP n; ALTER TABLE {t} ADD n int", versions=1),
    Change("rename", "ALTER TABLE {t} RENAME n TO m"),
    Change(
        "swap names",
        "ALTER TABLE {t} RENAME a TO b; ALTER TABLE {t} RENAME n TO a; ALTER TABLE {t} RENAME b TO n",
        after=("INSERT INTO {t} VALUES (2, 'y', 8)", "UPDATE {t} SET n = 'z' WHERE id = 1"),
    ),
    Change(
        "int to bigint",
        "ALTER TABLE {t} ALTER n TYPE bigint",
        after=("INSERT INTO {t} VALUES (2, 'y', 5000000000)", "UPDATE {t} SET n = n + 6000000000 WHERE id = 1"),
    ),
    Change(
        "varchar to text",
        "ALTER TABLE {t} ALTER a TYPE text",
        versions=1,
        columns="id int PRIMARY KEY, a varchar(5), n int",
        after=("INSERT INTO {t} VALUES (2, 'longer than five', 7)",),
    ),
    Change("int to text", "ALTER TABLE {t} ALTER n TYPE text", after=("INSERT INTO {t} VALUES (2, 'y', 'seven')",)),
    Change(
        "text to int",
        "ALTER TABLE {t} ALTER a TYPE int USING length(a)",
        after=("INSERT INTO {t} VALUES (2, 4, 5)", "UPDATE {t} SET a = 9 WHERE id = 1"),
    ),
    Change(
        "more precision",
        "ALTER TABLE {t} ALTER n TYPE numeric(9,3)",
        columns="id int PRIMARY KEY, a text, n numeric(4,1)",
        row="INSERT INTO {t} VALUES ({id}, 'x', 7.5)",
        after=("INSERT INTO {t} VALUES (2, 'y', 123456.789)",),
    ),
    Change(
        "set not null",
        "UPDATE {t} SET n = 9 WHERE n IS NULL; ALTER TABLE {t} ALTER n SET NOT NULL",
        row="INSERT INTO {t} VALUES ({id}, 'x', NULL)",
        after=("INSERT INTO {t} VALUES (2, 'y', 8)",),
    ),
    Change(
        "drop not null",
        "ALTER TABLE {t} ALTER n DROP NOT NULL",
        columns="id int PRIMARY KEY, a text, n int NOT NULL",
    ),
    Change("set default", "ALTER TABLE {t} ALTER n SET DEFAULT 3"),
    Change(
        "drop default", "ALTER TABLE {t} ALTER n DROP DEFAULT", columns="id int PRIMARY KEY, a text, n int DEFAULT 1"
    ),
    Change(
        "three changes at once",
        "ALTER TABLE {t} ADD b int DEFAULT 1; UPDATE {t} SET b = 2 WHERE id = 1; ALTER TABLE {t} DROP n; "
        "UPDATE {t} SET b = 3 WHERE id = 1; ALTER TABLE {t} ALTER b TYPE text; UPDATE {t} SET b = '4' WHERE id = 1",
        versions=4,
    ),
    # What values are told by, and no Relation message tells of.
    Change(
        "enum value",
        "ALTER TYPE {t}_type ADD VALUE 'new'",
        1,
        after=("INSERT INTO {t} VALUES (2, 'older')",),
        late=1,
        **MOOD,
    ),
    Change(
        "enum value used",
        "ALTER TYPE {t}_type ADD VALUE 'new' BEFORE 'older'",
        2,
        after=("INSERT INTO {t} VALUES (2, 'new')",),
        commits=True,
        **MOOD,
    ),
    Change(
        "enum value renamed",
        "ALTER TYPE {t}_type RENAME VALUE 'old' TO 'ancient'",
        2,
        after=("INSERT INTO {t} VALUES (2, 'ancient')",),
        late=1,
        **MOOD,
    ),
    Change(
        "enum to text and its type dropped",
        "ALTER TABLE {t} ALTER m TYPE text; DROP TYPE {t}_type",
        after=("INSERT INTO {t} VALUES (2, 'anything')",),
        late=1,
        **MOOD,
    ),
    Change("domain checked", "ALTER DOMAIN {t}_type ADD CHECK (VALUE > 0)", 1, **AMOUNT),
    Change("domain default", "ALTER DOMAIN {t}_type SET DEFAULT 4", 1, **AMOUNT),
    Change("domain to its base", "ALTER TABLE {t} ALTER n TYPE numeric(6,2)", 1, **AMOUNT),
    # What no consumer can see.
    Change("comment", "COMMENT ON TABLE {t} IS 'x'; COMMENT ON COLUMN {t}.n IS 'y'", 1),
    Change("index", "CREATE INDEX ON {t} (n); CREATE UNIQUE INDEX ON {t} (a)", 1),
    Change("constraints", "ALTER TABLE {t} ADD CHECK (n > 0), ADD UNIQUE (a)", 1),
    Change("storage", "ALTER TABLE {t} ALTER a SET STORAGE EXTERNAL; ALTER TABLE {t} SET (fillfactor = 50)", 1),
    Change("statistics", "ALTER TABLE {t} ALTER n SET STATISTICS 500; ANALYZE {t}", 1),
    Change("rewritten", "CLUSTER {t} USING {t}_pkey", 1),
    Change("security", "ALTER TABLE {t} ENABLE ROW LEVEL SECURITY", 1),
    Change("key constraint renamed", "ALTER TABLE {t} RENAME CONSTRAINT {t}_pkey TO {t}_k", 1),
    Change("add generated", "ALTER TABLE {t} ADD g int GENERATED ALWAYS AS (n * 2) STORED", 1, hidden=("g",)),
]


class Table:
    """A table of its own, with one row."""

    def __init__(self, stream: Stream, change: Change) -> None:
        self.stream, self.change, self.name = stream, change, f"t{next(_NUMBERS)}"
        stream.execute(*self._statements(change.setup), self._of(f"CREATE TABLE {{t}} ({change.columns})"))
        assert self.delivered() == []
        stream.write(self._statements(change.row, 0))
        assert len(self.delivered()) == 1
        stream.settle()

    def _of(self, text: str, number: int = 1) -> str:
        return text.replace("{t}", self.name).replace("{id}", str(number))

    def _statements(self, text: str, number: int = 1) -> list[str]:
        return [self._of(one, number) for one in text.split("; ") if one]

    def write(self, *, together: bool = False) -> list[Row]:
        change = self.change
        statements = self._statements("; ".join((change.row, change.ddl, *change.after)))
        return [self.shown(row) for row in self.stream.write(statements, together=together)]

    def shown(self, row: Row) -> Row:
        return {name: value for name, value in row.items() if name not in self.change.hidden}

    def delivered(self) -> list[Row | None]:
        return [seen.after for seen in self.stream.read() if seen.table == f"public.{self.name}"]

    @property
    def versions(self) -> int:
        return len(self.stream.texts(f"public.{self.name}"))


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.name)
def test_a_change_on_its_own(stream: Stream, change: Change) -> None:
    table = Table(stream, change)
    assert table.write() == table.delivered()
    assert table.versions == change.versions


@pytest.mark.parametrize("change", [one for one in CHANGES if not one.commits], ids=lambda change: change.name)
def test_a_change_in_a_transaction_with_rows(stream: Stream, change: Change) -> None:
    table = Table(stream, change)
    assert table.write(together=True) == table.delivered()
    assert table.versions == change.versions


def test_each_change_while_the_pipeline_is_stopped(stream: Stream) -> None:
    """The catalog knows only what came of it when the first row is read. One stop for all: each costs a start."""
    tables = [Table(stream, change) for change in CHANGES]
    with stream.stopped():
        written = {table.change.name: table.write() for table in tables}
    assert delivered(stream, tables) == written
    assert too_many_versions(tables) == []


def test_each_change_is_read_again_after_a_crash(stream: Stream) -> None:
    tables = [Table(stream, change) for change in CHANGES]
    written = {table.change.name: table.write(together=not table.change.commits) for table in tables}
    assert delivered(stream, tables) == written
    stream.stop()
    stream.start()
    assert delivered(stream, tables) == written
    assert too_many_versions(tables) == []


def delivered(stream: Stream, tables: list[Table]) -> dict[str, list[Row | None]]:
    """What came of each table since, by its change."""
    seen = stream.read()
    return {table.change.name: [one.after for one in seen if one.table == f"public.{table.name}"] for table in tables}


def too_many_versions(tables: list[Table]) -> list[str]:
    return [one.change.name for one in tables if one.versions > one.change.versions + one.change.late]


def test_a_generated_column_that_becomes_ordinary_appears(stream: Stream) -> None:
    stream.execute("CREATE TABLE made (id int PRIMARY KEY, g int GENERATED ALWAYS AS (id * 2) STORED)")
    stream.write(["INSERT INTO made VALUES (1)"])
    stream.write(["ALTER TABLE made ALTER g DROP EXPRESSION", "INSERT INTO made VALUES (2, 7)"], together=True)
    assert [seen.after for seen in stream.read()] == [{"id": 1}, {"id": 2, "g": 7}]
    assert len(stream.texts("public.made")) == 2


@pytest.mark.parametrize("identity", ["DEFAULT", "FULL"])
def test_rows_with_null_from_before_the_column_was_not_null_keep_it(stream: Stream, identity: str) -> None:
    """Read when the catalog says NOT NULL: among others, in old rows, in one column after the other."""
    name = f"late_{identity.lower()}"
    stream.execute(f"CREATE TABLE {name} (id int PRIMARY KEY, a int, b text, c int)")
    stream.execute(f"ALTER TABLE {name} REPLICA IDENTITY {identity}")
    with stream.stopped():
        stream.execute(f"INSERT INTO {name} VALUES (1, 1, 'x', 1), (2, NULL, 'y', 2), (3, 3, NULL, 3), (4, 4, 'z', 4)")
        stream.execute(f"UPDATE {name} SET a = 0 WHERE a IS NULL", f"UPDATE {name} SET b = '' WHERE b IS NULL")
        stream.execute(f"ALTER TABLE {name} ALTER a SET NOT NULL, ALTER b SET NOT NULL")
        stream.execute(f"INSERT INTO {name} VALUES (5, 5, 'five', 5)", f"DELETE FROM {name} WHERE id = 4")
    seen = stream.read()
    assert [tuple(one.after.values()) for one in seen if one.after] == [
        (1, 1, "x", 1),
        (2, None, "y", 2),
        (3, 3, None, 3),
        (4, 4, "z", 4),
        (2, 0, "y", 2),
        (3, 3, "", 3),
        (5, 5, "five", 5),
    ]
    if identity == "FULL":
        assert [tuple(one.value["before"].values()) for one in seen if one.value["before"]] == [
            (2, None, "y", 2),
            (3, 3, None, 3),
            (4, 4, "z", 4),
        ]


def test_a_value_of_a_domain_that_is_gone_when_it_is_read_is_text(stream: Stream) -> None:
    """The stream names the type by a number, and nothing tells any more what that was."""
    stream.execute("CREATE DOMAIN gone AS int", "CREATE TABLE had_gone (id int PRIMARY KEY, n gone)")
    with stream.stopped():
        stream.write(
            ["INSERT INTO had_gone VALUES (1, 7)", "ALTER TABLE had_gone ALTER n TYPE int", "DROP DOMAIN gone"]
        )
        stream.write(["INSERT INTO had_gone VALUES (2, 8)"])
    assert [seen.after for seen in stream.read()] == [{"id": 1, "n": "7"}, {"id": 2, "n": 8}]
