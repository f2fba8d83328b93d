"""Stage 6: what the inventory left behind goes, while users read and write, and the monolith's tests stay green."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import psycopg

HERE = Path(__file__).parent

_LEFT = """SELECT 'slot ' || slot_name FROM pg_replication_slots WHERE database = current_database()
UNION ALL SELECT 'publication ' || pubname FROM pg_publication
UNION ALL SELECT 'trigger ' || tgname FROM pg_trigger WHERE NOT tgisinternal
UNION ALL SELECT 'replication origin ' || roname FROM pg_replication_origin
UNION ALL SELECT 'schema ' || nspname FROM pg_namespace WHERE nspname LIKE 'pycdc%%'
UNION ALL SELECT 'table ' || relname FROM pg_class WHERE relkind = 'r' AND relname = ANY (%s)"""
_USED = """SELECT pg_database_size(current_database()),
    (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()),
    (SELECT coalesce(max(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)), 0)::int8 FROM pg_replication_slots)"""


class Resources(NamedTuple):
    """`size` of the monolith's database, `memory` of the pipelines and `wal` that slots hold back, in bytes."""

    size: int
    sessions: int
    wal: int
    processes: int
    memory: int


def resources(dsns: Iterable[str], pids: Iterable[int]) -> Resources:
    """`dsns`: the monolith's first."""
    found = [_row(dsn, _USED) for dsn in dsns]
    memory = [_memory(pid) for pid in pids]
    return Resources(found[0][0], sum(row[1] for row in found), max(row[2] for row in found), len(memory), sum(memory))


def left_behind(dsns: Iterable[str], tables: list[str], stays: Iterable[str]) -> list[str]:
    """Ask both databases for what a migration makes there, and for the tables that have moved.

    `stays`: names of pipelines that go on, whose slots, publications and origins are not of it.
    """
    found = []
    for dsn in dsns:
        with psycopg.connect(dsn, autocommit=True) as connection:
            found += [str(name) for (name,) in connection.execute(_LEFT, (tables,))]
    kept = [name.replace("-", "_") for name in stays]
    return [name for name in found if not any(one in name.replace("-", "_") for one in kept)]


def monolith_failures(port: int) -> str:
    """Run the monolith's own tests against the façade at `port`; return what they say of failures."""
    command = [sys.executable, "-m", "unittest", "monolith.tests"]
    environment = {**os.environ, "SHOP_TEST_PORT": str(port)}
    done = subprocess.run(command, cwd=HERE, env=environment, capture_output=True, text=True, check=False)
    return done.stderr if done.returncode else ""


def decommissioned(run: Callable[[], subprocess.CompletedProcess[str]], seconds: float = 120.0) -> dict[str, Any]:
    """Give the command until it has watched long enough and nothing is left; return its last report.

    One that failed or was killed is given again. Raises RuntimeError where it fails for so long.
    """
    deadline = time.monotonic() + seconds
    while True:
        done = run()
        if done.returncode not in (0, 1):
            if time.monotonic() > deadline:
                raise RuntimeError(done.stderr)
            time.sleep(0.5)
            continue
        report: dict[str, Any] = json.loads(done.stdout)
        if report["status"] == "decommissioned" or time.monotonic() > deadline:
            return report
        time.sleep(0.5)


def _row(dsn: str, query: str) -> Any:
    with psycopg.connect(dsn, autocommit=True) as connection:
        return connection.execute(query.encode()).fetchone()


def _memory(pid: int) -> int:
    """Return the memory of a process; 0 where the system does not tell."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
