"""Neither secrets nor rows show up where they have no business: logs, errors, tracebacks, status, process lists.

Each scenario runs a pipeline in a process of its own with every logger on, DEBUG, and everything printed that a program
may print of it (`tests.talkative`). Then all that it and the commands said is searched for canaries: the secrets of the
configuration and the values of a table that has a column of every type family.
"""

from __future__ import annotations

import json
import signal
import threading
import traceback
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner
from confluent_kafka.admin import AdminClient, NewTopic
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from psycopg import sql
from psycopg.conninfo import make_conninfo

import pycdc
from pycdc.cli import main as pycdc_command
from pycdc.config import load_text, validate_capture
from pycdc.model.change import LogicalMessage, Lsn
from tests.reading import PATIENCE, wait_for
from tests.services.process import free_port
from tests.vault import SECRETS, Vault, leaks


@pytest.fixture
def vault(database: str, kafka: Any, registry: Any, topic_prefix: str, tmp_path: Path) -> Iterator[Vault]:
    vault = Vault(database, kafka.bootstrap, registry.url, topic_prefix, tmp_path)
    yield vault
    vault.close()


# -- ways to fail; each says what must be heard of it, so that a scenario that misses its error is noticed

Scenario = Callable[[Vault], str]
SCENARIOS: dict[str, Scenario] = {}


def scenario(way: Scenario) -> Scenario:
    SCENARIOS[way.__name__] = way
    return way


@scenario
def wrong_password(vault: Vault) -> str:
    with password_wanted(vault.dsn, role := f"guarded_{vault.name}"):
        dsn = make_conninfo(vault.dsn, user=role, password=SECRETS["dsn"])
        vault.run_to_the_end(vault.document(source={"dsn": dsn}), ask=True)
    return "password authentication failed"


@scenario
def unknown_host(vault: Vault) -> str:
    dsn = f"postgresql://user:{SECRETS['dsn']}@nowhere.invalid/shop"
    vault.run_to_the_end(vault.document(source={"dsn": dsn}), ask=True)
    return "nowhere.invalid"


@scenario
def at_sign_in_the_password(vault: Vault) -> str:
    vault.run_to_the_end(
        vault.document(source={"dsn": f"postgresql://user:a@{SECRETS['dsn']}@127.0.0.1/shop"}), ask=True
    )
    return "%-encode"


@scenario
def slash_in_the_password(vault: Vault) -> str:
    vault.run_to_the_end(
        vault.document(source={"dsn": f"postgresql://user:{SECRETS['dsn']}/a@127.0.0.1/shop"}), ask=True
    )
    return "%-encode"


@scenario
def space_in_the_password(vault: Vault) -> str:
    vault.run_to_the_end(vault.document(source={"dsn": f"{vault.dsn} password=a {SECRETS['dsn']}"}), ask=True)
    return "not a connection string"


@scenario
def malformed_dsn_of_the_offsets(vault: Vault) -> str:
    offsets = {"postgres": {"dsn": f"{vault.dsn} password=a {SECRETS['dsn']}"}}
    vault.run_to_the_end(vault.document(offsets=offsets), ask=True)
    return "not a connection string"


@scenario
def value_without_representation(vault: Vault) -> str:
    vault.insert("refused", n="NaN")
    vault.run_to_the_end(vault.document())
    return "cannot express"


@scenario
def value_without_representation_in_the_stream(vault: Vault) -> str:
    vault.run_until(vault.document(), "first")
    vault.insert("refused", n="NaN")
    vault.run_to_the_end(vault.document())
    return "cannot express"


@scenario
def value_that_a_row_filter_cannot_take(vault: Vault) -> str:
    vault.execute(f"CREATE PUBLICATION pycdc_{vault.name} FOR TABLE vault WHERE (timezone(id, c22) > '2000-01-01')")
    vault.execute("ALTER TABLE vault REPLICA IDENTITY FULL")
    vault.run_to_the_end(vault.document())
    return "cannot process a value"


@scenario
def value_that_a_row_filter_cannot_take_in_the_stream(vault: Vault) -> str:
    vault.execute(f"CREATE PUBLICATION pycdc_{vault.name} FOR TABLE vault WHERE (timezone(id, c22) > '2000-01-01')")
    vault.execute(f"SELECT pg_create_logical_replication_slot('pycdc_{vault.name}', 'pgoutput')")
    vault.insert("second")
    vault.run_to_the_end(vault.document(source={"snapshot": "never"}))
    return "cannot process a value"


