"""Kills programs and databases at random, while a supervisor starts them again.

One to three of them at once; the next ones when all is back and has had as long again to work: a machine that takes
long to start a program would else never get anywhere.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
from examples.inventory.crowd import Crowd
from examples.inventory.programs import COMMAND, Programs

from pycdc.config import load_migration
from pycdc.facade.envoy import Facade
from pycdc.facade.foreign_process import processes_with

ENVOY = "envoy"
_CHECKPOINTER = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'"
"""A server that loses it ends all sessions at once and recovers from its WAL, as after an immediate stop."""


class Chaos(Crowd):
    """A context manager. `databases`: connection strings by name. The same seed kills the same in the same order.

    `recovered` says whether what was killed is back.
    """

    def __init__(
        self,
        seed: int,
        programs: Programs,
        databases: Mapping[str, str],
        migration: Path,
        recovered: Callable[[], bool],
    ) -> None:
        super().__init__(self._run, 1)
        self.killed: Counter[str] = Counter()
        self._chance = random.Random(seed)  # noqa: S311  (repeatable, no secret)
        self._programs = programs
        self._databases = databases
        self._victims = [*sorted(programs.names), *databases, ENVOY, COMMAND]
        self._migration = migration
        self._recovered = recovered
        self._peace = threading.Lock()

    @contextmanager
    def peace(self) -> Iterator[None]:
        """Kill nothing within the block."""
        with self._peace:
            yield

    def _run(self, number: int) -> None:
        took = 0.0
        while not self.ended.wait(self._chance.uniform(0.5, 2.5) + took):
            victims = self._chance.sample(self._victims, self._chance.choice((1, 1, 2, 3)))
            with self._peace:
                began = time.monotonic()
                for victim in victims:
                    self.killed[victim] += self._kill(victim)
                while not self._recovered() and not self.ended.wait(0.2):
                    pass
                took = time.monotonic() - began

    def _kill(self, victim: str) -> bool:
        if victim in self._databases:
            return self._crash(self._databases[victim])
        if victim == ENVOY:
            return kill_envoy(self._migration)
        return self._programs.kill(victim)

    def _crash(self, dsn: str) -> bool:
        try:
            with psycopg.connect(dsn, autocommit=True) as connection:
                row = connection.execute(_CHECKPOINTER).fetchone()
        except psycopg.OperationalError:
            return False  # it is not back from the last time yet
        return row is not None and _killed(row[0])


def kill_envoy(migration: Path) -> bool:
    """Kill the façade's Envoy, which outlives its guard; False where there is none."""
    config = load_migration(str(migration)).facade
    assert config is not None
    bootstrap = Facade(config, migration.parent / config.folder).bootstrap_file
    found = list(processes_with("-c", str(bootstrap)))
    for process in found:
        process.kill()
    return bool(found)


def _killed(pid: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
        return True
    return False
