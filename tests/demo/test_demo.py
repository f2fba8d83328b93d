"""The whole demonstration, as a user starts it: in a process of its own."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Sequence
from pathlib import Path

import psycopg
import pytest

from tests.demo.test_postgres import wait_for

pytestmark = [pytest.mark.server, pytest.mark.slow]

COMMAND = (
    sys.executable,
    "-W",
    "ignore::DeprecationWarning",
    "-c",
    "import logging; from pycdc.observability import logs; logs.configure(level=logging.WARNING)\n"
    "from pycdc.cli.demo import demo; demo(prog_name='pycdc demo')",
)
MATCH = "✓ every change was read back exactly once"


def start(*options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, "--plain", *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def read_until(process: subprocess.Popen[str], pattern: str) -> tuple[str, re.Match[str]]:
    """What was printed up to the line that matches."""
    assert process.stdout is not None
    text = ""
    for line in process.stdout:
        text += line
        if found := re.search(pattern, line):
            return text, found
    raise AssertionError(f"ended without {pattern!r}:\n{text}")


def processes_in(folder: Path) -> list[str]:
    """Command lines of processes that work in `folder`."""
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if str(folder) in line and "ps -eo" not in line]


def assert_nothing_left(room: Path) -> None:
    assert wait_for(lambda: processes_in(room) == [] and list(room.iterdir()) == []), list(room.iterdir())


def test_everything_written_is_read_back_and_nothing_is_left(room: Path) -> None:
    done = subprocess.run([*COMMAND, "--plain", "--seconds", "3"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert MATCH in done.stdout
    assert re.search(r"written .*60 snapshot, [1-9]\d* create, [1-9]\d* update, [1-9]\d* delete", done.stdout)
    assert done.stderr == ""
    assert_nothing_left(room)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_orderly(room: Path, how: signal.Signals) -> None:
    with start("--seconds", "0") as process:
        read_until(process, r"streaming$")
        process.send_signal(how)
        text, _ = read_until(process, re.escape(MATCH))
        assert process.wait(180) == 0, text
    assert_nothing_left(room)


def test_a_kill_leaves_nothing(room: Path) -> None:
    with start("--seconds", "0") as process:
        read_until(process, r"streaming$")
        process.kill()
    assert_nothing_left(room)


def test_changes_of_a_visitor_are_captured_and_told_apart(room: Path) -> None:
    with start("--seconds", "0", "--rate", "50") as process:
        _, found = read_until(process, r"postgresql://\S+")
        read_until(process, r"streaming$")
        with psycopg.connect(found[0]) as connection:
            connection.execute("INSERT INTO customers (name, email, city) VALUES ('You', 'you@example.com', 'Here')")
        process.send_signal(signal.SIGINT)
        text, _ = read_until(process, r"others +1 events")
        assert MATCH in text
        assert process.wait(180) == 0


def test_a_database_that_dies_ends_it_with_the_reason(room: Path) -> None:
    with start("--seconds", "0") as process:
        read_until(process, r"streaming$")
        (data,) = room.glob("*/data/postmaster.pid")
        os.kill(int(data.read_text().split("\n")[0]), signal.SIGKILL)
        read_until(process, r"ConnectionLost")
        assert process.wait(180) == 1
    assert_nothing_left(room)


def test_on_a_terminal_it_shows_the_live_view_and_gives_the_screen_back(room: Path) -> None:
    text = on_terminal([*COMMAND, "--seconds", "0"], ["newest events"], width=80, height=24)
    alternate, restored = text.find("\x1b[?1049h"), text.find("\x1b[?1049l")
    assert 0 < text.find("postgresql://") < alternate < text.find("newest events") < restored < text.find(MATCH)
    assert_nothing_left(room)


def on_terminal(command: Sequence[str], wanted: Sequence[str], *, width: int, height: int) -> str:
    """Run `command` on a terminal of that size until it wrote what is wanted, then end it; all that it wrote."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
    # Where these are set, as in a worker of a parallel run, they count for more than the terminal's own size.
    own_size = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    environment = {**own_size, "TERM": "xterm-256color"}
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    written, seen = bytearray(), threading.Event()

    def read() -> None:
        while True:
            try:
                written.extend(os.read(ours, 65536))
            except OSError:  # how Linux says that the last one closed the terminal
                return
            if not seen.is_set() and all(text.encode() in written for text in wanted):
                seen.set()
                process.send_signal(signal.SIGINT)

    reader = threading.Thread(target=read)
    reader.start()
    if not seen.wait(180):
        process.send_signal(signal.SIGINT)
    code = process.wait(180)
    reader.join()
    os.close(ours)
    assert code == 0, written.decode(errors="replace")
    return written.decode(errors="replace")
