"""A decommission with real servers: who uses the old tables, what goes, and what a kill leaves to do."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import psycopg
import pytest
from confluent_kafka import Consumer, TopicPartition

from pycdc.config.pipeline import require_capture
from tests.operations.cutover.test_cutover import FACADE
from tests.operations.decommission.conftest import Closed, ClosedGroup
from tests.reading import wait_for
from tests.running import Running

pytestmark = [pytest.mark.server, pytest.mark.pg("newest")]

THERE_FIRST = {"slot", "publication", "position", "rows", "replication origin", "consumer group", "topic", "table"}


def test_everything_goes_and_what_goes_was_archived(closed: Closed) -> None:
    group = closed(archive="archive")
    before = group.rows("old", "SELECT * FROM moves ORDER BY id"), group.rows("old", "SELECT * FROM stock")
    code, plan = group.command("--dry-run")
    assert (code, plan["status"]) == (0, "ready"), plan
    assert {one["kind"] for one in plan["found"]} >= THERE_FIRST
    assert not (group.world.folder / "archive").exists()

    code, report = group.command()
    assert (code, report["status"], report["left"], report["kept"]) == (0, "decommissioned", [], [])
    assert group.remnants() == []
    assert {(one["kind"], one["name"]) for one in plan["found"]} <= {(r["kind"], r["name"]) for r in report["removed"]}
    assert {one["table"]: one["rows"] for one in report["archived"]} == {"public.stock": 20, "public.moves": 0}
    restore(group, group.world.folder / "archive")
    assert before == (
        group.rows("old", "SELECT * FROM moves ORDER BY id"),
        group.rows("old", "SELECT * FROM stock"),
    )
    group.execute("old", "DROP TABLE stock, moves")
    assert group.command() == (0, {**report, "gates": [], "removed": [], "archived": []})
    assert group.rows("new", "SELECT count(*) FROM items") == [(20,)]


def restore(group: ClosedGroup, folder: Path) -> None:
    with psycopg.connect(group.world.dsns["old"], autocommit=True) as connection:
        for table in ("stock", "moves"):
            connection.execute((folder / f"public.{table}.sql").read_bytes())
            statement = f"COPY {table} FROM STDIN (FORMAT csv, HEADER)".encode()
            with connection.cursor() as cursor, cursor.copy(statement) as copy:
                copy.write(gzip.decompress((folder / f"public.{table}.csv.gz").read_bytes()))


def test_nothing_goes_while_somebody_uses_it(closed: Closed, topic_prefix: str) -> None:
    """Each use closes its own question. With all of them at once nothing has gone."""
    group = closed({"facade": FACADE, "routes": ["adjust"], "reads": ["read"]})
    old, before = group.world.dsns["old"], group.remnants()
    for statement in (
        "CREATE VIEW low AS SELECT sku FROM stock WHERE on_hand < 5",
        "CREATE MATERIALIZED VIEW sums AS SELECT sku, sum(pieces) FROM moves GROUP BY sku",
        "CREATE TABLE orders (sku text REFERENCES stock)",
        "CREATE TABLE logs (id bigint DEFAULT nextval('moves_id_seq'))",
        "CREATE FUNCTION of_stock() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM Stock'",
        "CREATE FUNCTION restocked() RETURNS bigint LANGUAGE sql AS 'SELECT 1'",
        "CREATE PUBLICATION others FOR TABLE stock",
    ):
        group.execute("old", statement)
    readers = Consumer({"bootstrap.servers": group.brokers, "group.id": f"{topic_prefix}-analytics"})
    topic = group.world.topics()[0]
    readers.commit(offsets=[TopicPartition(topic, 0, 0)], asynchronous=False)
    readers.close()
    with psycopg.connect(old) as session:
        session.execute("SELECT count(*) FROM stock")
        backend = session.info.backend_pid
        report = group.run()
    assert report.status == "in use"
    closed_gates = {gate.name: gate.reason for gate in report.gates if not gate.open}
    assert closed_gates.pop("views") == "public.low, public.sums"
    assert closed_gates.pop("foreign keys") == "constraint orders_sku_fkey on table public.orders"
    assert closed_gates.pop("dependents") == "default value for column id of table public.logs"
    assert closed_gates.pop("functions") == "public.of_stock()"
    assert closed_gates.pop("publications") == "others"
    assert closed_gates.pop("routes").startswith("read, adjust of the façade are not all at the new system")
    assert "analytics reads" in closed_gates.pop(f"topics {group.world.pipelines['capture'].config.name}")
    assert f"pid {backend} " in closed_gates.pop("sessions")
    assert not closed_gates
    assert set(before) <= set(group.remnants())


def test_tables_are_watched_from_a_date_and_anew_after_each_use(closed: Closed) -> None:
    group = closed(quiet=0.5)
    assert group.run().status == "watched"
    scans = "SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'stock'"
    (before,) = group.rows("old", scans)
    group.execute("old", "SELECT count(*) FROM stock")
    wait_for(lambda: group.rows("old", scans) > [before])
    report = group.run()
    assert report.status == "in use"
    (reads,) = (gate.reason for gate in report.gates if gate.name == "reads")
    assert reads.startswith("read since ")
    assert "public.stock 1 times" in reads
    wait_for(lambda: group.run().status == "decommissioned")


def closed_names(group: ClosedGroup) -> set[str]:
    return {gate.name for gate in group.plan().gates if not gate.open}


def test_an_open_group_and_pipelines_that_run_keep_everything(closed: Closed) -> None:
    group = closed()
    group.execute(
        "new", "UPDATE pycdc_cutover.groups SET version = 2, state = jsonb_set(state, '{stage}', '\"watching\"')"
    )
    with Running(json.loads((group.world.folder / "reverse_apply.json").read_text())) as running:
        running.until(lambda: closed_names(group) >= {"group", "pipelines"})
        before = group.remnants()
        assert group.run(now=True, ignored=["reads", "sessions", "functions"]).status == "in use"
        assert set(before) <= set(group.remnants())


def test_a_pipeline_that_works_for_others_too_stays(closed: Closed) -> None:
    group = closed()
    capture = require_capture(group.world.pipelines["capture"].config)
    group.execute("old", "CREATE TABLE orders (id int PRIMARY KEY)")
    group.execute("old", f"ALTER PUBLICATION {capture.publication} ADD TABLE orders")
    report = group.run()
    assert (report.status, report.left) == ("decommissioned", [])
    (kept,) = report.kept
    assert (kept.kind, kept.name) == ("capture", capture.name)
    assert "public.orders" in kept.reason
    assert "public.stock" in kept.reason
    left = group.remnants()
    assert f"old slot {capture.slot}" in left
    assert not [one for one in left if one.startswith("new ") or one.endswith((".stock", ".moves"))]


def test_roles_go_unless_they_own_something(closed: Closed, topic_prefix: str) -> None:
    mine, theirs = (f"{topic_prefix}_{name}".replace("-", "_") for name in ("mine", "theirs"))
    group = closed(old_roles=[mine, theirs], new_roles=[mine])
    for statement in (f"CREATE ROLE {mine}", f"CREATE ROLE {theirs}", f"GRANT SELECT ON stock TO {mine}"):
        group.execute("old", statement)
    group.execute("new", f"GRANT SELECT ON items TO {mine}")
    group.execute("old", f"CREATE TABLE owned (id int); ALTER TABLE owned OWNER TO {theirs}")
    report = group.run()
    assert report.status == "left"
    assert [(one.kind, one.name) for one in report.left] == [("role", theirs)]
    assert "owns something" in report.left[0].reason
    group.execute("old", "DROP TABLE owned")
    assert group.run().status == "decommissioned"
    assert group.remnants() == []


KILLER = """
import os, signal, sys
from collections import Counter
from pycdc.operations.cutover.opening import opened_group
from pycdc.clients.kafka_inspection import TopicInspection
from pycdc.connectors.postgres.catalog.slots_and_publications import Admin
from pycdc.offsets.kafka import KafkaOffsetStore
from pycdc.operations.cutover import fence
from pycdc.operations.decommission import commands, tables
from pycdc.operations.decommission.commands import Decommission
from pycdc.sinks.postgres.bookkeeping import inspection

