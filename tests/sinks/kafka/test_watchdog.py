from __future__ import annotations

import threading

from pycdc.sinks.kafka.watchdog import Watchdog


def test_a_call_that_does_not_come_back_ends_the_process() -> None:
    ended: list[int] = []
    over = threading.Event()

    def end(code: int) -> None:
        ended.append(code)
        over.set()

    watchdog = Watchdog(end, tick=0.01)
    with watchdog.limit(0.05, "a test"):
        assert over.wait(10)
    watchdog.close()
    assert ended[0] == 1


def test_a_call_that_comes_back_does_not() -> None:
    ended: list[int] = []
    watchdog = Watchdog(ended.append, tick=0.01)
    for _ in range(3):
        with watchdog.limit(60, "a test"):
            pass
    threading.Event().wait(0.1)
    watchdog.close()
    assert not ended
