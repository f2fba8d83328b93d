"""pycdc as users start it: `pycdc run` with a configuration, a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.services.process import ServerProcess

from benchmarks.processes import Observed
from benchmarks.rig import Rig

ROOT = Path(__file__).parent.parent


def capture(
    rig: Rig, name: str, dsn: str, *, slot: str, publication: str = "bench", tables: str = "public.*", **more: Any
) -> dict[str, Any]:
    """A pipeline into Kafka over a slot and a publication that are there, beginning where the slot does."""
    source = {"slot": slot, "publication": publication, "manage_publication": False, "snapshot": "never"}
    return {
        "name": name,
        "source": {"postgres": {"dsn": dsn, "tables": [tables], **source, **more.pop("source", {})}},
        "sink": {"kafka": {"brokers": rig.kafka.bootstrap, "registry": rig.registry.url, **more.pop("kafka", {})}},
        "http": {"enabled": False},
        **more,
    }


_COMPILED = "import pycdc.cli.run, pycdc.connectors.kafka.connector, pycdc.sinks.postgres.sink"


def environment(rig: Rig) -> dict[str, str]:
    """With compiled modules, as every installation has them: compiling takes time and memory."""
    path, bytecode = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]), rig.folder / "bytecode"
    variables = {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(bytecode)}
    if not bytecode.exists():
        subprocess.run([sys.executable, "-c", _COMPILED], check=True, env={**os.environ, **variables})
    return variables


def back(rig: Rig, name: str, topic: str, dsn: str) -> dict[str, Any]:
    """A pipeline from a topic into the table `orders`."""
    return {
        "name": name,
        "source": {"kafka": {"brokers": rig.kafka.bootstrap, "registry": rig.registry.url, "topics": [topic]}},
        "sink": {"postgres": {"dsn": dsn, "routes": [{"topic": topic, "table": "public.orders"}]}},
        "http": {"enabled": False},
    }


class Pipeline:
    """`pycdc run`, from entering to leaving the context. It is asked to stop, and killed where it does not."""

    def __init__(self, rig: Rig, document: dict[str, Any]) -> None:
        path = rig.folder / f"{document['name']}.json"
        path.write_text(json.dumps(document))
        self._process = ServerProcess(
            [sys.executable, "-m", "pycdc", "run", str(path), "--no-live"],
            log=path.with_suffix(".log"),
            cwd=ROOT,
            environment=environment(rig),
        )

    def __enter__(self) -> Pipeline:
        self._process.start()
        self.observed = Observed(self._process.pid)
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.close()

    def kill(self) -> None:
        self._process.signal(signal.SIGKILL)
        self._process.wait(10)

    @property
    def running(self) -> bool:
        return self._process.running

    def check(self) -> bool:
        """False, for conditions that are waited for; raises where it has ended by itself."""
        if not self._process.running:
            raise ChildProcessError(f"pycdc has ended:\n{self.log_text()[-2000:]}")
        return False

    def log_text(self) -> str:
        return self._process.log_text()


def engine(rig: Rig, document: dict[str, Any], events: int, *, warm: int = 1) -> dict[str, float]:
    """Run `benchmarks.engine` until it has delivered `events`; what it measured from within, after `warm` of them."""
    path = rig.folder / f"{document['name']}.json"
    path.write_text(json.dumps(document))
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.engine", str(path), str(events), str(warm)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, **environment(rig)},
    )
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures
