"""Canaries, a pipeline that knows them all, and all that was said of it: what `test_secrecy` searches."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import psycopg
from click.testing import CliRunner
from psycopg.conninfo import make_conninfo

from pycdc.cli import main as pycdc_command
from tests.reading import PATIENCE, Reader, wait_for

ROOT = Path(__file__).parents[1]

SECRETS = {
    "dsn": "DsnCanary7Qf",
    "registry": "RegistryCanary3Zk",
    "sasl": "SaslCanary9Wd",
    "salt": "SaltCanary5Vh",
    "token": "TokenCanary2Xm",
}
VALUES = {
    "text": "'ValueCanaryText'",
    "varchar(40)": "'ValueCanaryVarchar'",
    "char(40)": "'ValueCanaryChar'",
    "name": "'ValueCanaryName'",
    "json": """'{"a": "ValueCanaryJson"}'""",
    "jsonb": """'{"a": "ValueCanaryJsonb"}'""",
    "tsvector": "'''ValueCanaryVector'''",
    "text[]": "'{ValueCanaryArray,NULL}'",
    "person": "'(ValueCanaryComposite,1)'",
    "bytea": "'ValueCanaryBytes'",
    "smallint": "-27183",
    "int": "918273645",
    "bigint": "918273645546372819",
    "numeric(18,4)": "8172635445362.7181",
    "numeric": "71717171717.1717",
    "money": "61626364.65",
    "real": "1.2345679e+12",
    "float8": "9.87654321012e+101",
    "bit(24)": "b'101101110111101111101111'",
    "date": "'4711-11-12'",
    "time": "'13:37:42.424242'",
    "timestamp": "'4712-10-11 12:13:14.151617'",
    "timestamptz": "'4713-09-10 11:12:13.141516+00'",
    "interval": "'77777 days 01:02:03.456'",
    "uuid": "'deadbeef-cafe-4abe-8bad-f00dfacefeed'",
    "inet": "'203.0.113.77'",
    "macaddr": "'de:ad:be:ef:ca:fe'",
    "int4range": "'[31415926,31415927)'",
    "point": "'(27182.818,31415.926)'",
}
"""A value of each type family, as SQL."""
SHOWN = [
    *SECRETS.values(),
    "ValueCanary",
    "56616c756543616e617279",  # the bytes in hex
    "-27183",
    "918273645",
    "8172635445362",
    "71717171717",
    "61626364",
    "61,626,364",
    "1.2345679",
    "9.87654321012",
    "101101110111101111101111",
    "4711-11-12",
    "13:37:42",
    "4712-10-11",
    "4713-09-10",
    "77777",
    "deadbeef",
    "203.0.113.77",
    "de:ad:be:ef",
    "31415926",
    "27182.818",
]
"""How secrets and values would show; the same for what errors quote of them."""


class Vault:
    """A database with values, a configuration with secrets, and all that was said."""

    def __init__(self, dsn: str, brokers: str, registry: str, name: str, folder: Path) -> None:
        self.dsn, self.brokers, self.registry, self.name, self.folder = dsn, brokers, registry, name, folder
        self.topic = f"{name}.public.vault"
        self.said: list[str] = []
        self.processes: list[subprocess.Popen[bytes]] = []
        columns = ", ".join(f"c{number} {kind}" for number, kind in enumerate(VALUES))
        self.execute("CREATE TYPE person AS (name text, age int)")
        self.execute(f"CREATE TABLE vault (id text PRIMARY KEY, n numeric(5,2), {columns})")
        self.insert("first")

    def execute(self, statement: str) -> list[Any]:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def insert(self, row: str, n: str = "1.00") -> None:
        self.execute(f"INSERT INTO vault VALUES ('ValueCanaryKey-{row}', '{n}', {', '.join(VALUES.values())})")

    def document(self, **sections: Any) -> dict[str, Any]:
        """A configuration with every secret that there can be."""
        dsn = make_conninfo(self.dsn, password=SECRETS["dsn"])
        registry = {"url": self.registry, "username": "u", "password": SECRETS["registry"]}
        options = {"sasl.username": "u", "sasl.password": SECRETS["sasl"], **sections.pop("options", {})}
        kafka = {"brokers": self.brokers, "registry": {**registry, **sections.pop("registry", {})}, "options": options}
        salted = [{"columns": ["c1"], "salt": SECRETS["salt"]}]
        return {
            "name": self.name,
            "source": {"postgres": {"dsn": dsn, "tables": ["vault"], **sections.pop("source", {})}},
            "sink": {"kafka": {**kafka, "delivery_timeout": 5, **sections.pop("kafka", {})}},
            "rules": [{"tables": "vault", "hash": salted, "key": ["id", "c10"]}],
            "checkpoint": {"interval": 0.1},
            "retries": {"give_up_after": 0.5, "max_delay": 0.3},
            "http": {"host": "127.0.0.1", "port": 0, "token": SECRETS["token"]},
            **sections,
        }

    def start(self, document: dict[str, Any], *command: str) -> subprocess.Popen[bytes]:
        path = self.folder / f"{len(self.processes)}.json"
        path.write_text(json.dumps(document))
        log = (self.folder / f"{len(self.processes)}.log").open("wb")
        process = subprocess.Popen(
            [sys.executable, "-m", *(command or ("tests.talkative",)), str(path)],
            cwd=ROOT,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}", "PYTHONUNBUFFERED": "1"},
        )
        log.close()
        self.processes.append(process)
        return process

    def log(self) -> str:
        """What the processes printed."""
        return "".join(path.read_text() for path in sorted(self.folder.glob("*.log")))

    def run_to_the_end(self, document: dict[str, Any], *, ask: bool = False) -> None:
        """Run until it fails; `ask` the commands too, where they meet the same trouble."""
        process = self.start(document)
        if ask:
            self.ask(document)
        assert process.wait(PATIENCE) == 1, self.log()

    def ask(self, document: dict[str, Any]) -> None:
        """What the commands say of the pipeline."""
        path = self.folder / "asked.json"
        path.write_text(json.dumps(document))
        for command in ("doctor", "status"):
            result = CliRunner().invoke(pycdc_command, ["--debug", command, "--json", str(path)])
            self.said += [
                result.output,
                "".join(traceback.format_exception(result.exception) if result.exception else []),
            ]

    def run_until(self, document: dict[str, Any], row: str) -> None:
        """Run until the row is in Kafka, then stop in good order."""
        process = self.start(document)
        self.wait_for(row)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0, self.log()

    def wait_for(self, row: str) -> None:
        reader = Reader(self.brokers, self.registry)
        try:
            wait_for(lambda: any(r.key["id"] == f"ValueCanaryKey-{row}" for r in reader.read(self.topic)))
        finally:
            reader.close()

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


def leaks(text: str) -> list[str]:
    """The lines with a canary, and which."""
    return [f"{found}: {line}" for line in text.splitlines() for found in SHOWN if found.lower() in line.lower()]