@scenario
def key_that_the_old_row_does_not_hold(vault: Vault) -> str:
    vault.run_until(vault.document(), "first")
    vault.execute("DELETE FROM vault")
    vault.run_to_the_end(vault.document())
    return "do not hold the message key"


@scenario
def record_too_large(vault: Vault) -> str:
    topics = {"settings": {"max.message.bytes": "2000"}}
    vault.execute("UPDATE vault SET c0 = repeat('ValueCanaryLong', 1000)")
    vault.run_to_the_end(vault.document(kafka={"topics": topics}, options={"compression.type": "none"}))
    return "more than topic"


@scenario
def record_that_the_broker_finds_too_large(vault: Vault) -> str:
    topic = NewTopic(vault.topic, 1, config={"max.message.bytes": "300"})
    admin = AdminClient({"bootstrap.servers": vault.brokers})
    admin.create_topics([topic])[vault.topic].result()
    vault.run_to_the_end(vault.document())
    return "bytes"


@scenario
def schema_that_the_registry_refuses(vault: Vault) -> str:
    other = {"type": "record", "name": "Other", "fields": [{"name": "must", "type": "int"}]}
    with closing(SchemaRegistryClient({"url": vault.registry})) as client:
        client.register_schema(f"{vault.topic}-value", Schema(json.dumps(other), "AVRO"))
        client.set_compatibility(f"{vault.topic}-value", "FULL")
    vault.run_to_the_end(vault.document(), ask=True)
    return "refuses the new schema"


@scenario
def schema_that_must_be_there(vault: Vault) -> str:
    vault.run_to_the_end(vault.document(registry={"register_schemas": False}))
    return "does not know this schema"


@scenario
def registry_down(vault: Vault) -> str:
    registry = {"url": f"http://user:{SECRETS['registry']}@127.0.0.1:{free_port()}", "timeout": 0.5}
    vault.run_to_the_end(vault.document(registry={**registry, "username": None, "password": None}), ask=True)
    return "is out of reach"


@scenario
def registry_of_a_wrong_url(vault: Vault) -> str:
    registry = {"url": f"http://user:{SECRETS['registry']}@[::1", "username": None, "password": None}
    vault.run_to_the_end(vault.document(registry=registry), ask=True)
    return "registry's settings cannot be used"


@scenario
def registry_that_denies(vault: Vault) -> str:
    with denying_registry() as url:
        vault.run_to_the_end(vault.document(registry={"url": url}), ask=True)
    return "denies access"


