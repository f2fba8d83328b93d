"""Everybody who opens a connection to Postgres, by what they do: for tests of what its refusals mean."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import NamedTuple

import pytest

import pycdc
from pycdc.clients.postgres_sessions import connect_to_source, connect_to_target, connect_to_write
from pycdc.config import validate_capture
from pycdc.config.pipeline import ApplyPipeline, CapturePipeline
from pycdc.connectors.postgres.catalog.catalog import Catalog
from pycdc.connectors.postgres.catalog.privileges import SourceInspection
from pycdc.connectors.postgres.signals.lag_probe import clock_ahead
from pycdc.errors import PycdcError
from pycdc.offsets.postgres import PostgresOffsetStore
from pycdc.operations import apply_status, reconcile, status, teardown
from pycdc.operations.doctor.diagnosis import diagnose
from pycdc.operations.doctor.finding import FindingStatus
from pycdc.operations.lag.capture import measure_capture
from pycdc.sinks.postgres.bookkeeping.applied_offsets import AppliedOffsets
from pycdc.sinks.postgres.preflight import inspect_target


class Met(NamedTuple):
    """What a user says of a refusal. `error` is None where it is shown, not raised."""

    fact: str
    remedy: str
    error: PycdcError | None = None


def capture(dsn: str, **sections: object) -> CapturePipeline:
    document = {"name": "refused", "source": {"postgres": {"dsn": dsn}}, "sink": {"null": {}}, **sections}
    return validate_capture(document)


def apply(dsn: str) -> ApplyPipeline:
    return ApplyPipeline.model_validate(
        {
            "name": "refused",
            "source": {"kafka": {"brokers": "127.0.0.1:1", "topics": ["t"], "format": "json"}},
            "sink": {"postgres": {"dsn": dsn, "routes": [{"topic": "t", "table": "t"}]}},
        }
    )


def load_position(dsn: str) -> None:
    with closing(PostgresOffsetStore(dsn, "refused")) as store:
        store.load()


def read_catalog(dsn: str) -> None:
    with Catalog(dsn) as catalog:
        catalog.server()


def read_applied(dsn: str) -> None:
    with closing(AppliedOffsets(apply(dsn).sink.postgres, "refused")) as applied:
        applied.read()


def run(dsn: str) -> None:
    retries = {"first_delay": 0.01, "give_up_after": 0.02}
    pycdc.Pipeline(capture(dsn, retries=retries)).run()


USERS: dict[str, Callable[[str], object]] = {
    "session at the source": lambda dsn: connect_to_source(dsn).close(),
    "replication": lambda dsn: connect_to_source(dsn, replication=True).close(),
    "session at the target": lambda dsn: connect_to_target(dsn).close(),
    "session that writes": lambda dsn: connect_to_write(apply(dsn).sink.postgres).close(),
    "offset store": load_position,
    "catalog": read_catalog,
    "privileges": lambda dsn: SourceInspection(dsn).role(),
    "target's preflight": lambda dsn: inspect_target(apply(dsn).sink.postgres, "refused"),
    "applied offsets": read_applied,
    "clock": clock_ahead,
    "status": lambda dsn: status.inspect(capture(dsn)),
    "lag": lambda dsn: measure_capture(capture(dsn), seconds=0.1),
    "apply's plan": lambda dsn: reconcile.find(capture(dsn)),
    "teardown": lambda dsn: list(teardown.remove(capture(dsn))),
    "request": lambda dsn: pycdc.Pipeline(capture(dsn)).snapshot("public.t"),
    "run": run,
}
"""Those that raise."""


def doctor(dsn: str) -> Met:
    found = (one for one in diagnose(capture(dsn)) if one.status is FindingStatus.FAILED)
    first = next(found)
    found.close()
    assert first.path == "source.postgres.dsn"
    return Met(first.title, first.fix)


def status_of_apply(dsn: str) -> Met:
    error = apply_status.inspect(apply(dsn)).failures["database"]
    return Met(error.fact, error.hint, error)


SHOW: dict[str, Callable[[str], Met]] = {"doctor": doctor, "status of an apply": status_of_apply}
"""Those that go on and show it."""


def met(user: str, dsn: str) -> Met:
    """What the user says of it."""
    if user in SHOW:
        return SHOW[user](dsn)
    with pytest.raises(PycdcError) as caught:
        USERS[user](dsn)
    return Met(caught.value.fact, caught.value.hint, caught.value)
