"""The commands against real servers."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import psycopg
import pytest
import yaml

from pycdc.clients.quoting import quoted
from pycdc.config import load_text
from pycdc.config.pipeline import require_capture
from tests.cli.conftest import Invoke
from tests.reading import wait_for
from tests.services.kafka import KafkaAddress
from tests.services.postgres import PostgresServer
from tests.services.registry import RegistryAddress

Write = Callable[[str], str]

TABLES = """
CREATE TABLE users (id int PRIMARY KEY, name text);
CREATE TABLE log (at timestamptz, line text);
CREATE TABLE "Odd: Näme" (id int PRIMARY KEY);
CREATE TABLE part (id int PRIMARY KEY) PARTITION BY RANGE (id);
CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (1000);
INSERT INTO users SELECT g, 'name ' || g FROM generate_series(1, 100) g;
ANALYZE;
"""


def execute(dsn: str, query: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(query.encode())


def slots(dsn: str) -> list[tuple[str, int | None]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(
            "SELECT slot_name, active_pid FROM pg_replication_slots WHERE database = current_database()"
        ).fetchall()


def publications(dsn: str) -> list[str]:
    with psycopg.connect(dsn) as connection:
        return [name for (name,) in connection.execute("SELECT pubname FROM pg_publication").fetchall()]


@pytest.fixture
def shop(database: str) -> str:
    execute(database, TABLES)
    return database


def settings(dsn: str, folder: Path, **more: Any) -> str:
    """A pipeline to nowhere that keeps its position in a file."""
    return yaml.safe_dump(
        {
            "name": "shop",
            "source": {"postgres": {"dsn": dsn, "tables": ["users"], **more.pop("postgres", {})}},
            "sink": {"null": {"format": "json"}},
            "offsets": {"file": {"path": str(folder / "position")}},
            "http": {"port": 0},
            **more,
        }
    )


@contextmanager
def running(*args: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """`pycdc` as a process, ended at the end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "pycdc", *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


class Lines:
    """The lines of a pipe as they come."""

    def __init__(self, pipe: Any) -> None:
        self.text: list[str] = []
        self._thread = threading.Thread(target=self._read, args=(pipe,), daemon=True)
        self._thread.start()

    def _read(self, pipe: Any) -> None:
        for line in pipe:
            self.text.append(line)

    def wait_for(self, fragment: str) -> str:
        wait_for(lambda: any(fragment in line for line in self.text))
        return next(line for line in self.text if fragment in line)


# -- init


