"""Kafka Connect, standalone, with one connector: a process like the other servers."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from tests.services import maven
from tests.services.process import ServerProcess, free_port

from benchmarks.peers import jars
from benchmarks.processes import Observed
from benchmarks.rig import Rig

HEAP = "2g"
_LOG4J = """
status = error
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d %p [%c{1}] %m%n
rootLogger.level = warn
rootLogger.appenderRef.out.ref = out
"""


class Connect:
    """A worker with the connector of `settings`, from entering to leaving the context."""

    def __init__(
        self, rig: Rig, name: str, settings: Mapping[str, str], *, plugins: Path, version: str, **worker: str
    ) -> None:
        self._name = name
        self._port = free_port()
        folder = rig.folder / f"connect-{name}"
        folder.mkdir()
        own = {**_worker(rig, folder, plugins, self._port), **worker}
        _write(folder / "worker.properties", own)
        _write(folder / "connector.properties", {"name": name, "tasks.max": "1", **settings})
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
                "connector.properties",
            ],
            log=folder / "output.log",
            cwd=folder,
        )

    def __enter__(self) -> Connect:
        self._process.start()
        self.observed = Observed(self._process.pid)
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.close()

    def check(self) -> bool:
        """False, for conditions that are waited for; raises where the worker or its task has ended."""
        if not self._process.running:
            raise ChildProcessError(f"Kafka Connect has ended:\n{self._process.log_text()[-3000:]}")
        failure = self._failure()
        if failure:
            raise ChildProcessError(f"the connector has failed:\n{failure}")
        return False

    def _failure(self) -> str | None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/connectors/{self._name}/status") as answer:
                status = json.load(answer)
        except (urllib.error.URLError, OSError):
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
