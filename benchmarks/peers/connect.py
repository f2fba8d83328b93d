"""Kafka Connect, standalone, with one connector at a time: a process like the other servers."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.services import maven
from tests.services.process import ServerProcess, free_port

from benchmarks.peers import jars
from benchmarks.processes import Observed
from benchmarks.rig import Rig, wait_for

HEAP = "2g"
START_SECONDS = 120.0
_LOG4J = """
status = error
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d %p [%c{1}] %m%n
rootLogger.level = warn
rootLogger.appenderRef.out.ref = out
"""


class Worker:
    """A process that connectors run in, one after another. `warm` is for its users to set."""

    def __init__(self, rig: Rig, *, plugins: Path, version: str) -> None:
        self.warm = False
        self._port = free_port()
        folder = rig.folder / f"connect-{version}-{self._port}"
        folder.mkdir()
        _write(folder / "worker.properties", _worker(rig, folder, plugins, self._port))
        (folder / "log4j2.properties").write_text(_LOG4J)
        self._process = ServerProcess(
            [
                maven.java(),
                f"-Xmx{HEAP}",
                f"-Djava.io.tmpdir={folder}",
                f"-Dlog4j2.configurationFile={folder / 'log4j2.properties'}",
                "-cp",
                f"{jars.worker(version)}/*",
                "org.apache.kafka.connect.cli.ConnectStandalone",
                "worker.properties",
            ],
            log=folder / "output.log",
            cwd=folder,
        )
        self._process.start()
        self.observed = Observed(self._process.pid)
        wait_for(self._answers, "Kafka Connect answers", START_SECONDS, 0.1)

    def close(self) -> None:
        self._process.close()

    def check(self) -> None:
        if not self._process.running:
            raise ChildProcessError(f"Kafka Connect has ended:\n{self._process.log_text()[-3000:]}")

    def ask(self, method: str, path: str, body: Mapping[str, str] | None = None) -> Any:
        """The answer, None where it is empty. Raises URLError."""
        url = f"http://127.0.0.1:{self._port}/connectors{path}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
        with urllib.request.urlopen(request, timeout=START_SECONDS) as answer:
            return json.loads(answer.read() or b"null")

    def _answers(self) -> bool:
        self.check()
        try:
            self.ask("GET", "")
        except OSError:
            return False
        return True


def worker(rig: Rig, *, plugins: Path, version: str) -> Worker:
    """The worker of this version, started when it is first asked for."""
    return rig.kept(f"connect-{version}", lambda: Worker(rig, plugins=plugins, version=version))


class Connect:
    """A connector in the worker of its version, from entering to leaving the context."""

    def __init__(self, rig: Rig, name: str, settings: Mapping[str, str], *, plugins: Path, version: str) -> None:
        self._name = name
        self._settings = {"name": name, "tasks.max": "1", **settings}
        self._worker = worker(rig, plugins=plugins, version=version)

    def __enter__(self) -> Connect:
        self.observed = self._worker.observed
        self.observed.forget_peak()
        self._worker.ask("PUT", f"/{self._name}/config", self._settings)
        return self

    def __exit__(self, *exc: object) -> None:
        # It answers when the task has ended, and the slot is free.
        self._worker.ask("DELETE", f"/{self._name}")

    def check(self) -> bool:
        """False, for conditions that are waited for; raises where the worker or its task has ended."""
        self._worker.check()
        failure = self._failure()
        if failure:
            raise ChildProcessError(f"the connector has failed:\n{failure}")
        return False

    def _failure(self) -> str | None:
        try:
            status = self._worker.ask("GET", f"/{self._name}/status")
        except OSError:
            return None  # it is still starting
        parts = [status["connector"], *status["tasks"]]
        return next((part.get("trace", "")[:3000] for part in parts if part["state"] == "FAILED"), None)


def _worker(rig: Rig, folder: Path, plugins: Path, port: int) -> dict[str, str]:
    avro = "io.confluent.connect.avro.AvroConverter"
    return {
        "bootstrap.servers": rig.kafka.bootstrap,
        "key.converter": avro,
        "key.converter.schema.registry.url": rig.registry.url,
        "value.converter": avro,
        "value.converter.schema.registry.url": rig.registry.url,
        "offset.storage.file.filename": str(folder / "offsets"),
        "offset.flush.interval.ms": "1000",
        "plugin.path": str(plugins),
        "plugin.discovery": "hybrid_warn",
        "listeners": f"http://127.0.0.1:{port}",
        "connector.client.config.override.policy": "All",
    }


def _write(path: Path, settings: Mapping[str, str]) -> None:
    path.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