def test_init_prints_a_configuration_that_loads(shop: str, invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    result = invoke("init", "--dsn", shop, "--name", "my-shop")
    assert result.exit_code == 0
    monkeypatch.setenv("PYCDC_DSN", shop)
    loaded = require_capture(load_text(result.stdout))
    assert loaded.name == "my-shop"
    assert loaded.source.postgres.tables == ["public.Odd: Näme", "public.part", "public.users"]
    assert loaded.source.postgres.via_partition_root
    assert loaded.source.postgres.dsn.get_secret_value() == shop
    assert shop not in result.stdout
    assert "# key id, ~100 rows" in result.stdout


@pytest.mark.pg("newest")
def test_init_leaves_out_tables_that_capturing_would_do_harm_to(shop: str, invoke: Invoke) -> None:
    result = invoke("init", "--dsn", shop)
    assert re.search(r"^ +# - public\.log +# no key", result.stdout, re.MULTILINE)
    assert 'ALTER TABLE "public"."log" REPLICA IDENTITY FULL' in result.stderr
    execute(shop, 'DROP TABLE users, part, "Odd: Näme"')
    refused = invoke("init", "--dsn", shop)
    assert refused.exit_code == 3
    assert "none has a replica identity that serves" in refused.stderr
    assert 'ALTER TABLE "public"."log" REPLICA IDENTITY FULL' in refused.stderr


@pytest.mark.pg("newest")
def test_init_works_on_an_empty_database(database: str, invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    result = invoke("init", "--dsn", database)
    assert "has no tables yet" in result.stderr
    monkeypatch.setenv("PYCDC_DSN", database)
    assert require_capture(load_text(result.stdout)).source.postgres.tables == ["public.*"]


def test_a_server_that_is_away_exits_without_the_password(invoke: Invoke) -> None:
    result = invoke("init", "--dsn", "host=127.0.0.1 port=1 password=hunter2canary connect_timeout=2")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    assert "hunter2canary" not in result.output


def test_a_dsn_that_is_none_exits_with_2_and_is_not_shown(invoke: Invoke) -> None:
    result = invoke("init", "--dsn", "postgresql://u:hunter2canary@[h/d")
    assert result.exit_code == 2
    assert "hunter2canary" not in result.output


# -- doctor


def test_doctor_finds_a_ready_pipeline_ready(shop: str, invoke: Invoke, config_file: Write, tmp_path: Path) -> None:
    path = config_file(settings(shop, tmp_path))
    result = invoke("doctor", path)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == "ready, with 1 warning"
    assert "role postgres is a superuser" in result.stdout
    assert "✗" not in result.stdout
    report = json.loads(invoke("doctor", path, "--json").stdout)
    assert report["ready"] is True
    assert {finding["group"] for finding in report["findings"]} == {
        "configuration", "postgres", "tables", "publication", "position",
    }  # fmt: skip
    assert slots(shop) == []
    assert publications(shop) == []


@pytest.mark.pg("newest")
def test_doctor_finds_what_would_break(shop: str, invoke: Invoke, config_file: Write, tmp_path: Path) -> None:
    rules = [{"tables": "users", "mask": {"nmae": 3}}]
    path = config_file(settings(shop, tmp_path, postgres={"tables": ["users", "log", "usrs"]}, rules=rules))
    result = invoke("doctor", path)
    assert result.exit_code == 3
    assert "✗ UPDATE and DELETE on public.log fail in the application once it is published" in result.stdout
    assert 'ALTER TABLE "public"."log" REPLICA IDENTITY FULL' in result.stdout
    assert "in:  source.postgres.tables[2]\n      fix: did you mean public.users?" in result.stdout
    assert "✗ a rule hides column 'nmae' of table public.users" in result.stdout
    assert result.stdout.splitlines()[-1].startswith("not ready: 2 of ")


@pytest.mark.pg("newest")
def test_doctor_tells_a_role_what_it_lacks(
    shop: str, postgres: PostgresServer, invoke: Invoke, config_file: Write, tmp_path: Path
) -> None:
    role = f"cdc_{os.getpid()}"
    execute(shop, f"CREATE ROLE {role} LOGIN; GRANT SELECT ON users TO {role}; REVOKE ALL ON users FROM {role}")
    try:
        reader = psycopg.conninfo.make_conninfo(shop, user=role)
        result = invoke("doctor", config_file(settings(reader, tmp_path)))
        assert result.exit_code == 3
        for fix in (
            f'ALTER ROLE "{role}" REPLICATION;',
            f'GRANT SELECT ON "public"."users" TO "{role}";',
            'CREATE PUBLICATION "pycdc_shop" FOR TABLE ONLY "public"."users";',
        ):
            assert fix in result.stdout
        # What doctor prints is all that is needed.
        execute(shop, f"ALTER ROLE {role} REPLICATION; GRANT SELECT ON users TO {role}")
        execute(shop, "CREATE PUBLICATION pycdc_shop FOR TABLE ONLY users")
        mended = invoke("doctor", config_file(settings(reader, tmp_path)))
        assert mended.exit_code == 0, mended.output
    finally:
        execute(shop, f"DROP OWNED BY {role}; DROP ROLE {role}")


@pytest.mark.pg("newest")
def test_doctor_compares_the_stored_position_with_the_slot(
    shop: str, invoke: Invoke, config_file: Write, tmp_path: Path
) -> None:
    path = config_file(settings(shop, tmp_path, postgres={"snapshot": "only"}))
    assert invoke("run", path).exit_code == 0
    good = invoke("doctor", path)
    assert good.exit_code == 0
    assert "streaming goes on at " in good.stdout
    execute(shop, "SELECT pg_drop_replication_slot('pycdc_shop')")
    gone = invoke("doctor", path)
    assert gone.exit_code == 3
    assert "✗ slot pycdc_shop is gone, and with it the changes since" in gone.stdout


@pytest.mark.slow
@pytest.mark.pg("newest")
def test_doctor_goes_on_where_a_server_is_away(invoke: Invoke, config_file: Write) -> None:
    text = """
name: shop
source: {postgres: {dsn: host=127.0.0.1 port=1 password=hunter2canary connect_timeout=2}}
sink: {kafka: {brokers: '127.0.0.1:1', registry: 'http://u:hunter2canary@127.0.0.1:1'}}
"""
    result = invoke("doctor", config_file(text))
    assert result.exit_code == 3
    for path in ("source.postgres.dsn", "sink.kafka.brokers", "sink.kafka.registry"):
        assert f"in:  {path}\n" in result.stdout
    assert "hunter2canary" not in result.output


@pytest.mark.pg("newest")
def test_doctor_asks_brokers_and_registry(
    shop: str, kafka: KafkaAddress, registry: RegistryAddress, topic_prefix: str, invoke: Invoke, config_file: Write
) -> None:
    def text(**topics: Any) -> str:
        sink = {"brokers": kafka.bootstrap, "registry": registry.url, "topics": topics}
        source = {"postgres": {"dsn": shop, "tables": ["users", "part"], "via_partition_root": True}}
        return yaml.safe_dump({"name": topic_prefix, "source": source, "sink": {"kafka": sink}})

    result = invoke("doctor", config_file(text()))
    assert result.exit_code == 0, result.output
    assert "✓ 2 topics can be created" in result.stdout
    assert "✓ the schema registry answers" in result.stdout
    assert not {topic for topic in kafka.topics() if topic.startswith(topic_prefix)}
    off = invoke("doctor", config_file(text(create=False)))
    assert off.exit_code == 3
    assert f"--create --topic {topic_prefix}.public.users" in off.stdout
    impossible = invoke("doctor", config_file(text(replication=7)))
    assert impossible.exit_code == 3
    assert "in:  sink.kafka.topics" in impossible.stdout
    kafka.create_topic(f"pycdc-offsets-{topic_prefix}", config={"min.insync.replicas": "2"})
    unwritable = invoke("doctor", config_file(text()))
    assert unwritable.exit_code == 3
    assert f"2 brokers must confirm one, and pycdc-offsets-{topic_prefix} is on 1" in unwritable.stdout


@pytest.mark.pg("newest")
def test_doctor_and_run_look_at_the_topic_of_parked_rows(
    shop: str, kafka: KafkaAddress, topic_prefix: str, invoke: Invoke, config_file: Write
) -> None:
    """Before any row is parked."""
    kafka_sink = {"brokers": kafka.bootstrap, "format": "json"}
    source = {"dsn": shop, "tables": ["users"], "snapshot": "only"}
    document = {"name": topic_prefix, "source": {"postgres": source}, "sink": {"kafka": kafka_sink}}
    path = config_file(yaml.safe_dump({**document, "rules": [{"tables": "public.users", "on_error": "park"}]}))
    parked = f"{topic_prefix}.parked"
    assert f"topic of parked rows can be created ({parked})" in invoke("doctor", path).stdout
    kafka.create_topic(parked, partitions=2, config={"cleanup.policy": "delete"})
    for command in (("doctor", path), ("run", path)):
        refused = invoke(*command)
        assert refused.exit_code == 3
        assert f"the topic of parked rows {parked} has cleanup.policy=delete" in refused.output
    kafka.delete_topic(parked)
    kafka.create_topic(parked, partitions=2, config={"cleanup.policy": "compact", "min.insync.replicas": "2"})
    found = invoke("doctor", path)
    assert f"{parked} has 2 partitions" in found.stdout
    assert f"2 brokers must confirm one, and {parked} is on 1" in found.stdout


# -- run


def test_run_prints_changes_without_a_file_and_leaves_nothing_behind(shop: str) -> None:
    with running("run", "--dsn", shop, "--table", "users") as process:
        out, err = Lines(process.stdout), Lines(process.stderr)
        out.wait_for('"name 100"')
        execute(shop, "UPDATE users SET name = 'Ada' WHERE id = 7")
        changed = json.loads(out.wait_for('"Ada"'))
        assert (changed["op"], changed["table"], changed["after"]) == ("u", "public.users", {"id": 7, "name": "Ada"})
        assert slots(shop)[0][0] == "pycdc_try"
        process.send_signal(signal.SIGINT)
        assert process.wait(180) == 0
        err.wait_for("dropped slot pycdc_try")
    assert slots(shop) == []
    assert publications(shop) == []


@pytest.mark.pg("newest")
def test_run_without_a_file_keeps_what_was_there(shop: str, invoke: Invoke) -> None:
    kept = invoke("run", "--dsn", shop, "--table", "users", "--snapshot", "only", "--keep", "--sink", "null")
    assert kept.exit_code == 0
    assert [name for name, _ in slots(shop)] == ["pycdc_try"]
    assert invoke("run", "--dsn", shop, "--table", "users", "--snapshot", "only").exit_code == 0
    assert [name for name, _ in slots(shop)] == ["pycdc_try"]


@pytest.mark.pg("newest")
def test_run_without_a_file_refuses_to_break_the_application(shop: str, invoke: Invoke) -> None:
    result = invoke("run", "--dsn", shop, "--table", "log")
    assert result.exit_code == 3
    assert "public.log has no replica identity" in result.stderr
    execute(shop, "INSERT INTO log VALUES (now(), 'a'); UPDATE log SET line = 'b'")
    assert publications(shop) == []


@pytest.mark.pg("newest")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_cleanly_and_says_where(
    shop: str, config_file: Write, tmp_path: Path, invoke: Invoke, number: signal.Signals
) -> None:
    path = config_file(settings(shop, tmp_path))
    with running("run", path, "--log-format", "json") as process:
        err = Lines(process.stderr)
        err.wait_for('"streaming"')
        process.send_signal(number)
        assert process.wait(180) == 0
        stopped = json.loads(err.wait_for('"event": "stopped"'))
    assert stopped["events"] == 100
    status = json.loads(invoke("status", path, "--json").stdout)
    assert stopped["position"] == status["position"]
    assert status["running"] is False


STUCK = """
import sys, time

class Sink:
    def write(self, batch):
        print("took a batch", file=sys.stderr, flush=True)
        time.sleep(600)

    def commit(self, checkpoint):
        return None

    def close(self):
        pass
"""


@pytest.mark.pg("newest")
def test_the_second_signal_exits_at_once(shop: str, config_file: Write, tmp_path: Path) -> None:
    # No polite stop interrupts a sink of the user's own.
    (tmp_path / "stuck.py").write_text(STUCK)
    path = config_file(settings(shop, tmp_path, sink={"custom": {"factory": "stuck:Sink"}}))
    with running("run", path, PYTHONPATH=os.pathsep.join([str(tmp_path), *filter(None, sys.path)])) as process:
        err = Lines(process.stderr)
        err.wait_for("took a batch")
        process.send_signal(signal.SIGTERM)
        err.wait_for("stopping: delivering")
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(180) == 130


@pytest.mark.pg("newest")
def test_metrics_and_health_are_served_while_it_runs(shop: str, config_file: Write, tmp_path: Path) -> None:
    with running("run", config_file(settings(shop, tmp_path)), "--log-format", "json") as process:
        err = Lines(process.stderr)
        url = json.loads(err.wait_for("serving metrics"))["url"]
        err.wait_for('"streaming"')

        def metrics() -> str:
            with urlopen(f"{url}/metrics", timeout=10) as answer:
                return str(answer.read(), "utf-8")

        wait_for(lambda: 'pycdc_events_total{op="r",table="public.users"} 100.0' in metrics())
        wait_for(lambda: "pycdc_slot_retained_bytes" in metrics())
        with urlopen(f"{url}/healthz", timeout=10) as answer:
            assert json.load(answer) == {"healthy": True, "state": "streaming", "reasons": []}


@pytest.mark.pg("newest")
def test_a_port_in_use_ends_it_before_it_starts(shop: str, config_file: Write, tmp_path: Path, invoke: Invoke) -> None:
    with running("run", config_file(settings(shop, tmp_path)), "--log-format", "json") as process:
        url = json.loads(Lines(process.stderr).wait_for("serving metrics"))["url"]
        port = int(url.rpartition(":")[2])
        second = settings(shop, tmp_path, http={"port": port}, name="second")
        result = invoke("run", config_file(second))
    assert result.exit_code == 3
    assert f"error: port {port} on 127.0.0.1 is in use" in result.stderr


@pytest.mark.pg("newest")
def test_an_error_while_running_exits_with_its_code(
    shop: str, config_file: Write, tmp_path: Path, invoke: Invoke
) -> None:
    path = config_file(settings(shop, tmp_path, postgres={"tables": ["nothing"]}))
    result = invoke("run", path)
    assert result.exit_code == 3
    assert "error: no table matches nothing" in result.stderr
    as_json = invoke("run", path, "--log-format", "json")
    assert as_json.exit_code == 3
    last = [json.loads(line) for line in as_json.stderr.splitlines()][-1]
    assert (last["event"], last["error"], last["fact"]) == ("failed", "environment", "no table matches nothing")


# -- status and teardown


def test_status_follows_a_pipeline(shop: str, config_file: Write, tmp_path: Path, invoke: Invoke) -> None:
    path = config_file(settings(shop, tmp_path))

    def status() -> dict[str, Any]:
        result: dict[str, Any] = json.loads(invoke("status", path, "--json").stdout)
        return result

    before = status()
    assert (before["running"], before["position"], before["slot"], before["snapshot"]) == (
        False,
        None,
        None,
        "not done",
    )
    with running("run", path) as process:
        wait_for(lambda: status()["running"] and status()["snapshot"] == "done")
        during = status()
        assert during["pid"]
        assert during["slot"]["name"] == "pycdc_shop"
        assert during["lag_bytes"] is not None
        process.terminate()
        assert process.wait(180) == 0
    shown = invoke("status", path)
    assert shown.exit_code == 0
    assert shown.stdout.startswith("shop: not running\n")
    assert f"stored position  {status()['position']}\n" in shown.stdout
    execute(shop, "SELECT pg_drop_replication_slot('pycdc_shop')")
    assert "problem          slot pycdc_shop is gone" in invoke("status", path).stdout


def test_teardown_removes_slot_publication_and_position(
    shop: str, config_file: Write, tmp_path: Path, invoke: Invoke
) -> None:
    path = config_file(settings(shop, tmp_path, postgres={"snapshot": "only"}))
    assert invoke("run", path).exit_code == 0
    assert (tmp_path / "position").exists()
    result = invoke("teardown", path, "--yes")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "dropped slot pycdc_shop",
        "dropped publication pycdc_shop",
        "removed the stored position",
    ]
    assert slots(shop) == []
    assert publications(shop) == []
    assert not (tmp_path / "position").exists()
    again = invoke("teardown", path, "--yes")
    assert again.exit_code == 0
    assert "slot pycdc_shop did not exist" in again.stdout


@pytest.mark.pg("newest")
def test_teardown_refuses_while_the_pipeline_runs_unless_forced(
    shop: str, config_file: Write, tmp_path: Path, invoke: Invoke
) -> None:
    path = config_file(settings(shop, tmp_path))
    with running("run", path) as process:
        wait_for(lambda: slots(shop) and slots(shop)[0][1])
        # A client that hangs; one that is alive would come back.
        process.send_signal(signal.SIGSTOP)
        refused = invoke("teardown", path, "--yes")
        assert refused.exit_code == 3
        assert "slot pycdc_shop is being read" in refused.stderr
        assert publications(shop) == ["pycdc_shop"]
        forced = invoke("teardown", path, "--yes", "--force")
        assert forced.exit_code == 0
        assert "dropped slot pycdc_shop" in forced.stdout
        assert slots(shop) == []


@pytest.mark.pg("newest")
def test_teardown_leaves_a_publication_that_is_managed_by_others(
    shop: str, config_file: Write, tmp_path: Path, invoke: Invoke
) -> None:
    execute(shop, "CREATE PUBLICATION pycdc_shop FOR TABLE users")
    path = config_file(settings(shop, tmp_path, postgres={"manage_publication": False}))
    result = invoke("teardown", path, "--yes")
    assert "kept publication pycdc_shop: manage_publication is off" in result.stdout
    assert publications(shop) == ["pycdc_shop"]


def test_teardown_without_a_terminal_needs_yes(config_file: Write, tmp_path: Path, invoke: Invoke) -> None:
    result = invoke("teardown", config_file(settings("host=127.0.0.1", tmp_path)))
    assert result.exit_code == 2
    assert "give --yes" in result.stderr


def test_teardown_asks_on_a_terminal(
    config_file: Write, tmp_path: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pycdc.cli.teardown._on_terminal", lambda: True)
    result = invoke("teardown", config_file(settings("host=127.0.0.1 port=1", tmp_path)), stdin="n\n")
    assert result.exit_code == 130
    assert "Drop slot pycdc_shop, publication pycdc_shop and the stored position of shop?" in result.output


def test_names_of_strangers_act_neither_on_the_terminal_nor_in_a_remedy(
    database: str, invoke: Invoke, config_file: Write, tmp_path: Path
) -> None:
    name = 'a\n      fix: ALTER ROLE mallory SUPERUSER; \x1b[2J \u202e "b'
    execute(database, f"CREATE TABLE {quoted(name)} (id int)")
    path = config_file(settings(database, tmp_path, postgres={"tables": ["*.*"]}))
    for command in (
        ["doctor", path],
        ["doctor", "--json", path],
        ["apply", "--check", path],
        ["init", "--dsn", database],
    ):
        printed = invoke(*command).output
        assert all(line.isprintable() for line in printed.split("\n")), command
        assert not re.search(r"^\s*fix: ALTER ROLE mallory", printed, re.MULTILINE)
    findings = json.loads(invoke("doctor", "--json", path).stdout)["findings"]
    remedy = next(f["fix"] for f in findings if f["status"] == "failed" and "REPLICA IDENTITY FULL" in f["fix"])
    execute(database, re.search(r"^(ALTER TABLE .* REPLICA IDENTITY FULL;)", remedy)[1])  # type: ignore[index]
    assert "UPDATE and DELETE on" not in invoke("doctor", path).output.replace("UPDATE and DELETE go on", "")
