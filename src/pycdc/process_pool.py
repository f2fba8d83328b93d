"""Processes of our own as an executor: each a fresh interpreter that ends with whoever asked for it.

The standard library's pool runs the program's main module again in each process, which a program that embeds pycdc may
not survive, and which loads what a worker does not need; it gives up as a whole when one process dies; and its
processes outlive a parent that is killed. So a process here is given functions and arguments over a pipe, and nothing
else. The pipe's end is its end, in the middle of a task too: no signal, no clean-up by the parent is needed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pickle
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any, BinaryIO, Final, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
_Work = tuple[Future[Any], Callable[[], bytes]]

_PIPE: Final = 1024 * 1024
"""Bytes that a pipe may hold, where the system lets us: fewer turns for an answer of megabytes."""
_F_SETPIPE_SZ: Final = 1031


class ProcessDied(BrokenExecutor):
    """The process that had the task is gone, and with it the answer. The next task gets another."""


class ProcessPool(Executor):
    """`count` processes, each started when there is work for it, and again after it died.

    Functions are named by their modules, so they must be importable. `shutdown` ends the processes at once.
    """

    def __init__(self, count: int) -> None:
        self._work: SimpleQueue[_Work | None] = SimpleQueue()
        self._ended = threading.Event()
        self._hands = [_Hand(self._work, self._ended) for _ in range(count)]

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        if self._ended.is_set():
            raise RuntimeError("these processes were shut down")
        future: Future[T] = Future()
        self._work.put((future, lambda: pickle.dumps((fn, args, kwargs), pickle.HIGHEST_PROTOCOL)))
        for hand in self._hands:
            hand.begin()
        return future

    @property
    def pids(self) -> list[int]:
        """Of the processes that run."""
        return [hand.process.pid for hand in self._hands if hand.process is not None]

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the processes. What they were at, and what waits, fails with ProcessDied. Idempotent."""
        self._ended.set()
        for hand in self._hands:
            self._work.put(None)
            hand.end()
        for hand in self._hands:
            hand.join()


@dataclass(slots=True)
class _WorkerProcess:
    """A process and the pipes to it."""

    process: subprocess.Popen[bytes]
    requests: BinaryIO
    answers: BinaryIO

    @classmethod
    def start(cls) -> _WorkerProcess:
        child_in, own_out = os.pipe()
        own_in, child_out = os.pipe()
        with contextlib.suppress(OSError):
            fcntl.fcntl(own_in, _F_SETPIPE_SZ, _PIPE)
        # -P, and no empty entry: what lies in the folder at hand must not take the place of a module of ours.
        command = [sys.executable, "-P", "-m", "pycdc.process_pool", str(child_in), str(child_out)]
        path = os.pathsep.join(filter(None, sys.path))
        try:
            # A group of its own: Ctrl-C is the parent's business.
            process = subprocess.Popen(
                command,
                pass_fds=(child_in, child_out),
                stdin=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": path},
                process_group=0,
            )
        finally:
            os.close(child_in)
            os.close(child_out)
        return cls(process, open(own_out, "wb"), open(own_in, "rb"))

    @property
    def pid(self) -> int:
        return self.process.pid

    def call(self, request: bytes) -> tuple[bool, Any]:
        """Whether the function returned, and what it returned or raised. Raises ProcessDied."""
        try:
            self.requests.write(request)
            self.requests.flush()
            answer: tuple[bool, Any] = pickle.load(self.answers)  # noqa: S301 - of a process of our own
        except (EOFError, OSError, pickle.UnpicklingError):
            raise ProcessDied("a process ended in the middle of a task") from None
        return answer

    def end(self) -> None:
        """Idempotent, from any thread."""
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        self.end()
        self.answers.close()
        with contextlib.suppress(BrokenPipeError):
            self.requests.close()


@dataclass(slots=True)
class _Hand:
    """A thread that hands tasks to one process after another dies."""

    work: SimpleQueue[_Work | None]
    ended: threading.Event
    process: _WorkerProcess | None = None
    _thread: threading.Thread | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="pycdc-worker", daemon=True)
            self._thread.start()

    def end(self) -> None:
        with self._lock:
            if self.process is not None:
                self.process.end()

    def join(self) -> None:
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while (item := self.work.get()) is not None:
            future, request = item
            if future.set_running_or_notify_cancel():
                self._do(future, request)
        self._drop()

    def _do(self, future: Future[Any], request: Callable[[], bytes]) -> None:
        try:
            done, result = self._process().call(request())
        except ProcessDied as error:
            self._drop()
            future.set_exception(error)
        except Exception as error:
            # Of this side: what cannot be pickled, a process that cannot be started.
            future.set_exception(error)
        else:
            if done:
                future.set_result(result)
            else:
                future.set_exception(result)

    def _process(self) -> _WorkerProcess:
        with self._lock:
            if self.ended.is_set():
                raise ProcessDied("the processes were shut down")
            if self.process is not None and self.process.process.poll() is not None:
                self.process.close()
                self.process = None
            if self.process is None:
                self.process = _WorkerProcess.start()
            return self.process

    def _drop(self) -> None:
        with self._lock:
            process, self.process = self.process, None
        if process is not None:
            process.close()


# -- the other side


def serve(requests: int, answers: int) -> None:
    """Do what comes, until nobody is there to ask."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(requests,), daemon=True).start()
    with open(requests, "rb") as source, open(answers, "wb") as target:
        while True:
            try:
                function, args, kwargs = pickle.load(source)  # noqa: S301 - of the process that started us
            except EOFError:
                return
            target.write(_answer(function, args, kwargs))
            target.flush()


def _answer(function: Callable[..., Any], args: Any, kwargs: Any) -> bytes:
    try:
        answer = (True, function(*args, **kwargs))
        return pickle.dumps(answer, pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        return _failure(error)


def _failure(error: Exception) -> bytes:
    """Without its traceback and its context, which could quote rows."""
    error.__context__ = error.__cause__ = None
    try:
        data = pickle.dumps((False, error), pickle.HIGHEST_PROTOCOL)
        pickle.loads(data)  # noqa: S301 - our own
    except Exception:
        return pickle.dumps((False, RuntimeError(f"{type(error).__name__} in a process")), pickle.HIGHEST_PROTOCOL)
    return data


def _end_with(pipe: int) -> None:
    """End this process when the other end of `pipe` is closed, whatever it is at."""
    poll = select.poll()
    poll.register(pipe, 0)
    while not any(event & (select.POLLHUP | select.POLLERR) for _, event in poll.poll()):
        continue
    os._exit(0)


if __name__ == "__main__":
    serve(int(sys.argv[1]), int(sys.argv[2]))
