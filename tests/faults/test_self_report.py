"""What a pipeline says of itself while a server it needs is away or half open: lag, health, log, code.

One process for each direction, which meets the faults one after the other. Nothing is asked of its insides: only what
its status server, its log and the commands say.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import urlopen

import psycopg
import pytest
from psycopg import conninfo

from tests.programs import Program
from tests.proxy import Proxy
from tests.services.kafka import KafkaAddress
from tests.services.postgres import PostgresServer
from tests.services.registry import RegistryAddress

pytestmark = pytest.mark.pg("newest")

SOURCE, TARGET = "the source database", "the database of sink.postgres"
TO_BROKERS, FROM_BROKERS = "the brokers of sink.kafka", "the brokers of source.kafka"
SCHEMAS = "the schema registry at http://127.0.0.1"
ENDS: dict[str, Callable[[Proxy], None]] = {"away": Proxy.refuse, "half open": Proxy.blackhole}


class Chain:
    """A table, a pipeline into a topic, and one from there into a table of another database."""

    def __init__(
        self, direction: str, folder: Path, postgres: PostgresServer, kafka: KafkaAddress, registry: str, name: str
    ) -> None:
        self.direction, self.folder, self.postgres, self.name = direction, folder, postgres, name
        self.dsns = postgres.create_database(), postgres.create_database()
        self.rows = 0
        for dsn in self.dsns:
            self.sql(dsn, "CREATE TABLE items (id int PRIMARY KEY)")
        kafka.create_topic(f"{name}.public.items")
        capture, apply = direction == "capture", direction == "apply"
        address = urlsplit(registry)
        self.kafka = kafka.proxy()
        self.registry = Proxy(address.hostname or "", address.port or 80)
        self.database = Proxy(*postgres.address)
        through = f"http://{self.registry.address}{address.path}"
        common = {"retries": {"first_delay": 0.1, "max_delay": 0.5}, "checkpoint": {"interval": 0.2}}
        self.document = {
            "capture": {
                "name": name,
                "source": {"postgres": {"dsn": self._dsn(0, proxied=capture), "tables": ["items"]}},
                "sink": {
                    "kafka": {
                        "brokers": self.kafka.address if capture else kafka.bootstrap,
                        "registry": through if capture else registry,
                    }
                },
                **common,
            },
            "apply": {
                "name": f"{name}b",
                "source": {
                    "kafka": {
                        "brokers": self.kafka.address if apply else kafka.bootstrap,
                        "topics": [f"{name}.public.items"],
                        "registry": through if apply else registry,
                    }
                },
                "sink": {
                    "postgres": {
                        "dsn": self._dsn(1, proxied=apply),
                        "routes": [{"topic": f"{name}.public.items", "table": "items"}],
                    }
                },
                **common,
            },
        }

    def _dsn(self, number: int, *, proxied: bool) -> str:
        dsn = self.dsns[number]
        return conninfo.make_conninfo(dsn, host=self.database.host, port=self.database.port) if proxied else dsn

    def sql(self, dsn: str, statement: str) -> list[Any]:
        with psycopg.connect(dsn, autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def write(self) -> None:
        """A row whose schema is new, so that a registry is needed for it."""
        self.rows += 1
        for dsn in reversed(self.dsns):
            self.sql(dsn, f"ALTER TABLE items ADD c{self.rows} int")
        self.sql(self.dsns[0], f"INSERT INTO items (id) VALUES ({self.rows})")

    @property
    def arrived(self) -> list[int]:
        return [number for (number,) in self.sql(self.dsns[1], "SELECT id FROM items ORDER BY id")]

    @contextmanager
    def running(self, direction: str) -> Iterator[Watched]:
        path = self.folder / f"{direction}.json"
        path.write_text(json.dumps({**self.document[direction], "http": {"port": 0, "unhealthy_after": 2.0}}))
        command = [sys.executable, "-m", "pycdc", "run", str(path), "--log-format", "json"]
        with Program(command, self.folder) as program:
            yield Watched(program, path)

    def close(self) -> None:
        for proxy in (self.kafka, self.registry, self.database):
            proxy.close()


class Watched:
    """A pipeline as an operator sees it."""

    def __init__(self, program: Program, path: Path) -> None:
        self.program, self.path = program, path
        self.until(lambda: "serving metrics" in program.log)
        self._url = next(line["url"] for line in self.lines() if "url" in line)
        self._mark = 0

    def until(self, condition: Callable[[], Any]) -> None:
        self.program.wait_until(lambda: bool(condition()))

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urlopen(self._url + path, timeout=20) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as error:
            return error.code, error.read().decode()

    @property
    def lag(self) -> float | None:
        """As `/metrics` and `/status` have it; absent: nobody knows."""
        found = re.findall(r"^pycdc_lag_seconds (\S+)$", self.get("/metrics")[1], re.M)
        return float(found[0]) if found else None

    @property
    def reasons(self) -> str:
        code, text = self.get("/healthz")
        assert (code == 200) == json.loads(text)["healthy"]
        return "; ".join(json.loads(text)["reasons"])

    def lines(self) -> list[dict[str, Any]]:
        complete = self.program.log.rpartition("\n")[0]
        return [json.loads(line) for line in complete.splitlines() if line.startswith("{")]

    def mark(self) -> None:
        self._mark = len(self.lines())

    def news(self, *levels: str) -> list[dict[str, Any]]:
        """Since the mark, of pycdc itself."""
        ours = (line for line in self.lines()[self._mark :] if not re.match("FAIL|REQTMOUT|TERMINATE", line["event"]))
        return [line for line in ours if line["level"] in levels]

    def is_well(self) -> bool:
        return self.get("/readyz")[0] == 200 and self.lag == 0


@pytest.fixture
def chain(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    postgres: PostgresServer,
    kafka: KafkaAddress,
    registry: RegistryAddress,
    topic_prefix: str,
) -> Iterator[Chain]:
    made = Chain(request.param, tmp_path, postgres, kafka, registry.url, topic_prefix)
    yield made
    made.close()
    postgres.heal()
    for dsn in made.dsns:
        postgres.drop_database(dsn)


def says_so(watched: Watched, what: str) -> None:
    """While the fault lasts: named by health and log, with a remedy; not ready, and alive; behind, and more so."""
    watched.until(lambda: what in watched.reasons)
    assert (watched.get("/readyz")[0], watched.get("/livez")[0]) == (503, 200)
    known = [lag for _ in range(4) if (lag := watched.lag) is not None]
    assert all(lag > 0 for lag in known), known
    watched.until(lambda: any(what in str(line) and line.get("hint") for line in watched.news("warning")))
    before = watched.lag
    time.sleep(0.5)
    after = watched.lag
    assert before is None or (after is not None and after > before)
    # Nothing came, or nothing was taken, or somebody is waited for.
    ages = re.findall(r"^pycdc_(?:progress_age|server_silence|outage)_seconds (\S+)$", watched.get("/metrics")[1], re.M)
    assert max(map(float, ages)) > 1
    assert len(watched.news("warning", "error")) <= 8, watched.news("warning", "error")


def recovers(chain: Chain, watched: Watched) -> None:
    """Afterwards: one line says so, lag is 0, and nothing is missing or there twice."""
    expected = list(range(1, chain.rows + 1))
    watched.until(lambda: chain.arrived == expected)
    watched.until(watched.is_well)
    ends = [one["event"] for one in watched.news("info") if one["event"] in ("answers again", "goes on after a fault")]
    assert 1 <= len(ends) <= 2, watched.news("info", "warning")
    assert "outages" not in json.loads(watched.get("/status")[1])


@pytest.mark.parametrize("chain", ["capture", "apply"], indirect=True)
def test_a_pipeline_tells_of_each_server_that_is_away_or_half_open_and_of_its_return(chain: Chain) -> None:
    capture = chain.direction == "capture"
    needed = {
        SOURCE if capture else TARGET: chain.database,
        TO_BROKERS if capture else FROM_BROKERS: chain.kafka,
        SCHEMAS: chain.registry,
    }
    with chain.running("capture") as forward, chain.running("apply") as back:
        watched = forward if capture else back
        chain.write()
        watched.until(lambda: chain.arrived == [1])
        watched.until(watched.is_well)
        for fault, end in ENDS.items():
            for what, proxy in needed.items():
                watched.mark()
                end(proxy)
                chain.write()
                says_so(watched, what)
                if fault == "away" and proxy is chain.database:
                    commands_say_so(watched, what)
                proxy.heal()
                recovers(chain, watched)


def commands_say_so(watched: Watched, what: str) -> None:
    for command in (["status"], ["lag", "--seconds", "1s", "--fail-above", "1s"]):
        done = subprocess.run(
            [sys.executable, "-m", "pycdc", command[0], str(watched.path), *command[1:]],
            capture_output=True,
            text=True,
            env=watched.program.environment,
        )
        assert done.returncode == 1
        assert what in done.stdout + done.stderr
        assert re.search(r"^\s*try", done.stdout + done.stderr, re.M)


@pytest.mark.parametrize(
    ("chain", "what", "left"),
    [
        ("capture", "database", False),
        ("capture", "kafka", True),
        ("capture", "registry", True),
        ("apply", "database", True),
        ("apply", "kafka", False),
        ("apply", "registry", True),
    ],
    indirect=["chain"],
)
def test_a_stop_is_obeyed_while_a_server_is_half_open_and_the_exit_code_tells_whether_something_is_left(
    chain: Chain, what: str, left: bool
) -> None:
    proxy: Proxy = getattr(chain, what)
    other = "apply" if chain.direction == "capture" else "capture"
    with chain.running(other), chain.running(chain.direction) as watched:
        chain.write()
        watched.until(lambda: chain.arrived == [1])
        watched.until(watched.is_well)
        proxy.blackhole()
        chain.write()
        watched.until(lambda: watched.reasons)
        began = time.monotonic()
        assert watched.program.stop() == (6 if left else 0), watched.program.log
        assert time.monotonic() - began < 30
        assert ("something was not delivered yet" in watched.program.log) is left
        proxy.heal()
        with chain.running(chain.direction) as again:
            again.until(lambda: chain.arrived == [1, 2])
            assert again.program.stop() == 0
