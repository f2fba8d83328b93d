"""The tables that a pipeline keeps in the database it writes into."""

from __future__ import annotations

from typing import Final, LiteralString

from pycdc.sinks.postgres.conflicts.conflict_table import CREATE as CREATE_CONFLICTS

CREATE: Final[tuple[LiteralString, ...]] = (
    "CREATE SCHEMA IF NOT EXISTS {schema}",
    """CREATE TABLE IF NOT EXISTS {offsets} (
    pipeline text,
    topic text,
    partition integer,
    next_offset bigint NOT NULL,
    epoch bigint NOT NULL DEFAULT 1,
    applied_at timestamptz NOT NULL DEFAULT now(),
    topic_id text,
    left_out jsonb,
    PRIMARY KEY (pipeline, topic, partition))""",
    """CREATE TABLE IF NOT EXISTS {parked} (
    pipeline text,
    topic text,
    partition integer,
    "offset" bigint,
    key bytea,
    value bytea,
    header_names text[] NOT NULL,
    header_values bytea[] NOT NULL,
    error text NOT NULL,
    sqlstate text,
    detail text,
    parked_at timestamptz NOT NULL DEFAULT now(),
    record_ms bigint,
    PRIMARY KEY (pipeline, topic, partition, "offset"))""",
    *CREATE_CONFLICTS,
)

ADDED_COLUMNS: Final[tuple[tuple[str, str, LiteralString], ...]] = (
    ("apply_offsets", "topic_id", "text"),
    ("apply_offsets", "left_out", "jsonb"),
    ("parked", "record_ms", "bigint"),
)
"""Columns that tables of an earlier version lack."""

LACKING_COLUMNS: Final = """SELECT u.t, u.c FROM unnest(%s::text[], %s::text[]) AS u(t, c)
WHERE NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = to_regclass(u.t) AND attname = u.c AND NOT attisdropped)"""
