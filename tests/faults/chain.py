"""Two pipelines in a row as an operator sees them, with a proxy in front of each server that one of them needs."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import urlopen

import psycopg
from psycopg import conninfo

from tests.programs import Program
from tests.proxy import Proxy
from tests.services.kafka import KafkaAddress
from tests.services.postgres import PostgresServer, database_name

SOURCE, TARGET = "the source database", "the database of sink.postgres"
TO_BROKERS, FROM_BROKERS = "the brokers of sink.kafka", "the brokers of source.kafka"
SCHEMAS = "the schema registry at http://127.0.0.1"


class Chain:
    """A table, a pipeline into a topic, and one from there into a table of another database."""

    def __init__(
        self,
        direction: str,
        folder: Path,
        postgres: PostgresServer,
        kafka: KafkaAddress,
        registry: str,
        name: str,
        *,
        role: str | None = None,
    ) -> None:
        """`role` is made, owns the database that the pipeline of `direction` needs, and is who connects there."""
        self.direction, self.folder, self.postgres, self.name = direction, folder, postgres, name
        self.dsns = postgres.create_database(), postgres.create_database()
        self.rows = 0
        for dsn in self.dsns:
            self.sql(dsn, "CREATE TABLE items (id int PRIMARY KEY)")
        kafka.create_topic(f"{name}.public.items")
        capture, apply = direction == "capture", direction == "apply"
        self.role = role
        if role is not None:
            self._own(role)
        address = urlsplit(registry)
        self.broker = kafka
        self.kafka = kafka.proxy()
        self.registry = Proxy(address.hostname or "", address.port or 80)
        self.database = Proxy(*postgres.address)
        through = f"http://{self.registry.address}{address.path}"
        common = {"retries": {"first_delay": 0.1, "max_delay": 0.5}, "checkpoint": {"interval": 0.2}}
        self.document: dict[str, dict[str, Any]] = {
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

    @property
    def other(self) -> str:
        return "apply" if self.direction == "capture" else "capture"

    def _dsn(self, number: int, *, proxied: bool) -> str:
        dsn = self.dsns[number]
        if not proxied:
            return dsn
        who = {"user": self.role, "password": "hunter2"} if self.role else {}
        return conninfo.make_conninfo(dsn, host=self.database.host, port=self.database.port, **who)

    def _own(self, role: str) -> None:
        dsn = self.dsns[self.direction == "apply"]
        self.sql(dsn, f"CREATE ROLE {role} LOGIN REPLICATION PASSWORD 'hunter2'")
        self.sql(dsn, f"ALTER DATABASE {database_name(dsn)} OWNER TO {role}")
        self.sql(dsn, f"ALTER TABLE items OWNER TO {role}")

    def end_sessions(self) -> None:
        """Those of `role`."""
        ends = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{self.role}'"
        self.sql(self.dsns[0], ends)

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

    def is_complete(self) -> bool:
        """Nothing is missing, and nothing is there that was not written."""
        return self.arrived == list(range(1, self.rows + 1))

    @property
    def needed(self) -> dict[str, Proxy]:
        """The servers of the direction under test, by what the pipeline calls them."""
        capture = self.direction == "capture"
        return {
            SOURCE if capture else TARGET: self.database,
            TO_BROKERS if capture else FROM_BROKERS: self.kafka,
            SCHEMAS: self.registry,
        }

    @contextmanager
    def running(self, direction: str, *, unhealthy_after: float = 2.0) -> Iterator[Watched]:
        path = self.folder / f"{direction}.json"
        http = {"port": 0, "unhealthy_after": unhealthy_after}
        path.write_text(json.dumps({**self.document[direction], "http": http}))
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
            with error:
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


def says_so(watched: Watched, what: str) -> None:
    """While the fault lasts: named by health and log, with a remedy; not ready, and alive; behind, and more so."""
    watched.until(lambda: what in watched.reasons)
    assert (watched.get("/readyz")[0], watched.get("/livez")[0]) == (503, 200)
    known = [lag for _ in range(4) if (lag := watched.lag) is not None]
    assert all(lag > 0 for lag in known), known
    watched.until(lambda: any(what in str(line) and line.get("hint") for line in watched.news("warning")))
    before = watched.lag
    if before is not None:
        watched.until(lambda: watched.lag is not None and watched.lag > before)
    # Nothing came, or nothing was taken, or somebody is waited for.
    ages = re.findall(r"^pycdc_(?:progress_age|server_silence|outage)_seconds (\S+)$", watched.get("/metrics")[1], re.M)
    assert max(map(float, ages)) > 1
    assert len(watched.news("warning", "error")) <= 8, watched.news("warning", "error")


def recovers(chain: Chain, watched: Watched) -> None:
    """Afterwards: one line says so, lag is 0, and nothing is missing or there twice."""
    watched.until(chain.is_complete)
    watched.until(watched.is_well)
    ends = [one["event"] for one in watched.news("info") if one["event"] in ("answers again", "goes on after a fault")]
    assert 1 <= len(ends) <= 2, watched.news("info", "warning")
    assert "outages" not in json.loads(watched.get("/status")[1])


def is_final(watched: Watched) -> dict[str, Any]:
    """It ends with 3, and one line says why."""
    assert watched.program.wait() == 3, watched.program.log
    (said,) = [line for line in watched.lines() if line["event"] == "failed"]
    assert said["error"] == "environment"
    return said