@scenario
def brokers_down_or_without_passwords(vault: Vault) -> str:
    down = vault.document(kafka={"brokers": f"127.0.0.1:{free_port()}"}, offsets=file(vault))
    sasl = {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN"}
    without = vault.document(
        options=sasl, source={"slot": "another"}, offsets={"file": {"path": f"{vault.folder}/other"}}
    )
    # Both mostly wait, so they do it at the same time.
    processes = [vault.start(document) for document in (down, without)]
    vault.ask(without)
    assert [process.wait(PATIENCE) for process in processes] == [1, 1], vault.log()
    assert vault.log().count("no broker at") > 1
    return "no broker at"


@scenario
def key_that_is_none(vault: Vault) -> str:
    options = {"security.protocol": "SSL", "ssl.key.pem": f"-----BEGIN {SECRETS['sasl']}-----"}
    vault.run_to_the_end(vault.document(options=options, offsets=file(vault)), ask=True)
    return "librdkafka refuses the"


@scenario
def password_in_the_place_of_another_option(vault: Vault) -> str:
    vault.run_to_the_end(vault.document(options={"linger.ms": SECRETS["sasl"]}, offsets=file(vault)), ask=True)
    return "librdkafka refuses the"


@scenario
def password_in_the_place_of_the_protocol(vault: Vault) -> str:
    vault.run_to_the_end(vault.document(options={"security.protocol": SECRETS["sasl"]}), ask=True)
    return "librdkafka refuses the"


@scenario
def slot_dropped(vault: Vault) -> str:
    vault.run_until(vault.document(), "first")
    vault.execute("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE NOT active")
    vault.run_to_the_end(vault.document(), ask=True)
    return "is gone"


@scenario
def publication_dropped(vault: Vault) -> str:
    vault.run_until(vault.document(), "first")
    vault.execute(f"DROP PUBLICATION pycdc_{vault.name}")
    vault.insert("second")
    vault.run_to_the_end(vault.document(), ask=True)
    return "publication"


@scenario
def offsets_that_violate_a_constraint(vault: Vault) -> str:
    refuse_offsets(vault, "unique_violation")
    vault.run_to_the_end(vault.document(offsets={"postgres": {}}))
    return "unique"


@scenario
def offsets_that_a_trigger_refuses(vault: Vault) -> str:
    refuse_offsets(vault, "raise_exception")
    vault.run_to_the_end(vault.document(offsets={"postgres": {}}), ask=True)
    return "P0001"


@scenario
def offsets_that_are_none(vault: Vault) -> str:
    path = vault.folder / "position"
    path.write_text("ValueCanary, not a position")
    vault.run_to_the_end(vault.document(offsets=file(vault)), ask=True)
    return "position"


@scenario
def rule_for_a_column_that_is_gone(vault: Vault) -> str:
    vault.execute("ALTER TABLE vault RENAME c1 TO other")
    vault.run_to_the_end(vault.document(), ask=True)
    return "hides column"


@scenario
def hash_of_a_number(vault: Vault) -> str:
    rules = [{"tables": "vault", "hash": [{"columns": ["c11"], "salt": SECRETS["salt"]}]}]
    vault.run_to_the_end(vault.document(rules=rules))
    return "cannot be masked"


@scenario
def sink_that_is_none(vault: Vault) -> str:
    custom = {"custom": {"factory": "nowhere.at:all", "options": {"password": SECRETS["sasl"]}}}
    vault.run_to_the_end(vault.document(sink=custom))
    return "cannot be imported"


@scenario
def sink_that_fails(vault: Vault) -> str:
    custom = {"custom": {"factory": "tests.test_secrecy:FailingSink", "options": {"password": SECRETS["sasl"]}}}
    vault.run_to_the_end(vault.document(sink=custom))
    return "the sink is broken"


@scenario
def terminated_walsender(vault: Vault) -> str:
    process = vault.start(vault.document(retries={"max_delay": 0.3}))
    vault.wait_for("first")
    wait_for(lambda: vault.execute("SELECT 1 FROM pg_stat_replication"))
    vault.execute(
        "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots "
        "WHERE active AND database = current_database()"
    )
    vault.insert("second")
    vault.wait_for("second")
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE) == 0
    vault.ask(vault.document())
    return "rewinding to the stored position"


@pytest.mark.pg("==15")
@pytest.mark.parametrize("name", SCENARIOS)
def test_no_error_shows_a_secret_or_a_value(vault: Vault, name: str) -> None:
    heard = SCENARIOS[name](vault)
    said = vault.log() + "".join(vault.said)
    assert heard in said, said
    assert leaks(said) == []


# -- what scenarios are made of


class FailingSink:
    """A user's sink that raises; `password` is one of its options."""

    def __init__(self, password: str) -> None:
        self._password = password

    def write(self, batch: pycdc.Batch) -> None:
        if batch.runs:
            raise pycdc.DeliveryError(f"the sink is broken: {batch!r} {next(iter(batch))!r} {batch.runs[0]!r}")

    def commit(self, checkpoint: pycdc.Checkpoint) -> None:
        """Nothing to keep."""


def file(vault: Vault) -> dict[str, Any]:
    return {"file": {"path": str(vault.folder / "position")}}


@contextmanager
def password_wanted(dsn: str, role: str) -> Iterator[None]:
    """A role that needs a password, which nobody knows: pg_hba.conf is written through the server itself."""
    name = sql.Identifier(role)
    with psycopg.connect(dsn, autocommit=True) as connection:
        row = connection.execute(
            "SELECT setting, pg_read_file(setting) FROM pg_settings WHERE name = 'hba_file'"
        ).fetchone()
        assert row is not None
        path, before = row

        def write(text: str) -> None:
            # COPY in CSV, with quotes and delimiters that no line has, writes lines as they are.
            lines = [line for line in text.splitlines() if line and not line.startswith("#")]
            copy = sql.SQL("COPY (SELECT unnest({}::text[])) TO {} (FORMAT csv, QUOTE E'\\x01', DELIMITER E'\\x02')")
            connection.execute(copy.format(sql.Literal(lines), sql.Literal(path)))
            connection.execute("SELECT pg_reload_conf()")

        connection.execute(sql.SQL("CREATE ROLE {} LOGIN SUPERUSER PASSWORD 'another one'").format(name))
        write(f"host all {role} all scram-sha-256\n{before}")
        try:
            wait_for(
                lambda: (
                    connection.execute(
                        "SELECT count(*) FROM pg_hba_file_rules WHERE %s = ANY (user_name)", [role]
                    ).fetchone()
                    == (1,)
                )
            )
            yield
        finally:
            write(before)
            connection.execute(sql.SQL("DROP ROLE {}").format(name))