EFFECTS = (
    (Admin, "drop_slot"), (Admin, "drop_publication"), (KafkaOffsetStore, "clear"),
    (inspection, "_drop_origin"), (inspection._StateTables, "drop"),
    (TopicInspection, "delete_group"), (TopicInspection, "delete_topics"),
    (tables, "archive"), (tables.TableRemnants, "remove"), (fence, "remove"), (fence, "uninstall"),
    (commands, "write_progress"), (commands, "_forget_in"), (commands, "_drop_schema"),
)
kills = Counter()

def killed_behind(name, original):
    def once(*args, **options):
        result = original(*args, **options)
        if kills[name] < 2:  # of some effects there are two, and some are undone by the kill
            os.write(told, name.encode())
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    return once

def run():
    for owner, name in EFFECTS:
        setattr(owner, name, killed_behind(name, getattr(owner, name)))
    with opened_group(sys.argv[1], "inventory") as opened:
        status = Decommission(*opened).run().status
    os._exit(0 if status == "decommissioned" else 1)

while True:
    hears, told = os.pipe()
    pid = os.fork()  # nothing runs in this process yet that a fork would break
    if pid == 0:
        run()
    os.close(told)
    name = os.read(hears, 100).decode()
    os.close(hears)
    _, code = os.waitpid(pid, 0)
    if not os.WIFSIGNALED(code):
        sys.exit(os.waitstatus_to_exitcode(code))
    print(name, flush=True)
    kills[name] += 1
"""


@pytest.mark.slow
def test_a_kill_behind_any_step_is_gone_on_from(closed: Closed) -> None:
    """Each run is killed behind the first thing that it changes, until one has nothing left to change."""
    group = closed(archive="archive")
    program = [sys.executable, "-c", KILLER, str(group.world.path)]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    kills = Counter(done.stdout.split())
    assert len(kills) == 13, kills
    assert kills["drop_slot"] == 2
    assert group.remnants() == []
    restore(group, group.world.folder / "archive")
    assert group.rows("old", "SELECT count(*) FROM stock") == [(20,)]
