"""What is known of the sagas of a pipeline: for `pycdc saga`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final, LiteralString

import psycopg
from psycopg import sql

from pycdc.clients.postgres import Connection
from pycdc.clients.postgres_sessions import connected
from pycdc.config.pipeline import ApplyPipeline
from pycdc.errors import ConfigError, EnvironmentNotReady
from pycdc.sinks.postgres.sagas.saga_state import OPEN, SagaState
from pycdc.sinks.postgres.sagas.saga_tables import TIMED_OUT

_LIST: Final = """SELECT saga, id, state, seen, started_at, changed_at, deadline, timed_out_at, stuck
FROM (SELECT *, state = 'inconsistent' OR (state = ANY(%s) AND coalesce(deadline < now(), false)) AS stuck
    FROM {sagas}) AS s
WHERE pipeline = %s AND (%s::text IS NULL OR saga = %s) AND (%s::text IS NULL OR state = %s)
    AND (%s::text IS NULL OR id = %s) AND (stuck OR NOT %s)
ORDER BY changed_at DESC, saga, id LIMIT %s"""
_TOTALS: Final = "SELECT saga, state, count FROM {saga_totals} WHERE pipeline = %s"
_STUCK_COUNT: Final = """SELECT saga, count(*) FROM {sagas} WHERE pipeline = %s AND state = ANY(%s) AND deadline < now()
GROUP BY saga"""


@dataclass(frozen=True, slots=True)
class Saga:
    """A saga. `seen` holds, by the type of an event, when and in which record it came."""

    saga: str
    id: str
    state: str
    seen: Mapping[str, Mapping[str, Any]]
    started_at: datetime
    changed_at: datetime
    deadline: datetime | None
    timed_out_at: datetime | None
    stuck: bool

    def events(self) -> list[tuple[str, Mapping[str, Any]]]:
        """Return what came, in the order of its time."""
        return sorted(self.seen.items(), key=lambda one: (one[1]["at"], one[0]))


@dataclass(frozen=True, slots=True)
class SagaTotals:
    """How many sagas of a name there ever were, by state; `stuck` are beyond their time limit now.

    `success_ratio` is the share of those that succeeded among those that succeeded or failed: a compensated saga did
    neither. None where there are none.
    """

    saga: str
    states: Mapping[str, int]
    timed_out: int
    stuck: int

    @property
    def success_ratio(self) -> float | None:
        succeeded = self.states[SagaState.SUCCEEDED]
        judged = succeeded + self.states[SagaState.INCONSISTENT] + self.stuck
        return succeeded / judged if judged else None

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "success_ratio": self.success_ratio}


@dataclass(frozen=True, slots=True)
class SagaFilter:
    """Which sagas are listed: those that changed last, `limit` at most."""

    stuck: bool = False
    saga: str | None = None
    state: str | None = None
    id: str | None = None
    limit: int = 50


def list_sagas(config: ApplyPipeline, chosen: SagaFilter) -> tuple[list[SagaTotals], list[Saga]]:
    """Return the totals, and the sagas that are `chosen`. Raises PycdcError."""
    fields = (chosen.saga, chosen.saga, chosen.state, chosen.state, chosen.id, chosen.id)
    with connected(_dsn(config)) as connection:
        totals = _totals(connection, config)
        rows = _ask(connection, config, _LIST, ([*OPEN], config.name, *fields, chosen.stuck, chosen.limit))
        return totals, [Saga(*row) for row in rows]


def _totals(connection: Connection, config: ApplyPipeline) -> list[SagaTotals]:
    found = {(saga, state): count for saga, state, count in _ask(connection, config, _TOTALS, (config.name,))}
    stuck = dict(_ask(connection, config, _STUCK_COUNT, (config.name, [*OPEN])))
    names = sorted({*config.sink.postgres.sagas, *(saga for saga, _ in found)})
    return [
        SagaTotals(
            name,
            {state.value: found.get((name, state.value), 0) for state in SagaState},
            found.get((name, TIMED_OUT), 0),
            stuck.get(name, 0),
        )
        for name in names
    ]


def _ask(connection: Connection, config: ApplyPipeline, query: LiteralString, parameters: tuple[Any, ...]) -> list[Any]:
    schema = config.sink.postgres.bookkeeping
    names = {name: sql.Identifier(schema, name) for name in ("sagas", "saga_totals")}
    try:
        return connection.execute(sql.SQL(query).format(**names), parameters).fetchall()
    except psycopg.errors.UndefinedTable:
        raise EnvironmentNotReady(
            f"tables of sagas are not in schema {schema}", hint="start the pipeline with `pycdc run`, which makes them"
        ) from None


def _dsn(config: ApplyPipeline) -> str:
    if not config.sink.postgres.sagas:
        raise ConfigError(f"pipeline {config.name} follows no sagas", hint="add `sagas` under sink.postgres")
    return config.sink.postgres.dsn.get_secret_value()
