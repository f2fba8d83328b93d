"""Nothing is left behind, whatever becomes of the process that started the servers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.services.availability import ServerFailed
from tests.services.process import (
    ServerProcess,
    accepts_connections,
    free_port,
    run,
    temporary_folder,
    wait_until_ready,
)

ROOT = Path(__file__).parents[2]

OWNER = """
import signal, sys, time
from tests.services.process import ServerProcess, temporary_folder
folder = temporary_folder("owner")
server = ServerProcess(["sleep", "600"], log=folder / "log", cwd=folder)
server.start()
if sys.argv[1] == "paused":
    server.signal(signal.SIGSTOP)
print(server.pid, folder, flush=True)
if sys.argv[1] != "exit":
    time.sleep(600)
"""


def owner(way: str) -> tuple[subprocess.Popen[str], int, Path]:
    """A process that started a server: itself, the server's pid, its folder."""
    process = subprocess.Popen([sys.executable, "-c", OWNER, way], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    pid, folder = process.stdout.readline().split()
    return process, int(pid), Path(folder)


def alive(pid: int) -> bool:
    """A zombie that its new parent has not waited for counts as gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def has_logged(server: ServerProcess, text: str) -> bool:
    return server.log_text() == text


def wait_until(condition: Callable[[], bool], complaint: str) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, complaint
        time.sleep(0.02)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
@pytest.mark.parametrize("way", ["killed", "paused", "exit"])
def test_servers_and_folders_go_with_the_process_that_made_them(way: str) -> None:
    process, pid, folder = owner(way)
    if way != "exit":
        assert alive(pid)
        assert folder.exists()
        process.send_signal(signal.SIGKILL)
    process.communicate()
    wait_until(lambda: not alive(pid) and not folder.exists(), f"pid {pid} or {folder} is still there")


def test_a_server_can_be_started_again_and_appends_to_its_log() -> None:
    folder = temporary_folder("again")
    server = ServerProcess(["sh", "-c", "echo started; exec sleep 600"], log=folder / "log", cwd=folder)
    for expected in ("started\n", "started\nstarted\n"):
        server.start()
        wait_until_ready(server, partial(has_logged, server, expected), name="server", timeout=10)
        assert server.running
        server.close()
        assert not server.running


def test_a_paused_server_is_closed_too() -> None:
    folder = temporary_folder("paused")
    server = ServerProcess(["sleep", "600"], log=folder / "log", cwd=folder)
    server.start()
    server.signal(signal.SIGSTOP)
    server.close()
    assert not server.running


def test_a_server_that_ends_while_it_starts_shows_its_log() -> None:
    folder = temporary_folder("failing")
    server = ServerProcess(["sh", "-c", "echo the disk is full; exit 1"], log=folder / "log", cwd=folder)
    server.start()
    with pytest.raises(ServerFailed, match="the disk is full"):
        wait_until_ready(server, lambda: False, name="server", timeout=10)


def test_a_server_that_never_answers_is_given_up() -> None:
    folder = temporary_folder("silent")
    server = ServerProcess(["sleep", "600"], log=folder / "log", cwd=folder)
    server.start()
    with pytest.raises(ServerFailed, match="not ready"):
        wait_until_ready(server, lambda: False, name="server", timeout=0.1)
    server.close()


def test_waiting_for_a_server_that_does_not_end_is_bounded() -> None:
    folder = temporary_folder("lasting")
    server = ServerProcess(["sleep", "600"], log=folder / "log", cwd=folder)
    server.start()
    with pytest.raises(TimeoutError):
        server.wait(0.05)
    server.close()


def test_a_program_that_takes_too_long_is_ended_with_its_children() -> None:
    folder = temporary_folder("slow")
    code, output = run(["sh", "-c", "sleep 600 & echo $! > child; wait"], cwd=folder, timeout=0.5)
    assert (code, "did not end" in output) == (-signal.SIGKILL, True)
    child = int((folder / "child").read_text())
    wait_until(lambda: not alive(child), f"the child {child} is still there")


def test_a_free_port_is_outside_what_outgoing_connections_take() -> None:
    port = free_port()
    assert not accepts_connections(port)
    range_file = Path("/proc/sys/net/ipv4/ip_local_port_range")
    if range_file.exists():
        assert port < int(range_file.read_text().split()[0]) or os.environ.get("CI") is None
