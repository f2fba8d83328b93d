"""A façade as a user runs it, with the real Envoy, between two small systems."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from examples.inventory.browser import Browser

from tests.facade.upstreams import SECONDS, Upstream
from tests.programs import Program
from tests.services.process import free_port

PYCDC = [sys.executable, "-m", "pycdc"]


@pytest.fixture
def old() -> Iterator[Upstream]:
    upstream = Upstream("old")
    yield upstream
    upstream.stop()


@pytest.fixture
def new() -> Iterator[Upstream]:
    upstream = Upstream("new")
    yield upstream
    upstream.stop()


class Running:
    """`pycdc facade run` on a port of its own; `options` are those of the section `facade`."""

    def __init__(self, folder: Path, old: Upstream, new: Upstream, options: dict[str, Any]) -> None:
        self.port = free_port()
        self.folder = folder
        self.path = folder / "migration.yaml"
        facade = {
            "listen": f"127.0.0.1:{self.port}",
            "clusters": {"old": old.url, "new": new.url},
            "routes": {
                "read": {"path": "/api/stock/{itemId}"},
                "write": {"path": "/api/stock", "methods": ["POST"]},
            },
            "bake": 0.5,
            "min_requests": 5,
            **options,
        }
        self.path.write_text(json.dumps({"facade": facade}))
        self.browsers: list[Browser] = []
        self.program = self.start()

    def begin(self) -> Program:
        return Program([*PYCDC, "facade", "run", str(self.path)], self.folder)

    def start(self) -> Program:
        program = self.begin()
        program.wait_until(lambda: "is served" in program.log)
        return program

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        name, *rest = arguments
        command = [*PYCDC, "facade", name, str(self.path), *rest]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def weight(self, route: str = "read") -> dict[str, Any]:
        kept = json.loads((self.folder / "facade" / "weights.json").read_text())
        found: dict[str, Any] = kept["routes"][route]
        return found

    def browser(self) -> Browser:
        self.browsers.append(Browser(self.port, SECONDS, theme="dark"))
        return self.browsers[-1]


Run = Callable[..., Running]


@pytest.fixture
def run(tmp_path: Path, old: Upstream, new: Upstream) -> Iterator[Run]:
    with ExitStack() as stack:

        def start(**options: Any) -> Running:
            running = Running(tmp_path, old, new, options)
            stack.callback(stop, running)
            return running

        yield start


def stop(running: Running) -> None:
    for browser in running.browsers:
        browser.close()
    with running.program as program:
        if program.running:
            assert program.stop() == 0, program.log
