"""examples/two-way does what its README says: two databases follow each other, and both sides end equal."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest
import yaml
from psycopg.conninfo import conninfo_to_dict

from pycdc.config import load
from pycdc.config.pipeline import ApplyPipeline
from tests.programs import Program
from tests.reading import Reader, wait_for
from tests.test_docs import blocks

EXAMPLE = Path(__file__).parents[2] / "examples" / "two-way"
ROOT = EXAMPLE.parents[1]
PAGE = "docs/reverse.md"
GUIDE = (ROOT / PAGE).read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load((EXAMPLE / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
PIPELINES = ("monolith", "inventory", "to-inventory", "to-monolith")
TOPICS = (
    "monolith.public.orders",
    "monolith.public.stock",
    "monolith.public.prices",
    "inventory.public.items",
    "inventory.public.price_list",
)


class Side(NamedTuple):
    """A database with the example's tables; the DSNs of its owner and of the example's two roles."""

    owner: str
    cdc: str
    apply: str


class Example(NamedTuple):
    monolith: Side
    service: Side
    folder: Path
    """Holds the configurations, with topics of the test's own."""
    environment: dict[str, str]
    prefix: str

    def pycdc(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "pycdc", *arguments]

    def equal(self) -> bool:
        command = [sys.executable, str(EXAMPLE / "compare.py"), self.monolith.owner, self.service.owner]
        return subprocess.run(command, capture_output=True, env=self.environment).returncode == 0


@pytest.fixture
def example(
    database: str, postgres: Any, kafka: Any, registry: Any, topic_prefix: str, tmp_path: Path
) -> Iterator[Example]:
    second = postgres.create_database()
    with ExitStack() as stack:
        stack.callback(postgres.drop_database, second)
        monolith = _side(stack, postgres, database, "monolith", topic_prefix)
        service = _side(stack, postgres, second, "inventory", topic_prefix)
        for topic in TOPICS:
            kafka.create_topic(f"{topic_prefix}{topic}")
        for name in PIPELINES:
            (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(_own(name, topic_prefix)))
        with Program([sys.executable, "-c", ""], tmp_path) as nothing:
            environment = {
                **nothing.environment,
                "MONOLITH_CDC": monolith.cdc,
                "MONOLITH_APPLY": monolith.apply,
                "INVENTORY_CDC": service.cdc,
                "INVENTORY_APPLY": service.apply,
                "BROKERS": kafka.bootstrap,
                "REGISTRY": registry.url,
                "PYCDC_HTTP_PORT": "0",
            }
        yield Example(monolith, service, tmp_path, environment, topic_prefix)


def _side(stack: ExitStack, postgres: Any, dsn: str, name: str, prefix: str) -> Side:
    """The example's SQL, with roles and a publication that no other test has."""
    text = (EXAMPLE / f"{name}.sql").read_text(encoding="utf-8")
    roles = {role: f"{prefix}_{name}_{role}" for role in ("cdc", "apply")}
    for role, own in roles.items():
        text = re.sub(rf"\b(ROLE|TO) {role}\b", rf"\1 {own}", text)
    database = conninfo_to_dict(dsn)["dbname"]
    text = re.sub(r"\bDATABASE \w+", f"DATABASE {database}", text)
    owner = stack.enter_context(psycopg.connect(dsn, autocommit=True))
    owner.execute(text.replace(f"pycdc_{name}", f"pycdc_{prefix}{name}").encode())
    for own in roles.values():
        stack.callback(owner.execute, f"DROP OWNED BY {own} CASCADE; DROP ROLE {own}".encode())
    cdc, apply = (postgres.dsn(database, user=own, password=role) for role, own in roles.items())
    return Side(dsn, cdc, apply)


def _own(name: str, prefix: str) -> dict[str, Any]:
    """The example's configuration, with names and topics that no other test has."""
    text = (EXAMPLE / f"{name}.yaml").read_text(encoding="utf-8")
    text = re.sub(r"\b(monolith|inventory)\.public\.", rf"{prefix}\1.public.", text)
    document: dict[str, Any] = yaml.safe_load(text)
    return {**document, "name": f"{prefix}{name}"}


@pytest.mark.slow
@pytest.mark.pg("newest")
def test_both_sides_follow_each_other_and_end_equal(example: Example, kafka: Any, registry: Any) -> None:
    with ExitStack() as stack:
        for name in PIPELINES:
            path = str(example.folder / f"{name}.yaml")
            program = stack.enter_context(Program(example.pycdc("run", path), example.folder, example.environment))
            program.wait_until(lambda program=program: "streaming" in program.log)  # type: ignore[misc]
        # The service's tables were empty: the monolith's snapshot fills them.
        wait_for(example.equal)
        service = [sys.executable, str(EXAMPLE / "service.py"), example.service.owner, "--seed", "7"]
        with (
            Program(service, example.folder, example.environment) as working,
            psycopg.connect(example.monolith.owner, autocommit=True) as monolith,
        ):
            for number in range(50):
                monolith.execute(
                    "INSERT INTO orders (customer, sku, quantity) VALUES (%s, 'BOWL', 1)", (f"customer {number}",)
                )
                monolith.execute(
                    "UPDATE prices SET price = %s, changed_at = clock_timestamp() WHERE sku = 'JUG'", (number,)
                )
            assert working.wait() == 0
        wait_for(example.equal)
        _set_a_price_on_both_sides(example)
        wait_for(example.equal)
        assert rows(example.monolith.owner, "prices WHERE sku = 'CUP' AND price = 1"), "the later one"
        wait_for(lambda: rows(example.monolith.owner, "pycdc.conflicts WHERE key->>'sku' = 'CUP'"))
        _forget_a_writer_of_stock(example)
        _stop_the_monoliths_writers_of_stock(example)
        _run_what_the_guide_says_to_watch(example.monolith.owner)
        reader = Reader(kafka.bootstrap, registry.url)
        captured = [reader.read(f"{example.prefix}{topic}") for topic in TOPICS]
        reader.close()
    assert [len(topic) for topic in captured[:3]] == [52, 4, 54], "what the monolith wrote, and no echo"
    assert 103 <= sum(map(len, captured[3:])) <= 203, "what the service wrote, one or two rows a change"
    assert (len(rows(example.monolith.owner, "orders")), len(rows(example.service.owner, "reservations"))) == (52, 52)


def _set_a_price_on_both_sides(example: Example) -> None:
    """The monolith is later. What it writes waits at the service for the lock, so neither knows of the other."""
    with (
        psycopg.connect(example.monolith.owner, autocommit=True) as monolith,
        psycopg.connect(example.service.owner, autocommit=True) as service,
        service.transaction(),
    ):
        service.execute("UPDATE price_list SET amount = 2, changed_at = clock_timestamp() WHERE item = 'CUP'")
        later = "clock_timestamp() + interval '10 ms'"  # times are compared by the millisecond
        monolith.execute(f"UPDATE prices SET price = 1, changed_at = {later} WHERE sku = 'CUP'".encode())


def _forget_a_writer_of_stock(example: Example) -> None:
    """What the guide says of a table with one owner and no rule: both sides take what came last to them, and differ."""
    with (
        psycopg.connect(example.monolith.owner, autocommit=True) as monolith,
        psycopg.connect(example.service.owner, autocommit=True) as service,
    ):
        with service.transaction():
            service.execute("UPDATE items SET available = 2 WHERE code = 'JUG'")
            monolith.execute("UPDATE stock SET on_hand = 1 WHERE sku = 'JUG'")
        wait_for(lambda: rows(example.monolith.owner, "stock WHERE sku = 'JUG' AND on_hand = 2"))
        wait_for(lambda: rows(example.service.owner, "items WHERE code = 'JUG' AND available = 1"))
        assert not example.equal()
        assert rows(example.monolith.owner, "pycdc.conflicts WHERE kind = 'update_origin_differs'")
        service.execute("UPDATE items SET available = 3 WHERE code = 'JUG'")
        wait_for(example.equal)


def _stop_the_monoliths_writers_of_stock(example: Example) -> None:
    """Step 5 of the guide: what it says to run keeps the application out, and the gate opens."""
    role = f"{example.prefix}_app"
    stop, gate = (block.text for block in blocks("sql", page=PAGE) if "REVOKE" in block.text or "passed" in block.text)
    with psycopg.connect(example.monolith.owner, autocommit=True) as owner:
        owner.execute(f"CREATE ROLE {role}; GRANT SELECT, UPDATE ON stock TO {role}".encode())
        try:
            for statement in filter(str.strip, stop.replace("shop_app", role).split(";")):
                last = owner.execute(statement.encode())
            found = last.fetchone()
            assert found is not None
            assert owner.execute("SELECT has_table_privilege(%s, 'stock', 'UPDATE')", (role,)).fetchone() == (False,)
            query = gate.replace("0/1A2B3C4", found[0]).replace("pycdc_monolith", f"pycdc_{example.prefix}monolith")
            wait_for(lambda: owner.execute(query.encode()).fetchone() == (True,))
        finally:
            owner.execute(f"DROP OWNED BY {role}; DROP ROLE {role}".encode())


def _run_what_the_guide_says_to_watch(dsn: str) -> None:
    section = GUIDE.split("## What to watch", 1)[1]
    queries = re.findall(r"`(SELECT [^`]+)`", section) + [
        b.text for b in blocks("sql", page=PAGE) if "applied_at" in b.text
    ]
    assert len(queries) > 2
    with psycopg.connect(dsn) as connection:
        for query in queries:
            connection.execute(query.encode())