@contextmanager
def denying_registry() -> Iterator[str]:
    """Answers 401 to everything, and quotes the credentials that it got."""

    class Denying(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.dumps({"error_code": 401, "message": f"{self.headers['Authorization']} {SECRETS['registry']}"})
            self.send_response(401)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        do_GET = do_POST

        def log_message(self, *args: Any) -> None:
            """Not in the tests' output."""

    with HTTPServer(("127.0.0.1", 0), Denying) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def refuse_offsets(vault: Vault, condition: str) -> None:
    vault.execute(
        "CREATE TABLE pycdc_offsets (name text PRIMARY KEY, position pg_lsn NOT NULL, index bigint NOT NULL, "
        "source jsonb NOT NULL, checkpoint text NOT NULL, stored_at timestamptz NOT NULL DEFAULT now())"
    )
    vault.execute(
        f"""CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            RAISE {condition} USING MESSAGE = 'a unique thing', DETAIL = 'Key (ssn)=(ValueCanaryDetail) exists';
            END $$"""
    )
    vault.execute("CREATE TRIGGER refuse BEFORE INSERT ON pycdc_offsets FOR EACH ROW EXECUTE FUNCTION refuse()")


# -- the usual run


@pytest.mark.pg("==15")
def test_a_run_shows_neither_secrets_nor_values(vault: Vault) -> None:
    document = vault.document(http={"port": free_port(), "token": SECRETS["token"]})
    process = vault.start(document, "pycdc", "--debug", "run", "--log-format", "json")
    vault.wait_for("first")
    vault.insert("second")
    vault.execute("UPDATE vault SET n = 2")
    vault.execute("SELECT pg_logical_emit_message(true, 'prefix', 'ValueCanaryMessage')")
    vault.wait_for("second")
    port = document["http"]["port"]
    for path in ("/metrics", "/healthz", "/nothing"):
        for token in (SECRETS["token"], "wrong"):
            vault.said.append(fetched(f"http://127.0.0.1:{port}{path}", token))
    assert "pycdc_" in vault.said[0]
    assert '"healthy": true' in vault.said[2]
    vault.said += command_lines(process.pid)
    vault.ask(document)
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE) == 0, vault.log()
    said = vault.log() + "".join(vault.said)
    assert "stored the position" in said, "the debug log is on"
    assert leaks(said) == []


def fetched(url: str, token: str) -> str:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return f"{answer.headers}{answer.read().decode()}"
    except urllib.error.HTTPError as error:
        with error:
            return f"{error.headers}{error.read().decode()}"


