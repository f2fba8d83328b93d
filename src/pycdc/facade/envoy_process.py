"""The Envoy process of a façade: adopted or started, watched, stopped.

A killed `pycdc facade run` leaves its Envoy behind, which serves on. The next run adopts it where the bootstrap is the
same. Where it is not, both listen on the port for a moment, by SO_REUSEPORT, and the other one leaves once the new one
is ready: the kernel resets what waits in its accept queue then.
"""

from __future__ import annotations

import fcntl
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

from pycdc.errors import ConnectionLost, EnvironmentNotReady
from pycdc.facade.envoy import EnvoyAdmin, EnvoyRecord, Facade, envoy_binary
from pycdc.facade.foreign_process import ForeignProcess, processes_with

Process = subprocess.Popen[bytes] | ForeignProcess
T = TypeVar("T")

START_SECONDS: Final = 30.0
_STOP_SECONDS: Final = 10.0


@contextmanager
def only_run(facade: Facade) -> Iterator[None]:
    """Keep other runs off these files. Raises EnvironmentNotReady where one is at work."""
    facade.folder.mkdir(parents=True, exist_ok=True)
    with (facade.folder / "run.lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise EnvironmentNotReady(
                f"another pycdc facade run is at work in {facade.folder}", hint="stop it first, or give `folder` a name"
            ) from None
        yield


class EnvoyProcess:
    """An Envoy that ends with its block. Raises EnvironmentNotReady where it does not come up."""

    _process: Process

    def __init__(self, facade: Facade) -> None:
        facade.render()
        self._facade = facade
        self._log = facade.folder / "envoy.log"
        bootstrap = sha256(facade.bootstrap().encode()).hexdigest()
        before = _left_behind(facade)
        adopted = before if before is not None and before.record.bootstrap == bootstrap else None
        self._process = self._started() if adopted is None else adopted.process
        try:
            address = self._until(self._address) if adopted is None else adopted.record.admin
            self.admin = self._ready(address)
            facade.keep(EnvoyRecord(self._process.pid, address, bootstrap))
        except BaseException:
            _kill(self._process)  # the next run begins anew
            raise
        if before is not None and adopted is None:
            _leave(EnvoyAdmin(f"http://{before.record.admin}"), before.process)

    def _started(self) -> subprocess.Popen[bytes]:
        self._admin_file.unlink(missing_ok=True)
        command = [envoy_binary(), *_arguments(self._facade), str(self._admin_file)]
        # With hot restart Envoy ends with its parent: a killed guard would take the users' requests with it.
        command += ["--log-level", "warning", "--disable-hot-restart"]
        command += ["--drain-strategy", "immediate", "--file-flush-interval-msec", "500"]
        with self._log.open("ab") as log:
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    @property
    def _admin_file(self) -> Path:
        return self._facade.folder / "admin-address"

    def _address(self) -> str | None:
        """Return where the admin interface listens, which Envoy writes once it does."""
        return self._admin_file.read_text(encoding="utf-8").strip() if self._admin_file.exists() else None

    def _ready(self, address: str) -> EnvoyAdmin:
        admin = EnvoyAdmin(f"http://{address}")

        def ready() -> EnvoyAdmin | None:
            with suppress(ConnectionLost):
                return admin if admin.ready() else None
            return None

        return self._until(ready)

    def _until(self, answer: Callable[[], T | None]) -> T:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            self.check()
            if found := answer():
                return found
            time.sleep(0.05)
        raise EnvironmentNotReady(f"Envoy is not ready after {START_SECONDS:g} s", hint=f"see {self._log}")

    def check(self) -> None:
        """Raise EnvironmentNotReady where it has ended."""
        if isinstance(self._process, ForeignProcess):
            ended, code = self._process.ended(), ""
        else:
            ended, code = self._process.poll() is not None, f" with {self._process.returncode}"
        if ended:
            raise EnvironmentNotReady(
                f"Envoy ended{code}", hint=f"see {self._log}; does something else listen on its port?"
            )

    def stop(self) -> None:
        """Answer what was asked, and end."""
        _leave(self.admin, self._process)

    def __enter__(self) -> EnvoyProcess:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()


def _arguments(facade: Facade) -> list[str]:
    """Return the arguments by which an Envoy of these files is known; one that checks them has others."""
    return ["-c", str(facade.bootstrap_file), "--admin-address-path"]


class _LeftBehind(NamedTuple):
    record: EnvoyRecord
    process: ForeignProcess


def _left_behind(facade: Facade) -> _LeftBehind | None:
    """Return the Envoy that a killed run left. Ends those whose run was killed before they were ready, or had left."""
    record, serving = facade.record(), None
    for process in processes_with(*_arguments(facade)):
        if record is not None and process.pid == record.pid:
            serving = process
        else:
            _kill(process)
    return None if record is None or serving is None else _LeftBehind(record, serving)


def _leave(admin: EnvoyAdmin, process: Process) -> None:
    try:
        admin.leave()
        process.wait(_STOP_SECONDS)
    except (ConnectionLost, subprocess.TimeoutExpired):
        _kill(process)


def _kill(process: Process) -> None:
    process.kill()
    process.wait()
