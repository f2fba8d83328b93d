"""A schema registry for tests: Apicurio, which speaks Confluent's REST API."""

from __future__ import annotations

import os
import signal
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from tests.proxy import Proxy

from . import docker, maven
from .availability import Unavailable
from .process import Control, ServerProcess, free_port, temporary_folder, wait_until_ready

VARIABLE = "PYCDC_TEST_REGISTRY"
VERSION = "3.0.9"
IMAGE = f"apicurio/apicurio-registry:{VERSION}"
ARCHIVE = maven.Archive("apicurio", f"io.apicurio:apicurio-registry-app:{VERSION}:tar.gz:all")
JAVA_OPTIONS = ["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData"]
CONFLUENT_API = "/apis/ccompat/v7"
START_SECONDS = 90.0


class RegistryAddress:
    """A registry that somebody else runs."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

    def __repr__(self) -> str:
        return f"<registry {self.url}>"

    def proxy(self) -> Proxy:
        """A proxy in front of it: ``http://{proxy.address}/apis/ccompat/v7``."""
        parts = urllib.parse.urlsplit(self.url)
        return Proxy(str(parts.hostname), parts.port or 80)

    # What only our own server can do.

    def stop(self, *, timeout: float = 30.0) -> None:
        raise self._not_ours()

    def start(self) -> None:
        raise self._not_ours()

    def kill(self) -> None:
        raise self._not_ours()

    def pause(self) -> None:
        raise self._not_ours()

    def resume(self) -> None:
        raise self._not_ours()

    def log_text(self) -> str:
        raise self._not_ours()

    def heal(self) -> None:
        """Nothing to heal: a registry that is not ours was not touched."""

    def close(self) -> None:
        """Nothing to close."""

    def _not_ours(self) -> Exception:
        return Unavailable(f"the registry of {VARIABLE} is not ours to stop")


class Registry(RegistryAddress):
    """A registry of our own. Started again it has its port, and as a process its schemas and their ids too."""

    def __init__(self, control: Control, port: int) -> None:
        super().__init__(f"http://127.0.0.1:{port}{CONFLUENT_API}")
        self.control = control
        self.port = port

    def start(self) -> None:
        self.control.start()
        wait_until_ready(self.control, self._answers, name=repr(self), timeout=START_SECONDS)

    def stop(self, *, timeout: float = 30.0) -> None:
        self.control.signal(signal.SIGTERM)
        self.control.wait(timeout)

    def kill(self) -> None:
        self.control.signal(signal.SIGKILL)
        self.control.wait(10)

    def pause(self) -> None:
        """SIGSTOP: connections stay open and nothing is answered."""
        self.control.signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.control.signal(signal.SIGCONT)

    def log_text(self) -> str:
        return self.control.log_text()

    def heal(self) -> None:
        self.resume()
        if not self.control.running:
            self.start()

    def close(self) -> None:
        self.control.signal(signal.SIGKILL)
        self.control.close()

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/subjects", timeout=5) as answer:
                return bool(answer.status == 200)
        except urllib.error.HTTPError as error:
            error.close()
            return False
        except OSError:
            return False


def describe() -> str:
    """Where ``launch`` would take it from, for the report's header."""
    if os.environ.get(VARIABLE):
        return f"{os.environ[VARIABLE]} ({VARIABLE})"
    if docker.engine_answers():
        return f"{IMAGE} (docker)"
    try:
        maven.java()
    except Unavailable as reason:
        return f"none: {reason}"
    return f"Apicurio {VERSION} (java, {'cached' if maven.cached(ARCHIVE) else 'by Maven'})"


def launch() -> RegistryAddress:
    """A registry that answers. ``Unavailable`` if there is none."""
    address = os.environ.get(VARIABLE)
    if address:
        return RegistryAddress(address)
    port = free_port()
    server = Registry(_container(port) if docker.engine_answers() else _program(port), port)
    try:
        server.start()
    except BaseException:
        server.close()
        raise
    return server


def _container(port: int) -> Control:
    return docker.Container(IMAGE, ports={8080: port}, environment={"APICURIO_STORAGE_KIND": "sql"})


def _program(port: int) -> Control:
    java = maven.java()
    jar = next(maven.resolve(ARCHIVE).rglob("*-runner.jar"))
    folder = temporary_folder("registry")
    return ServerProcess(
        [java, *JAVA_OPTIONS, f"-Djava.io.tmpdir={folder}", "-jar", str(jar)],
        log=folder / "registry.log",
        cwd=folder,
        environment=_settings(folder, port),
        end_signal=signal.SIGKILL,
    )


def _settings(folder: Path, port: int) -> dict[str, str]:
    return {
        "APICURIO_STORAGE_KIND": "sql",
        "APICURIO_STORAGE_SQL_KIND": "h2",
        # A file instead of memory, written at once: ids outlive a restart and a kill.
        "APICURIO_DATASOURCE_URL": f"jdbc:h2:file:{folder / 'schemas'};DB_CLOSE_ON_EXIT=FALSE;WRITE_DELAY=0",
        "QUARKUS_HTTP_HOST": "127.0.0.1",
        "QUARKUS_HTTP_PORT": str(port),
    }