def command_lines(pid: int) -> list[str]:
    """Of a process and its children, as `ps` shows them."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [Path(f"/proc/{number}/cmdline").read_text() for number in (pid, *children)]


# -- configurations that are refused

Change = Callable[[dict[str, Any]], object]
MISTAKES: dict[str, Change] = {
    "a dsn that is a list": lambda d: d["source"]["postgres"].update(dsn=[SECRETS["dsn"]]),
    "a dsn that is a section": lambda d: d["source"]["postgres"].update(dsn={"password": SECRETS["dsn"]}),
    "a dsn for a section": lambda d: d["source"].update(postgres=SECRETS["dsn"]),
    "a password for a number": lambda d: d["checkpoint"].update(interval=SECRETS["dsn"]),
    "a password for a word": lambda d: d["source"]["postgres"].update(snapshot=SECRETS["dsn"]),
    "a password for a slot": lambda d: d["source"]["postgres"].update(slot=SECRETS["dsn"]),
    "a password for the name": lambda d: d.update(name=SECRETS["dsn"] + " !"),
    "a password that is a list": lambda d: d["sink"]["kafka"]["registry"].update(password=[SECRETS["registry"]]),
    "a registry that is a list": lambda d: d["sink"]["kafka"].update(registry=[SECRETS["registry"]]),
    "options that are text": lambda d: d["sink"]["kafka"].update(options=SECRETS["sasl"]),
    "an option that is a list": lambda d: d["sink"]["kafka"]["options"].update({"sasl.password": [SECRETS["sasl"]]}),
    "an option that is a section": lambda d: d["sink"]["kafka"]["options"].update({"ssl.ca": {"a": SECRETS["sasl"]}}),
    "a salt that is a number's list": lambda d: d["rules"][0]["hash"][0].update(salt=[SECRETS["salt"]]),
    "a salt in the wrong place": lambda d: d["rules"][0].update(salt=SECRETS["salt"]),
    "a token beyond loopback": lambda d: d["http"].update(host="0.0.0.0", token=None, port=SECRETS["token"]),
    "a token in the wrong place": lambda d: d.update(token=SECRETS["token"]),
    "two sinks": lambda d: d["sink"].update(custom={"factory": SECRETS["sasl"], "options": {"p": SECRETS["sasl"]}}),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_configuration_that_is_refused_is_not_quoted(mistake: str, tmp_path: Path) -> None:
    document = config_with_secrets()
    MISTAKES[mistake](document)
    said = []
    for attempt in (
        lambda: validate_capture(document),
        lambda: load_text(json.dumps(document)),
        lambda: pycdc.Pipeline(document),
    ):
        with pytest.raises(pycdc.ConfigError) as caught:
            attempt()
        said += [str(caught.value), repr(caught.value), "".join(traceback.format_exception(caught.value))]
    path = tmp_path / "shop.yaml"
    path.write_text(json.dumps(document))
    result = CliRunner().invoke(pycdc_command, ["--debug", "run", str(path)])
    assert result.exit_code == 2
    assert leaks("\n".join([*said, result.output])) == []


YAML = [
    "source: {postgres: {dsn: 'host=a password=DsnCanary7Qf}}",
    "source:\n  postgres:\n    dsn: postgresql://u:DsnCanary7Qf@h/d: x\n",
    "password: *DsnCanary7Qf\n",
    "password: !DsnCanary7Qf x\n",
    "a: @DsnCanary7Qf\n",
    "a: 'DsnCanary7Qf\n",
    "a: [DsnCanary7Qf\n",
    "{DsnCanary7Qf: [}\n",
    "- DsnCanary7Qf\n",
    "DsnCanary7Qf\n",
    "a: 2024-02-31 # DsnCanary7Qf\n",
    "source: {postgres: {dsn: '${DsnCanary7Qf!}'}}\n",
    "? [DsnCanary7Qf]\n: x\n",
    "a: |\n\tDsnCanary7Qf\n b: DsnCanary7Qf\n",
]


@pytest.mark.parametrize("text", YAML)
def test_yaml_that_is_none_is_not_quoted(text: str) -> None:
    with pytest.raises(pycdc.ConfigError) as caught:
        load_text(text)
    assert leaks("".join(traceback.format_exception(caught.value)).replace(text, "")) == []


def config_with_secrets() -> dict[str, Any]:
    document = {
        "name": "shop",
        "source": {"postgres": {"dsn": f"postgresql://u:{SECRETS['dsn']}@127.0.0.1:1/d"}},
        "sink": {
            "kafka": {
                "brokers": "127.0.0.1:1",
                "registry": {"url": f"http://u:{SECRETS['registry']}@127.0.0.1:1", "password": SECRETS["registry"]},
                "options": {"sasl.password": SECRETS["sasl"], "ssl.key.pem": SECRETS["sasl"]},
            }
        },
        "checkpoint": {},
        "rules": [{"hash": [{"columns": ["c"], "salt": SECRETS["salt"]}]}],
        "http": {"token": SECRETS["token"]},
        "offsets": {"postgres": {"dsn": f"host=a password={SECRETS['dsn']}"}},
    }
    copied: dict[str, Any] = json.loads(json.dumps(document))
    return copied


def test_a_configuration_prints_without_its_secrets() -> None:
    config = validate_capture(config_with_secrets())
    said = [repr(config), str(config), repr(config.sink), f"{config.source.postgres!r}", str(config.http)]
    said.append(config.model_dump_json(exclude={"sink": {"kafka": {"registry": {"url"}}}}))
    custom = {"custom": {"factory": "a:b", "options": {"password": SECRETS["sasl"]}}}
    said.append(repr(validate_capture({**config_with_secrets(), "sink": custom})))
    assert leaks("\n".join(said)) == []


def test_a_logical_message_prints_without_its_content() -> None:
    message = LogicalMessage("prefix", b"ValueCanary", True, Lsn(1))
    assert "prefix" in repr(message)
    assert leaks(repr(message)) == []


@pytest.mark.pg("==15")
def test_init_does_not_write_the_connection_string(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE TABLE t (id int PRIMARY KEY)")
    dsn = make_conninfo(database, password=SECRETS["dsn"])
    result = CliRunner().invoke(pycdc_command, ["--debug", "init"], env={"PYCDC_DSN": dsn})
    assert "public.t" in result.output
    assert leaks(result.output) == []
