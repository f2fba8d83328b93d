"""Draining a way: everything that its source committed until now is in the other database.

A transactional logical message has an LSN behind all commits so far; once the capture's slot confirms it, they are in
Kafka; once the offsets that the target stores are at the topics' ends of that moment, they are in its tables.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as TimedOut
from dataclasses import replace
from typing import Final

import psycopg

from pycdc.build.decoder import build_decoder
from pycdc.clients.postgres_errors import source_error
from pycdc.errors import EnvironmentNotReady, PycdcError
from pycdc.model.change import Lsn
from pycdc.model.patterns import names_any
from pycdc.operations.cutover.sides import Way
from pycdc.operations.verify.cut import EndSessions, wait_for_apply, wait_for_capture
from pycdc.operations.verify.options import VerifyOptions, ends_of
from pycdc.operations.verify.stream_window import StreamWindow, Vector

PREFIX: Final = "pycdc.cutover"
_PAUSE: Final = 0.05
_EMIT: Final = "SELECT pg_logical_emit_message(true, %s::text, '')::text"
_FLUSHED: Final = "SELECT pg_current_wal_lsn()::text"


def drain(way: Way, seconds: float) -> float:
    """Return once the way is drained, and how many seconds it took. Raises EnvironmentNotReady if not in `seconds`."""
    began = time.monotonic()
    ends = replace(ends_of(way.apply, VerifyOptions(capture=way.capture)), timeout=seconds)
    sessions = EndSessions(ends)
    executor = ThreadPoolExecutor(1, "pycdc-drain")
    try:
        executor.submit(_drain, way, sessions, seconds).result(seconds)
    except TimedOut:
        raise EnvironmentNotReady(
            f"{way.capture.name} and {way.apply.name} did not bring all that was committed within {seconds:.1f} s",
            hint="see that both run and what they wait for: pycdc status, pycdc lag",
        ) from None
    finally:
        sessions.close()  # whatever still waits there ends with it
        executor.shutdown(wait=False)
    return time.monotonic() - began


def _drain(way: Way, sessions: EndSessions, seconds: float) -> None:
    source, sink = way.apply.source.kafka, way.apply.sink.postgres
    ends = replace(ends_of(way.apply, VerifyOptions(capture=way.capture)), timeout=seconds)
    topics = [route.topic for route in sink.routes]
    with build_decoder(source) as decoder:
        window = StreamWindow(source, source.group or way.apply.name, decoder, lambda topic: names_any(topics, topic))
        wait_for_capture(ends, sessions.source, _point(sessions))
        high = _ends(window, time.monotonic() + seconds)
        wait_for_apply(ends, sessions.target, window, high)


def _ends(window: StreamWindow, deadline: float) -> Vector:
    """Return the ends of the topics. Asks again where what failed may pass, a new leader for instance."""
    while True:
        try:
            return {partition: span.end for partition, span in window.ends().items()}
        except PycdcError as error:
            if not error.retry or time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE)


def _point(sessions: EndSessions) -> Lsn:
    """Return the end of a transaction that begins now."""
    try:
        sessions.source.execute(_EMIT, (PREFIX,))
        row = sessions.source.execute(_FLUSHED).fetchone()
    except psycopg.Error as error:
        raise source_error(error) from None
    assert row is not None
    return Lsn.parse(row[0])