def rows(dsn: str, table: str) -> list[Any]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(f"SELECT * FROM {table}".encode()).fetchall()


@pytest.mark.pg("newest")
def test_doctor_finds_nothing_missing(example: Example) -> None:
    """The roles of the example have the rights that the pipelines need."""
    for name in PIPELINES:
        command = example.pycdc("doctor", str(example.folder / f"{name}.yaml"))
        done = subprocess.run(command, env=example.environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "✗" not in done.stdout


@pytest.mark.pg("newest")
def test_compare_names_the_rows_that_differ(example: Example) -> None:
    command = [sys.executable, str(EXAMPLE / "compare.py"), example.monolith.owner, example.service.owner]
    done = subprocess.run(command, env=example.environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert "stock = items: 3 differ: BOWL, CUP, JUG" in done.stdout


# The guide


def test_the_guide_shows_the_examples_configurations() -> None:
    shown = {document["name"]: document for document in (yaml.safe_load(b.text) for b in blocks("yaml", page=PAGE))}
    assert set(shown) == set(PIPELINES)
    for name, document in shown.items():
        text = (EXAMPLE / f"{name}.yaml").read_text(encoding="utf-8")
        own = yaml.safe_load(re.sub(r"\$\{\w+:-([^}]+)\}", r"\1", text))
        assert document == {key: value for key, value in own.items() if key not in ("checkpoint", "http")}


def test_the_guide_shows_the_examples_sql() -> None:
    sql = " ".join((EXAMPLE / "monolith.sql").read_text(encoding="utf-8").split())
    shown = next(block.text for block in blocks("sql", page=PAGE) if "CREATE ROLE" in block.text)
    statements = re.sub(r"^--.*\n", "", shown, flags=re.M).split(";")
    missing = [one for statement in statements if (one := " ".join(statement.split())) not in sql]
    assert not missing


# The compose file


def test_services_wait_for_others_that_can_say_that_they_are_well() -> None:
    for name, service in SERVICES.items():
        for other, how in service.get("depends_on", {}).items():
            if how["condition"] == "service_completed_successfully":
                assert other == "topics", name
            else:
                assert how == {"condition": "service_healthy"}, name
                assert "healthcheck" in SERVICES[other], other


def test_ports_are_open_on_this_machine_only() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert len({port.split(":")[1] for port in ports}) == len(ports)


def test_servers_are_those_of_the_main_compose_file() -> None:
    main = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"]
    assert SERVICES["kafka"] == main["kafka"]
    assert SERVICES["registry"] == main["registry"]
    assert SERVICES["monolith"]["image"] == SERVICES["inventory"]["image"] == main["postgres"]["image"]


def test_mounted_files_exist_and_cannot_be_written() -> None:
    for service in SERVICES.values():
        for volume in service.get("volumes", ()):
            source, _, mode = volume.split(":")
            assert (EXAMPLE / source).is_file()
            assert mode == "ro"


def test_all_topics_that_are_read_are_made() -> None:
    made = SERVICES["topics"]["command"][-1]
    assert all(topic in made for topic in TOPICS)
    read = [topic for name in PIPELINES[2:] for topic in _own(name, "")["source"]["kafka"]["topics"]]
    assert sorted(read) == sorted(TOPICS)


@pytest.mark.parametrize("name", PIPELINES)
def test_pipelines_lead_to_the_services(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (service,) = (one for one in SERVICES.values() if one.get("command") == ["run", f"/etc/pycdc/{name}.yaml"])
    assert service["volumes"] == [f"./{name}.yaml:/etc/pycdc/{name}.yaml:ro"]
    for variable, value in service["environment"].items():
        monkeypatch.setenv(variable, value)
    config = load(EXAMPLE / f"{name}.yaml")
    kafka = config.source.kafka if isinstance(config, ApplyPipeline) else config.sink.kafka
    assert kafka is not None
    assert kafka.registry is not None
    assert f"//{kafka.brokers}" in SERVICES["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"].replace("INSIDE:", "")
    assert kafka.registry.url.split("/")[2].split(":")[0] in SERVICES
    dsn = conninfo_to_dict(
        (config.sink.postgres if isinstance(config, ApplyPipeline) else config.source.postgres).dsn.get_secret_value()
    )
    assert dsn["dbname"] == SERVICES[str(dsn["host"])]["environment"]["POSTGRES_DB"]
    assert f"CREATE ROLE {dsn['user']} LOGIN" in (EXAMPLE / f"{dsn['host']}.sql").read_text(encoding="utf-8")


def test_docker_compose_accepts_the_file() -> None:
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True).returncode:
        pytest.skip("`docker compose` is not installed; the file's form is checked by the other tests here")
    done = subprocess.run([docker, "compose", "config", "--quiet"], cwd=EXAMPLE, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
