"""ProcessPool as an executor: results, errors, deaths, and an end that nobody has to see to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pycdc.errors import ConversionError
from pycdc.process_pool import ProcessDied, ProcessPool
from tests.reading import PATIENCE, wait_for


@pytest.fixture
def processes() -> Iterator[ProcessPool]:
    made = ProcessPool(2)
    yield made
    made.shutdown()


def fail(fact: str) -> None:
    try:
        raise ValueError("a row's value")
    except ValueError:
        raise ConversionError(fact, hint="mend it") from None


class Unsendable(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__("lost on the way")


def fail_unsendably() -> None:
    raise Unsendable(1, 2)


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def ended(pid: int) -> bool:
    """Whether the last thread of a child is over: its first may be so before."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def test_tasks_are_done_by_other_processes_and_as_many_as_were_asked_for(processes: ProcessPool) -> None:
    pids = {processes.submit(os.getpid).result(PATIENCE) for _ in range(20)}
    assert os.getpid() not in pids
    assert pids <= set(processes.pids)
    assert len(processes.pids) == 2


def test_large_arguments_and_results_come_whole(processes: ProcessPool) -> None:
    data = os.urandom(5_000_000)
    assert processes.submit(bytes, data).result(PATIENCE) == data


def test_what_a_task_raises_is_raised_here_with_its_hint_and_without_its_context(processes: ProcessPool) -> None:
    error = processes.submit(fail, "cannot be written").exception(30)
    assert isinstance(error, ConversionError)
    assert (error.fact, error.hint, error.__context__) == ("cannot be written", "mend it", None)


def test_an_error_that_cannot_travel_is_named(processes: ProcessPool) -> None:
    error = processes.submit(fail_unsendably).exception(30)
    assert isinstance(error, RuntimeError)
    assert "Unsendable" in str(error)
    assert processes.submit(len, "abc").result(PATIENCE) == 3


def test_what_cannot_be_sent_fails_alone(processes: ProcessPool) -> None:
    assert processes.submit(lambda: 1).exception(30) is not None
    assert processes.submit(len, "abc").result(PATIENCE) == 3


def test_a_process_that_dies_fails_its_task_only_and_is_replaced(processes: ProcessPool) -> None:
    sleeping = processes.submit(time.sleep, 60)
    other = processes.submit(os.getpid).result(PATIENCE)
    (victim,) = [pid for pid in processes.pids if pid != other]
    os.kill(victim, signal.SIGKILL)
    assert isinstance(sleeping.exception(30), ProcessDied)
    assert {processes.submit(os.getpid).result(PATIENCE) for _ in range(20)} <= set(processes.pids) - {victim}


def test_an_idle_process_that_died_costs_no_task(processes: ProcessPool) -> None:
    victims = {processes.submit(os.getpid).result(PATIENCE) for _ in range(20)}
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: all(map(ended, victims)))
    assert processes.submit(len, "abc").result(PATIENCE) == 3


def test_shutting_down_ends_what_is_under_way_at_once(processes: ProcessPool) -> None:
    sleeping = [processes.submit(time.sleep, 60) for _ in range(4)]
    wait_for(lambda: len(processes.pids) == 2)
    pids = processes.pids
    processes.shutdown()
    assert all(isinstance(future.exception(30), ProcessDied) for future in sleeping)
    assert not any(map(running, pids))
    with pytest.raises(RuntimeError, match="shut down"):
        processes.submit(len, "")


def test_processes_end_when_their_parent_is_killed_in_the_middle_of_a_task() -> None:
    code = (
        "import time; from pycdc.process_pool import ProcessPool; made = ProcessPool(2)\n"
        "made.submit(len, '').result(); futures = [made.submit(time.sleep, 60) for _ in range(2)]\n"
        "while len(made.pids) < 2 or not all(f.running() for f in futures): time.sleep(0.01)\n"
        "print(*made.pids, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent.stdout as told:
        pids = [int(pid) for pid in told.readline().split()]
    assert len(pids) == 2
    assert all(map(running, pids))
    parent.kill()
    parent.wait()
    wait_for(lambda: not any(map(running, pids)))


def test_a_process_does_not_run_the_main_module_again(tmp_path: Path) -> None:
    script = tmp_path / "unguarded.py"
    script.write_text(
        "print('once')\nfrom pycdc.process_pool import ProcessPool\nprint(ProcessPool(1).submit(len, 'ab').result())"
    )
    told = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60)
    assert told.stdout.split() == ["once", "2"]


def test_a_process_imports_nothing_from_the_folder_at_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fractions.py").write_text("raise RuntimeError('imported')")
    (tmp_path / "pickle.py").write_text("raise RuntimeError('imported')")
    monkeypatch.chdir(tmp_path)
    made = ProcessPool(1)
    try:
        assert made.submit(abs, -3).result(PATIENCE) == 3
    finally:
        made.shutdown()
