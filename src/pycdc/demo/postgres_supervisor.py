"""Runs an embedded Postgres and cleans up after it, whatever happens to the program that asked for it.

A program of its own (standard library only), started by `pycdc.demo.postgres` with a job in JSON as its argument. It
ends when its standard input ends or its parent is gone (a forked worker may hold the pipe open): so also when the other
side was killed and could not say goodbye. On its way out it stops the server and removes the folder. Postgres in turn
is told by the kernel (Linux) when this program dies.

Strategy: say ``started`` on standard output once the server runs; anything else that is written there is the reason
why it does not.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

STARTED: Final = "started"

_POLL: Final = 0.2
_STOP_TIMEOUT: Final = 15.0
_PR_SET_PDEATHSIG: Final = 1
_LOG_TAIL: Final = 2000

# The data are thrown away, so nothing is synced. Commits still flush (synchronous_commit), since a walsender reads no
# further than that. Shared memory that is a file lies in the data folder, where it is removed with the rest.
SETTINGS: Final = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "wal_level": "logical",
    "track_commit_timestamp": "on",
    "max_wal_senders": "8",
    "max_replication_slots": "8",
    "max_connections": "40",
    "shared_buffers": "32MB",
    "dynamic_shared_memory_type": "mmap",
    "fsync": "off",
    "full_page_writes": "off",
    "log_min_messages": "warning",
}


def main() -> None:
    job = json.loads(sys.argv[1])
    home = Path(job["home"])
    for ignored in (signal.SIGINT, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    server = None
    try:
        with (home / "log").open("wb") as log:
            server = _start(job, home, log)
            print(STARTED, flush=True)  # noqa: T201  (the protocol with the other side)
            _wait(server, job["parent"])
    except (subprocess.CalledProcessError, OSError) as exc:
        print(f"{type(exc).__name__}: {exc}\n{_tail(home / 'log')}", flush=True)  # noqa: T201
    finally:
        if server is not None:
            _stop(server)
        shutil.rmtree(home, ignore_errors=True)


def _start(job: dict[str, Any], home: Path, log: Any) -> subprocess.Popen[bytes]:
    programs, data = Path(job["programs"]), home / "data"
    how: dict[str, Any] = {
        "cwd": home,
        "stdin": subprocess.DEVNULL,
        "stdout": log,
        "stderr": log,
        "env": {"PATH": os.defpath, "LC_ALL": "C"},
        "preexec_fn": _die_with_parent,
        **job["account"],
    }
    initdb = [programs / "initdb", "-D", data, "-U", job["role"], "--pwfile", home / "password"]
    subprocess.run(
        [*initdb, "-A", "scram-sha-256", "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions"],
        check=True,
        **how,
    )
    settings = {**SETTINGS, "port": str(job["port"])}
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    return subprocess.Popen([programs / "postgres", "-D", data, *options], **how)


def _die_with_parent() -> None:
    """Ask Linux to shut Postgres down should this program be killed. Elsewhere there is no such thing."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGQUIT)


def _wait(server: subprocess.Popen[bytes], parent: int) -> None:
    """Return when standard input ended, or the parent or the server did."""
    while server.poll() is None and os.getppid() == parent:
        readable, _, _ = select.select([sys.stdin.fileno()], [], [], _POLL)
        if readable and not os.read(sys.stdin.fileno(), 1):
            return


def _stop(server: subprocess.Popen[bytes]) -> None:
    if server.poll() is None:
        server.send_signal(signal.SIGQUIT)  # immediate: there is nothing to keep
    try:
        server.wait(_STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def _tail(log: Path) -> str:
    return log.read_bytes()[-_LOG_TAIL:].decode(errors="replace") if log.exists() else ""


if __name__ == "__main__":
    main()
