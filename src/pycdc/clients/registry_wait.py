"""Waiting for an answer of the registry that may never come, in a way that hears a stop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Final, TypeVar

from pycdc.clients.registry_http import RegistryAway

T = TypeVar("T")

_SLICE: Final = 0.2
_REPORTED_AFTER: Final = 3.0
"""Seconds without an answer after which it is said."""
STOP_GRACE: Final = 2.0
"""Seconds that an answer still has once the pipeline was stopped."""


def awaited(ask: Callable[[], T], stopping: threading.Event | None, silent: Callable[[float], None]) -> T:
    """Return what `ask` returns; `silent` is called again and again with how long there has been no answer.

    Raises RegistryAway where that takes too long after the stop: `ask` is then left alone, on a thread that ends with
    the process.
    """
    if stopping is None:
        return ask()
    answer: Future[T] = Future()
    threading.Thread(target=_ask, args=(ask, answer), name="pycdc-registry", daemon=True).start()
    began, stopped_at = time.monotonic(), None
    while not wait([answer], _SLICE).done:
        now = time.monotonic()
        if now - began >= _REPORTED_AFTER:
            silent(now - began)
        if stopping.is_set():
            stopped_at = stopped_at or now
            if now - stopped_at >= STOP_GRACE:
                raise RegistryAway("no answer before the pipeline was stopped")
    return answer.result()


def _ask(ask: Callable[[], T], answer: Future[T]) -> None:
    try:
        answer.set_result(ask())
    except BaseException as error:
        answer.set_exception(error)
