"""A pipeline among people who alter, drop and lock tables at any moment: nothing is lost, nobody is kept waiting.

Seeded: a failure prints the round, which `PYCDC_CHAOS_SEED` and `PYCDC_CHAOS_FIRST` repeat. `make chaos-ddl` runs many.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator

import psycopg
import pytest

from tests.chaos.rounds import KINDS
from tests.chaos.trial import Trial
from tests.fix_postgres import Fleet
from tests.services import matrix
from tests.services.availability import Unavailable

ROUNDS = int(os.environ.get("PYCDC_CHAOS_ROUNDS", len(KINDS)))
FIRST = int(os.environ.get("PYCDC_CHAOS_FIRST", 0))
SEED = int(os.environ.get("PYCDC_CHAOS_SEED", 20261130))
EVERY_WORKER_A_PROCESS = 3
"""Of so many rounds one has workers in processes, which take a second to start; the others have threads."""


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    fleet = Fleet()
    yield fleet
    fleet.close()


@pytest.mark.slow
@pytest.mark.server
@pytest.mark.postgres
@pytest.mark.parametrize("number", range(FIRST, FIRST + ROUNDS))
def test_whatever_others_do_to_tables_every_row_is_delivered_and_nobody_waits(number: int, fleet: Fleet) -> None:
    kind: Callable[[Trial], None] = KINDS[number % len(KINDS)]
    sources = [source for source in matrix.sources() if source.numbers[0] >= 15]
    if not sources:
        raise Unavailable("no Postgres from 15 on", excused=False)
    server = fleet.server(sources[(number // len(KINDS) + number) % len(sources)])
    dsn = server.create_database()
    rng = random.Random(f"{SEED} {number}")
    trial = Trial(server, dsn, rng, processes=number % EVERY_WORKER_A_PROCESS == 0)
    try:
        kind(trial)
        told = "\n".join([*trial.wrong, *trial.world.done[-12:]])
        assert not trial.wrong, f"round {number} of seed {SEED}, {kind.__name__} on {server!r}:\n{told}"
    finally:
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()",
                [psycopg.conninfo.conninfo_to_dict(dsn)["dbname"]],
            )
        for instance in trial.instances:
            instance.stop()
        server.drop_database(dsn)
