"""Programs as servers: started, stopped, killed, paused, and never left behind."""

from __future__ import annotations

import os
import pwd
import random
import signal
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from .availability import ServerFailed
from .watchdog import WATCHDOG

LOG_TAIL = 4000
PORTS = range(20000, 32000)
"""Below the range that Linux gives to outgoing connections: nobody takes a server's port while it restarts."""


class Control(Protocol):
    """What can be done to a server, whether it is a process or a container."""

    @property
    def running(self) -> bool: ...
    def start(self) -> None: ...
    def signal(self, number: int) -> None: ...
    def wait(self, timeout: float) -> None:
        """Return when the server has ended; ``TimeoutError`` if it has not after ``timeout`` seconds."""

    def log_text(self) -> str: ...
    def close(self) -> None:
        """End the server, if need be with SIGKILL. Idempotent."""


@dataclass(frozen=True, slots=True)
class Account:
    """A user of the operating system to run a program as."""

    name: str
    uid: int
    gid: int


def unprivileged_account() -> Account | None:
    """The user for programs that refuse to run as root; ``None`` where this process is not root and needs no other."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, entry.pw_uid, entry.pw_gid)
    raise ServerFailed("this process is root, and the machine has neither a user postgres nor nobody")


class ServerProcess:
    """One program, which can be started again after it ended. Its output is appended to ``log``."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        log: Path,
        cwd: Path,
        environment: Mapping[str, str] | None = None,
        account: Account | None = None,
        end_signal: int = signal.SIGTERM,
    ) -> None:
        self._argv = list(argv)
        self._log = log
        self._cwd = cwd
        self._environment = None if environment is None else {**os.environ, **environment}
        self._account = account
        self._end_signal = end_signal
        self._process: subprocess.Popen[bytes] | None = None
        self._paused = False

    @property
    def pid(self) -> int:
        if self._process is None:
            raise ServerFailed(f"{self._argv[0]} is not running")
        return self._process.pid

    @property
    def running(self) -> bool:
        if self._process is None:
            return False
        if self._process.poll() is None:
            return True
        self._gone()
        return False

    def start(self) -> None:
        if self.running:
            return
        with self._log.open("ab") as log:
            self._process = spawn(
                self._argv,
                stdout=log,
                cwd=self._cwd,
                environment=self._environment,
                account=self._account,
                end_signal=self._end_signal,
            )

    def signal(self, number: int) -> None:
        """Send it, if the server runs. SIGSTOP has taken hold on return: its threads run on for a moment first."""
        if self.running:
            os.kill(self.pid, number)
            if number == signal.SIGSTOP:
                os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
            if number in (signal.SIGSTOP, signal.SIGCONT):
                self._paused = number == signal.SIGSTOP

    def wait(self, timeout: float) -> None:
        if self._process is None:
            return
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"{self._argv[0]} still runs after {timeout} s") from None
        self._gone()

    def log_text(self) -> str:
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def close(self) -> None:
        self.signal(self._end_signal)
        if self._paused:
            self.signal(signal.SIGCONT)
        try:
            self.wait(20)
        except TimeoutError:
            self.signal(signal.SIGKILL)
            self.wait(20)

    def _gone(self) -> None:
        if self._process is not None:
            WATCHDOG.forget(self._process.pid)
        self._process = None
        self._paused = False


def spawn(
    argv: Sequence[str],
    *,
    stdout: int | IO[bytes],
    cwd: Path,
    environment: Mapping[str, str] | None = None,
    account: Account | None = None,
    end_signal: int = signal.SIGTERM,
) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own, under the watchdog's eye.

    The caller waits for it, and then tells the watchdog to forget it.
    """
    process = subprocess.Popen(
        list(argv),
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.STDOUT,
        cwd=cwd,
        env=None if environment is None else dict(environment),
        start_new_session=True,
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=[] if account else None,
    )
    WATCHDOG.watch(process.pid, end_signal)
    return process


def run(
    argv: Sequence[str],
    *,
    cwd: Path,
    timeout: float,
    account: Account | None = None,
    environment: Mapping[str, str] | None = None,
) -> tuple[int, str]:
    """Run a program to its end; its exit code and its output (both streams). It is killed with whoever waits for it."""
    process = spawn(argv, stdout=subprocess.PIPE, cwd=cwd, account=account, environment=environment)
    try:
        output, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        return _kill_group(process), f"{argv[0]} did not end within {timeout:.0f} s"
    except BaseException:
        _kill_group(process)
        raise
    finally:
        WATCHDOG.forget(process.pid)
    return process.returncode, output.decode(errors="replace")


def _kill_group(process: subprocess.Popen[bytes]) -> int:
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    return process.returncode


def wait_until_ready(control: Control, is_ready: Callable[[], bool], *, name: str, timeout: float) -> None:
    """Poll ``is_ready`` until it is true; ``ServerFailed`` with the log's tail if the server ends first or is late."""
    deadline = time.monotonic() + timeout
    while not is_ready():
        if not control.running:
            raise ServerFailed(f"{name} ended while it started:\n{control.log_text()[-LOG_TAIL:]}")
        if time.monotonic() > deadline:
            raise ServerFailed(f"{name} is not ready after {timeout:.0f} s:\n{control.log_text()[-LOG_TAIL:]}")
        time.sleep(0.02)


def free_port() -> int:
    """A TCP port on loopback that nobody listens on."""
    for _ in range(200):
        port = random.choice(PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise ServerFailed(f"no free port between {PORTS.start} and {PORTS.stop}")


def held_port() -> socket.socket:
    """A free port that `free_port` gives to nobody until this is closed, for a server that takes long to begin."""
    while True:
        holder = socket.socket()
        try:
            holder.bind(("127.0.0.1", free_port()))
        except OSError:
            holder.close()
            continue
        return holder


def accepts_connections(port: int, host: str = "127.0.0.1") -> bool:
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True


def temporary_folder(name: str, account: Account | None = None) -> Path:
    """A new folder that goes away with this process. Owned by ``account``, who can also reach it."""
    parent = Path(tempfile.gettempdir())
    if account is not None and not others_can_reach(parent):
        parent = Path("/tmp")
    folder = Path(tempfile.mkdtemp(prefix=f"pycdc-test-{name}-", dir=parent))
    WATCHDOG.remove_at_end(str(folder))
    if account is not None:
        os.chown(folder, account.uid, account.gid)
    return folder


def others_can_reach(folder: Path) -> bool:
    """Whether a user who owns nothing of it may enter ``folder`` and read it."""
    folder = folder.resolve()
    return bool(folder.stat().st_mode & stat.S_IROTH) and all(
        step.stat().st_mode & stat.S_IXOTH for step in (folder, *folder.parents)
    )


def others_can_run(program: Path) -> bool:
    return bool(program.stat().st_mode & stat.S_IXOTH) and others_can_reach(program.parent)
