"""The SQLSTATE with which a server refuses a connection.

libpq tells only the server's words, which are in the language of its `lc_messages`. The code is in the trace of the
messages that libpq 18 and later writes while it connects: connecting once more tells it.
"""

from __future__ import annotations

import os
import re
import select
import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

import psycopg
from psycopg import conninfo, pq

_HOSTS: Final = ("host", "hostaddr", "port")
_SECONDS: Final = 3.0
_REFUSED: Final = re.compile(rb'\tB\t\d+\tErrorResponse\t S "[^"\n]*" V "\w+" C "(\w{5})"')
_MOST: Final = 1_000_000
"""Bytes of a trace that are read."""


_known: Final[dict[str, list[str]]] = {}
"""By words: each trace costs a stream that nobody can close, so that what was asked once is not asked again."""
_REMEMBERED: Final = 100


def sqlstates(words: str, parameters: Mapping[str, Any]) -> list[str]:
    """Return the SQLSTATEs of the hosts that refuse a connection with libpq's `parameters` in these words.

    There is one of each in their order; none where one accepts the connection by now, or nothing shows it.
    """
    if words in _known:
        return _known[words]
    found = [state for host in each_host(parameters) if (state := _traced(host))]
    if len(found) != len(list(each_host(parameters))):
        return []
    if len(_known) < _REMEMBERED:
        _known[words] = found
    return found


def each_host(parameters: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the parameters for each host: libpq itself does not ask the next one after a refusal."""
    listed = {name: str(parameters[name]).split(",") for name in _HOSTS if name in parameters}
    for place in range(max(map(len, listed.values()), default=1)):
        yield {**parameters, **{name: each[place] if len(each) > 1 else each[0] for name, each in listed.items()}}


def _traced(parameters: Mapping[str, Any]) -> str | None:
    if not hasattr(os, "memfd_create"):
        return None
    # The trace may have a password: it never leaves this process' memory.
    trace = os.memfd_create("pycdc-trace")
    try:
        if _connects(conninfo.make_conninfo(**parameters), trace):
            return None
        found = _REFUSED.search(os.pread(trace, _MOST, 0))
        return None if found is None else found[1].decode()
    except psycopg.Error:
        return None
    finally:
        os.close(trace)


def _connects(dsn: str, trace: int) -> bool:
    attempt = pq.PGconn.connect_start(dsn.encode())
    try:
        attempt.trace(trace)
        deadline, wanted = time.monotonic() + _SECONDS, pq.PollingStatus.WRITING
        while wanted in (pq.PollingStatus.READING, pq.PollingStatus.WRITING):
            poll, left = select.poll(), deadline - time.monotonic()
            if left <= 0 or attempt.socket < 0:
                return False
            poll.register(attempt.socket, select.POLLIN if wanted == pq.PollingStatus.READING else select.POLLOUT)
            poll.poll(left * 1000)
            wanted = pq.PollingStatus(attempt.connect_poll())
        return wanted == pq.PollingStatus.OK
    finally:
        attempt.untrace()  # which flushes it
        attempt.finish()
