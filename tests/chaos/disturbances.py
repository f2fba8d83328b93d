"""What others do to a database while a pipeline reads it: DDL, VACUUM, ended sessions, each on a thread of its own."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import Any

import psycopg

from tests.chaos.locks import APPLICATION
from tests.chaos.tables import World, execute
from tests.reading import PATIENCE

Step = Callable[[World, random.Random, psycopg.Connection[Any]], None]
PUBLICATION = "pycdc_chaos"


def altered(world: World, first: str) -> str:
    """The table's name, whose rows may have to be read again now."""
    world.repeats[first] += 1
    return world.names[first]


def one_of(world: World, rng: random.Random, *firsts: str) -> str:
    return rng.choice([first for first in firsts if first in world.names])


def run(world: World, connection: psycopg.Connection[Any], statement: str) -> None:
    world.done.append(statement)
    connection.execute(statement.encode())


def held(world: World, rng: random.Random, connection: psycopg.Connection[Any], *statements: str) -> None:
    """A migration: one transaction that takes its time between its statements and before its end."""
    with connection.transaction():
        for statement in statements:
            run(world, connection, statement)
            time.sleep(rng.uniform(0.05, 0.6))


def columns(world: World, rng: random.Random, connection: psycopg.Connection[Any]) -> None:
    name = altered(world, one_of(world, rng, "keyed", "other", "keyless", "root"))
    column = f"x{rng.randrange(10**6)}"
    run(world, connection, f"ALTER TABLE {name} ADD COLUMN {column} int DEFAULT 7")
    if rng.random() < 0.5:
        run(world, connection, f"ALTER TABLE {name} RENAME COLUMN {column} TO {column}_renamed")
        run(world, connection, f"ALTER TABLE {name} DROP COLUMN {column}_renamed")
    else:
        run(world, connection, f"ALTER TABLE {name} ALTER COLUMN {column} SET DEFAULT 8")


def many_small_alterations(world: World, rng: random.Random, connection: psycopg.Connection[Any]) -> None:
    name = altered(world, one_of(world, rng, "keyed", "root"))
    for number in range(30):
        run(world, connection, f"ALTER TABLE {name} ALTER filler SET DEFAULT 'y{number}'")
        time.sleep(rng.uniform(0.0, 0.05))


def migration(world: World, rng: random.Random, connection: psycopg.Connection[Any]) -> None:
    first = altered(world, one_of(world, rng, "other", "keyed"))
    second = altered(world, one_of(world, rng, "root", "keyless"))
    column = f"m{rng.randrange(10**6)}"
    statements = [f"ALTER TABLE {name} ADD COLUMN {column} int" for name in (first, second)]
    held(world, rng, connection, *statements)


def rewrite(world: World, rng: random.Random, connection: psycopg.Connection[Any]) -> None:
    name = altered(world, one_of(world, rng, "keyed", "other", "keyless"))
    keyed = name != world.names.get("keyless")
    statements = [f"VACUUM FULL {name}", f"ALTER TABLE {name} ALTER COLUMN flags TYPE bigint"]
    if keyed:
        index = execute(world.dsn, f"SELECT indexrelid::regclass FROM pg_index WHERE indrelid = '{name}'::regclass")
        statements.append(f"CLUSTER {name} USING {index[0][0]}")
    run(world, connection, rng.choice(statements))


def indexes(world: World, rng: random.Random, connection: psycopg.Connection[Any]) -> None:
    name = altered(world, one_of(world, rng, "keyed", "other", "keyless"))
    index = f"i{rng.randrange(10**6)}"
    run(world, connection, f"CREATE INDEX {index} ON {name} (v)")
    run(world, connection, f"REINDEX TABLE {name}")
    run(world, connection, f"DROP INDEX {index}")


def truncate(world: World, rng: random.Random, connection: psycopg.Connection[Any]) -> None:
    first = one_of(world, rng, "other", "keyless", "keyed")
    name = altered(world, first)
    world.lossy.add(f"public.{name}")
    run(world, connection, f"TRUNCATE {name}")


def identity(world: World, rng: random.Random, connection: psycopg.Connection[Any]) -> None:
    name = altered(world, one_of(world, rng, "keyed", "other"))
    run(world, connection, f"ALTER TABLE {name} REPLICA IDENTITY {rng.choice(['FULL', 'DEFAULT'])}")


