"""The tables of sagas: one row a saga, and how many of each there were in each state."""

from __future__ import annotations

from typing import Final, LiteralString

TABLES: Final = ("sagas", "saga_totals")
CREATE: Final[tuple[LiteralString, ...]] = (
    """CREATE TABLE IF NOT EXISTS {sagas} (
    pipeline text,
    saga text,
    id text,
    state text NOT NULL DEFAULT '',
    seen jsonb NOT NULL,
    started_at timestamptz,
    changed_at timestamptz NOT NULL DEFAULT now(),
    deadline timestamptz,
    timed_out_at timestamptz,
    PRIMARY KEY (pipeline, saga, id))""",
    "CREATE INDEX IF NOT EXISTS sagas_deadline ON {sagas} (pipeline, saga, state, deadline)",
    "CREATE INDEX IF NOT EXISTS sagas_changed_at ON {sagas} (pipeline, saga, changed_at)",
    """CREATE TABLE IF NOT EXISTS {saga_totals} (
    pipeline text,
    saga text,
    state text,
    count bigint NOT NULL,
    PRIMARY KEY (pipeline, saga, state))""",
)
TIMED_OUT: Final = "timed_out"
"""In the place of a state: how many exceeded their time limit, whatever became of them."""
COUNT: Final = """INSERT INTO {saga_totals} AS t (pipeline, saga, state, count)
SELECT %s, u.saga, u.state, u.count FROM unnest(%s::text[], %s::text[], %s::bigint[]) AS u(saga, state, count)
ORDER BY u.saga, u.state
ON CONFLICT (pipeline, saga, state) DO UPDATE SET count = t.count + excluded.count"""
