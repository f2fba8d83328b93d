"""Threads that all do the same until a block ends."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self


class Crowd:
    """Calls `work` with the numbers from 0, each in a thread; it returns once `ended` is set.

    What one of them raises, the block's end raises.
    """

    def __init__(self, work: Callable[[int], None], size: int) -> None:
        self.ended = threading.Event()
        self._work = work
        self._size = size
        self._executor = ThreadPoolExecutor(size, type(self).__name__)
        self._futures: list[Future[None]] = []

    def __enter__(self) -> Self:
        self._futures = [self._executor.submit(self._work, number) for number in range(self._size)]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.ended.set()
        self._executor.shutdown()
        for future in self._futures if kind is None else []:
            future.result()