def rename(world: World, rng: random.Random, connection: psycopg.Connection[Any]) -> None:
    first = one_of(world, rng, "keyed", "other")
    name, new = altered(world, first), f"{first}_{rng.randrange(10**6)}"
    # The rows that came under the old name are not deleted there.
    world.lossy.add(f"public.{name}")
    held(world, rng, connection, f"ALTER TABLE {name} RENAME TO {new}")
    world.names[first] = new


def drop(world: World, rng: random.Random, connection: psycopg.Connection[Any]) -> None:
    if (name := world.names.pop("other", None)) is None:
        return
    world.lossy.add(f"public.{name}")
    held(world, rng, connection, f"DROP TABLE {name}")


def partitions(world: World, rng: random.Random, connection: psycopg.Connection[Any]) -> None:
    """Its rows stay, and are told from the root's by its own name for a while."""
    number = rng.randrange(3)
    name = f"root_{number}"
    world.lossy |= {f"public.{name}", "public.root"}
    altered(world, "root")
    run(world, connection, f"ALTER TABLE root DETACH PARTITION {name}")
    time.sleep(rng.uniform(0.1, 0.8))
    run(world, connection, f"ALTER TABLE root ATTACH PARTITION {name} FOR VALUES IN ({number})")


def vacuum(world: World, rng: random.Random, connection: psycopg.Connection[Any]) -> None:
    run(world, connection, f"VACUUM {rng.choice(['', '(FREEZE) ', '(ANALYZE) '])}{one_of(world, rng, *world.names)}")


def republish(world: World, rng: random.Random, connection: psycopg.Connection[Any]) -> None:
    """Out of the publication and in again, or in with a filter or a list of columns."""
    name = altered(world, one_of(world, rng, "keyed", "other"))
    world.lossy.add(f"public.{name}")
    run(world, connection, f"ALTER PUBLICATION {PUBLICATION} DROP TABLE {name}")
    time.sleep(rng.uniform(0.0, 0.5))
    run(world, connection, f"ALTER PUBLICATION {PUBLICATION} ADD TABLE {name}")


def narrow(world: World, rng: random.Random, connection: psycopg.Connection[Any]) -> None:
    """A filter or a list of columns, which leaves out what the pipeline was to deliver: it may refuse to go on."""
    name = altered(world, one_of(world, rng, "keyed", "other"))
    how = rng.choice([f"{name} WHERE ((flags & 1) = 1)", f"{name} (id, v, flags)"])
    world.refused = True
    world.lossy |= {f"public.{known}" for known in world.names.values()}
    run(world, connection, f"ALTER PUBLICATION {PUBLICATION} SET TABLE {how}")


def end_session(world: World, rng: random.Random, connection: psycopg.Connection[Any]) -> None:
    """Of the pipeline, whichever it is."""
    query = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = %s"
    pids = [pid for (pid,) in connection.execute(query, (APPLICATION,)).fetchall()]
    if pids:
        world.rewinds += 1
        world.done.append("pg_terminate_backend")
        connection.execute("SELECT pg_terminate_backend(%s)", (rng.choice(pids),))


class Disturber:
    """Takes steps at random moments until the end, or the steps are done. Says what failed in `failures`."""

    def __init__(self, world: World, seed: int, steps: list[Step], *, count: int, pause: float = 0.5) -> None:
        self._world = world
        self._rng = random.Random(seed)
        self._steps = steps
        self._count = count
        self._pause = pause
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.failures: list[str] = []

    def start(self) -> Disturber:
        self._thread.start()
        return self

    def _run(self) -> None:
        try:
            with psycopg.connect(self._world.dsn, autocommit=True) as connection:
                for _ in range(self._count):
                    if self._end.wait(self._rng.uniform(0.0, self._pause)):
                        return
                    self._step(connection)
        except psycopg.OperationalError as error:
            self.failures.append(f"{type(error).__name__}: {error}")

    def _step(self, connection: psycopg.Connection[Any]) -> None:
        try:
            self._rng.choice(self._steps)(self._world, self._rng, connection)
        except psycopg.errors.DeadlockDetected as error:
            # There is one thread that locks several tables: the other was a session of the pipeline.
            self.failures.append(f"{self._world.done[-1]}: {error.diag.message_primary}")
        except (psycopg.ProgrammingError, psycopg.errors.ObjectNotInPrerequisiteState):
            # A table was dropped or renamed by the step of another thread.
            pass

    @property
    def over(self) -> bool:
        return not self._thread.is_alive()

    def stop(self) -> None:
        self._end.set()
        self._thread.join(PATIENCE)
