"""Waiting that hears a stop: generators that yield for as long as there is nothing to do but wait."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Final, TypeVar

from pycdc.clients.postgres_errors import TableLocked
from pycdc.observability.logger import get_logger
from pycdc.observability.progress import Progress

log = get_logger()

T = TypeVar("T")

_TURN: Final = 0.1
"""Seconds until whoever iterates gets a turn."""
LOCK_SECONDS: Final = 300.0


def for_locks(
    action: Callable[[], T], progress: Progress, what: str, seconds: float = LOCK_SECONDS
) -> Generator[None, None, T]:
    """Do what needs locks of tables, and try again where somebody has them. Raises TableLocked after `seconds`."""
    began = time.monotonic()
    try:
        while True:
            try:
                return action()
            except TableLocked as error:
                now = time.monotonic()
                if now - began >= seconds:
                    error.hint = error.hint or "end what has the lock, or start when it has ended"
                    raise
                if not progress.waits_for:
                    log.warning("a lock is held by somebody, such as VACUUM; waiting", for_what=what, seconds=seconds)
                    progress.wait_for(f"a lock, to {what}")
            yield None
            time.sleep(_TURN)
    finally:
        progress.wait_for("")


def elsewhere(make: Callable[[threading.Event], T], progress: Progress) -> Generator[None, None, T]:
    """Return what `make` returns, from a thread of its own; its event is set when nobody wants it any more."""
    given_up = threading.Event()
    with ThreadPoolExecutor(1, thread_name_prefix="pycdc-waiting") as executor:
        future = executor.submit(make, given_up)
        try:
            while not wait([future], _TURN).done:
                yield None
        except GeneratorExit:
            given_up.set()
            if future.exception() is None and (close := getattr(future.result(), "close", None)) is not None:
                close()
            raise
        finally:
            progress.wait_for("")
    return future.result()


class Timer:
    """Due every `interval` seconds; never if that is 0. A heartbeat shows that the pipeline lives when no WAL does."""

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._next = time.monotonic() + interval

    def due(self) -> bool:
        if not self._interval or time.monotonic() < self._next:
            return False
        self._next = time.monotonic() + self._interval
        return True
