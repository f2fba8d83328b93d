"""What does not fit is refused by name before anything is written; what may go wrong is said."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import conninfo

from pycdc.config.postgres_sink import PostgresSinkConfig
from pycdc.errors import ApplyError, EnvironmentNotReady
from pycdc.operations.doctor.finding import FindingStatus as Status
from pycdc.operations.doctor.routes import target_findings
from pycdc.sinks.postgres.preflight import inspect_target
from tests.sinks.postgres.rig import Rig

pytestmark = pytest.mark.pg(">=15")
T = {"topic": "t", "table": "t"}
BOTH = ({"topic": "parents", "table": "parents"}, {"topic": "children", "table": "children"})


@pytest.fixture
def rig(database: str) -> Iterator[Rig]:
    rig = Rig(database)
    yield rig
    rig.close()


def found(rig: Rig, status: Status, *routes: dict[str, Any], **options: Any) -> str:
    """What doctor says."""
    settings = PostgresSinkConfig.model_validate({"dsn": rig.dsn, "routes": routes, **options})
    findings = target_findings(inspect_target(settings, "back"), "pycdc")
    return "\n".join(f"{one.title} | {one.fix}" for one in findings if one.status is status)


REFUSED = {
    "is generated": "CREATE TABLE t (a int, id int GENERATED ALWAYS AS (a + 1) STORED PRIMARY KEY)",
    "t_u is partial": "CREATE TABLE t (id int); CREATE UNIQUE INDEX t_u ON t (id) WHERE id > 0",
    "t_u is over an expression": "CREATE TABLE t (id int); CREATE UNIQUE INDEX t_u ON t ((id + 0))",
    "t_pkey is deferrable": "CREATE TABLE t (id int PRIMARY KEY DEFERRABLE)",
    "t_u has another collation": 'CREATE TABLE t (id text NOT NULL); CREATE UNIQUE INDEX t_u ON t (id COLLATE "C")',
    "table public.k inherits from": "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE k (n int) INHERITS (t)",
    "rule r of table": "CREATE TABLE t (id int PRIMARY KEY); CREATE RULE r AS ON DELETE TO t DO INSTEAD NOTHING",
}


@pytest.mark.parametrize("fact", REFUSED)
def test_what_cannot_be_written_is_refused_at_the_start_and_found_by_doctor(rig: Rig, fact: str) -> None:
    rig.sql(REFUSED[fact])
    route = {**T, "key": {"id": "id"}}
    with pytest.raises(EnvironmentNotReady, match=fact):
        rig.process(route)
    assert fact in found(rig, Status.FAILED, route)


def test_an_index_that_is_not_valid_is_no_key(rig: Rig) -> None:
    rig.sql("CREATE TABLE t (id int); INSERT INTO t VALUES (1), (1)")
    with pytest.raises(psycopg.errors.UniqueViolation):
        rig.sql("CREATE UNIQUE INDEX CONCURRENTLY t_u ON t (id)")
    with pytest.raises(EnvironmentNotReady, match="t_u is not valid: REINDEX INDEX t_u"):
        rig.process({**T, "key": {"id": "id"}})


@pytest.mark.pg(">=18")
def test_a_key_without_overlaps_is_refused(rig: Rig) -> None:
    rig.sql("CREATE TABLE t (id int4range, during int4range, PRIMARY KEY (id, during WITHOUT OVERLAPS))")
    with pytest.raises(EnvironmentNotReady, match="is WITHOUT OVERLAPS"):
        rig.process(T)


def test_a_mark_that_nothing_takes_back_is_refused(rig: Rig) -> None:
    rig.sql("CREATE TABLE t (id int PRIMARY KEY, gone bool NOT NULL)")
    route = {**T, "on_delete": "soft_delete", "soft_delete": {"gone": True}}
    with pytest.raises(EnvironmentNotReady, match=r"gone of table public\.t marks deleted rows"):
        rig.process(route)
    rig.process({**route, "constants": {"gone": False}})


# Row security.


def as_role(rig: Rig, role: str) -> str:
    rig.sql(f"CREATE ROLE {role} LOGIN PASSWORD 'x'; GRANT CREATE ON DATABASE {rig.connection.info.dbname} TO {role}")
    return conninfo.make_conninfo(rig.dsn, user=role, password="x")


@pytest.fixture
def role(rig: Rig, request: pytest.FixtureRequest) -> Iterator[str]:
    name = f"pycdc_r{abs(hash(request.node.name)) % 10**9}"
    yield name
    rig.sql(f"DROP OWNED BY {name} CASCADE; DROP ROLE {name}")


def test_row_security_that_applies_to_the_role_is_refused_and_a_policy_that_shows_all_is_not(
    rig: Rig, role: str
) -> None:
    rig.sql("CREATE TABLE t (id int PRIMARY KEY, tenant int); INSERT INTO t VALUES (1, 2)")
    rig.sql("ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON t USING (tenant = 1)")
    owner, rig.dsn = rig.dsn, as_role(rig, role)
    rig.sql(f"GRANT SELECT, INSERT, UPDATE, DELETE ON t TO {role}")
    with pytest.raises(EnvironmentNotReady, match=r"row security of table public\.t"):
        rig.process(T)
    assert "BYPASSRLS" in found(rig, Status.FAILED, T)
    rig.sql(f"CREATE POLICY all_of_it ON t TO {role} USING (true) WITH CHECK (true)")
    process = rig.process(T)
    process.feed(("t", {"id": 1}, None))
    assert rig.sql("SELECT * FROM t") == []
    rig.dsn = owner


def test_row_security_that_is_forced_on_the_owner_is_refused(rig: Rig, role: str) -> None:
    rig.dsn = as_role(rig, role)
    rig.sql(f"CREATE TABLE t (id int PRIMARY KEY); ALTER TABLE t OWNER TO {role}")
    rig.sql("ALTER TABLE t ENABLE ROW LEVEL SECURITY; ALTER TABLE t FORCE ROW LEVEL SECURITY")
    with pytest.raises(EnvironmentNotReady, match=r"row security of table public\.t"):
        rig.process(T)


# Triggers.

REFUSES = """CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
'BEGIN IF (coalesce(NEW, OLD)).n = 7 THEN RETURN NULL; END IF; RETURN coalesce(NEW, OLD); END';
CREATE TRIGGER refusing BEFORE INSERT OR UPDATE OR DELETE ON t FOR EACH ROW EXECUTE FUNCTION refuse();"""


@pytest.mark.parametrize("event", ["insert", "update", "delete"])
@pytest.mark.parametrize("conflict", [None, {"default": "apply_remote", "detect": "old_values"}])
def test_a_row_that_a_trigger_keeps_out_is_named_with_its_trigger(
    rig: Rig, event: str, conflict: Any, caplog: pytest.LogCaptureFixture
) -> None:
    rig.sql("CREATE TABLE t (id int PRIMARY KEY, n int)")
    rig.sql(f"INSERT INTO t VALUES (1, 7), (2, 1); {REFUSES}")
    route = T if conflict is None else {**T, "conflict": conflict}
    caplog.set_level(logging.DEBUG)
    process = rig.process(route, on_error="park")
    assert "trigger refusing of table public.t" in caplog.text
    assert "trigger refusing of table public.t" in found(rig, Status.WARNING, route)
    bad = {
        "insert": ({"id": 3}, {"id": 3, "n": 7}),
        "update": ({"id": 1}, {"id": 1, "n": 7}),
        "delete": ({"id": 1}, None),
    }
    process.feed(("t", {"id": 2}, {"id": 2, "n": 5}), ("t", *bad[event]), ("t", {"id": 4}, {"id": 4, "n": 1}))
    assert rig.sql("SELECT error, detail FROM pycdc.parked") == [
        ("NotWritten", "table public.t did not take the row: trigger refusing returned NULL")
    ]
    assert rig.sql("SELECT * FROM t ORDER BY id") == [(1, 7), (2, 5), (4, 1)]


def test_a_trigger_that_leaves_out_updates_which_change_nothing_is_no_error(rig: Rig) -> None:
    rig.sql(
        "CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 1);"
        "CREATE TRIGGER z BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()"
    )
    process = rig.process(T)
    process.feed(("t", {"id": 1}, {"id": 1, "n": 1}), ("t", {"id": 2}, {"id": 2, "n": 2}))
    assert rig.sql("SELECT * FROM t ORDER BY id") == [(1, 1), (2, 2)]


# Columns.


def test_an_identity_that_is_not_the_key_is_given_to_new_rows_and_must_be_the_same_in_old_ones(rig: Rig) -> None:
    rig.sql("CREATE TABLE t (sku text PRIMARY KEY, seq bigint GENERATED ALWAYS AS IDENTITY, n int)")
    process = rig.process(T)
    process.feed(("t", {"sku": "a"}, {"sku": "a", "seq": 5, "n": 1}))
    process.feed(("t", {"sku": "a"}, {"sku": "a", "seq": 5, "n": 2}))
    assert rig.sql("SELECT * FROM t") == [("a", 5, 2)]
    with pytest.raises(ApplyError, match="seq, GENERATED ALWAYS AS IDENTITY, is another"):
        process.feed(("t", {"sku": "a"}, {"sku": "a", "seq": 6, "n": 3}))


def test_a_column_that_a_domain_says_must_be_given_is_known(rig: Rig) -> None:
    rig.sql("CREATE DOMAIN d AS int NOT NULL; CREATE DOMAIN dd AS d; CREATE TABLE t (id int PRIMARY KEY, n dd, v int)")
    rig.sql("INSERT INTO t VALUES (1, 1, 1)")
    route = {**T, "set": {"v": "v"}}
    assert "public.t must be given n" in found(rig, Status.WARNING, route)
    rig.process(route).feed(("t", {"id": 1}, {"id": 1, "v": 2}))
    assert rig.sql("SELECT * FROM t") == [(1, 1, 2)]


def test_money_is_read_with_a_point_whatever_the_servers_locale(rig: Rig) -> None:
    rig.sql("CREATE TABLE t (id int PRIMARY KEY, m money)")
    process = rig.process(T)
    assert process.sink._connection.execute("SHOW lc_monetary").fetchone() == ("C",)
    process.feed(("t", {"id": 1}, {"id": 1, "m": "1234.50"}))
    assert rig.sql("SELECT m::numeric FROM t")[0][0] * 2 == 2469


# Foreign keys.

PARENTS = "CREATE TABLE parents (id int PRIMARY KEY, code text UNIQUE);"


def test_deletes_that_wait_are_told_and_left_to_the_database_where_the_source_tells_nothing(rig: Rig) -> None:
    rig.sql(f"{PARENTS} CREATE TABLE children (id int PRIMARY KEY, p int REFERENCES parents ON DELETE CASCADE)")
    assert "deletes of table public.parents wait" in found(rig, Status.WARNING, *BOTH)
    process = rig.process(*BOTH, referential_actions="act")
    process.feed(("parents", {"id": 1}, {"id": 1, "code": "a"}), ("children", {"id": 2}, {"id": 2, "p": 1}))
    process.feed(("parents", {"id": 1}, None))
    assert rig.sql("SELECT * FROM children") == []


def test_keys_that_the_database_changes_in_another_topics_table_are_refused(rig: Rig) -> None:
    rig.sql(f"{PARENTS} CREATE TABLE children (id int PRIMARY KEY, p text REFERENCES parents (code) ON UPDATE CASCADE)")
    with pytest.raises(EnvironmentNotReady, match="ON UPDATE CASCADE"):
        rig.process(*BOTH)
    assert "ON UPDATE NO ACTION DEFERRABLE" in found(rig, Status.FAILED, *BOTH)


def test_deletes_that_reach_a_table_through_one_that_no_route_writes_are_refused(rig: Rig) -> None:
    rig.sql(
        f"{PARENTS} CREATE TABLE middle (id int PRIMARY KEY, p int REFERENCES parents ON DELETE CASCADE);"
        "CREATE TABLE children (id int PRIMARY KEY, m int REFERENCES middle ON DELETE SET NULL)"
    )
    with pytest.raises(EnvironmentNotReady, match="through a table that no route writes"):
        rig.process(*BOTH)


def test_an_amount_that_is_added_to_null_is_foretold(rig: Rig) -> None:
    rig.sql(
        "CREATE DOMAIN amount AS int NOT NULL DEFAULT 0; CREATE TABLE t (id int PRIMARY KEY, n int, m amount, k int)"
    )
    rig.sql("ALTER TABLE t ALTER k SET NOT NULL")
    route = {**T, "operation": "delta"}
    assert "column n of table public.t may be NULL" in found(rig, Status.WARNING, {**route, "delta": {"n": "x"}})
    assert "may be NULL" not in found(rig, Status.WARNING, {**route, "delta": {"m": "x", "k": "x"}})
    merged = {**T, "conflict": {"default": "apply_remote", "columns": {"n": "delta", "k": "delta"}}}
    assert "ALTER COLUMN n SET DEFAULT 0" in found(rig, Status.WARNING, merged)


def test_a_role_whose_transactions_are_read_only_is_refused_with_the_statement_that_mends_it(rig: Rig) -> None:
    rig.sql("CREATE TABLE t (id int PRIMARY KEY)")
    name = rig.sql("SELECT current_database()")[0][0]
    assert "read_only" not in found(rig, Status.FAILED, T)
    rig.sql(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    told = found(rig, Status.FAILED, T)
    assert f'ALTER DATABASE "{name}" RESET default_transaction_read_only' in told
    with pytest.raises(EnvironmentNotReady, match="default_transaction_read_only is on") as refused:
        rig.process(T)
    assert (refused.value.hint or "") in told
    rig.sql("SET default_transaction_read_only = off")
    rig.sql(refused.value.hint or "")
    rig.process(T)


def test_partitions_are_no_tables_that_inherit(rig: Rig) -> None:
    rig.sql("CREATE TABLE t (id int PRIMARY KEY) PARTITION BY RANGE (id)")
    rig.sql("CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (9)")
    rig.process(T)
