"""pg_recvlogical: reads the same stream and throws it away. What the server's own client takes from a walsender."""

from __future__ import annotations

import subprocess
import time

import psycopg

from benchmarks.rig import program

NAME = "pg_recvlogical"


def seconds(dsn: str, slot: str, publication: str) -> float:
    """How long it takes from its start to the WAL's present end."""
    with psycopg.connect(dsn) as connection:
        row = connection.execute("SELECT pg_current_wal_lsn()::text").fetchone()
    assert row is not None
    command = [str(program("pg_recvlogical")), "--dbname", dsn, "--slot", slot, "--start", "--file", "/dev/null"]
    options = ["--option", "proto_version=1", "--option", f"publication_names={publication}", "--no-loop"]
    started = time.monotonic()
    subprocess.run([*command, *options, "--fsync-interval=0", "--endpos", row[0]], check=True, timeout=600)
    return time.monotonic() - started
