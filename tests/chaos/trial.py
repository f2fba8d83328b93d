"""A trial of the DDL rounds: one database, one pipeline, those who disturb it, and what was wrong in the end."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from psycopg.conninfo import make_conninfo

from pycdc.errors import PycdcError
from pycdc.offsets.memory import MemoryOffsetStore
from tests.chaos import disturbances as do
from tests.chaos.disturbances import Disturber, Step
from tests.chaos.locks import APPLICATION, LockWatch
from tests.chaos.pipelines import Event, Instance, Topic, config_for
from tests.chaos.tables import World, Writers, differences, doubled, execute
from tests.services.postgres import PostgresServer

PATIENCE = 40.0
"""Seconds in which something must come, until all has, once nobody disturbs any more."""
LONGEST = 10 * PATIENCE


@dataclass
class Trial:
    """One database and one pipeline."""

    server: PostgresServer
    dsn: str
    rng: random.Random
    processes: bool
    world: World = field(init=False)
    topic: Topic = field(default_factory=Topic)
    offsets: MemoryOffsetStore = field(default_factory=MemoryOffsetStore)
    wrong: list[str] = field(default_factory=list)
    instances: list[Instance] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.world = World(self.dsn)

    def start(self, delay: float = 0.0, **options: Any) -> Instance:
        self.options = options or self.options
        config = config_for(make_conninfo(self.dsn, application_name=APPLICATION), **self.options)
        instance = Instance(config, self.offsets, self.topic, delay, processes=self.processes)
        self.instances.append(instance)
        return instance

    def stop(self, instance: Instance) -> None:
        if not instance.stop():
            self.wrong.append(f"a stop was not obeyed ({instance.progress.state})")

    @property
    def ended(self) -> BaseException | None:
        return self.instances[-1].error

    @contextmanager
    def under(self, steps: list[Step], *, count: int = 6, ending: int = 0, writers: int = 2) -> Iterator[None]:
        """Everything that others do, until their steps are done; then all must come, and the pipeline stop."""
        seed = self.rng.randrange(2**31)
        with LockWatch(self.dsn) as watch, ExitStack() as stack:
            stack.enter_context(Writers(self.world, seed, writers))
            others = [Disturber(self.world, seed, steps, count=count)] if steps else []
            others += [Disturber(self.world, seed + 1, [do.end_session], count=ending, pause=1.0)] if ending else []
            others += [Disturber(self.world, seed + 2, [do.vacuum], count=3)] if steps else []
            yield
            for other in others:
                other.start()
            deadline = time.monotonic() + PATIENCE
            while not all(other.over for other in others) and not watch.blocked and time.monotonic() < deadline:
                time.sleep(0.05)
            stack.close()
            for other in others:
                self.wrong += other.failures
            self._judge(watch)

    def quiet(self) -> None:
        with LockWatch(self.dsn) as watch:
            self._judge(watch)

    def _judge(self, watch: LockWatch) -> None:
        self.wrong += self._at_the_end(watch)
        if self.instances:
            self.stop(self.instances[-1])
        self.wrong += watch.violations.values()
        if not self.ended:
            self.wrong += doubled(self.world, self.topic.events)

    def _at_the_end(self, watch: LockWatch) -> list[str]:
        """What is wrong when all had time to come."""
        wrong: list[str] = ["nothing was compared"]
        stillness = _Stillness(self.topic.events)
        while not stillness.lasts and not watch.blocked:
            if (error := self.ended) is not None:
                named = isinstance(error, PycdcError) and bool(error.hint) and self.world.refused
                return [] if named else [f"ended: {type(error).__name__}: {error}"]
            number = execute(self.dsn, "INSERT INTO finish DEFAULT VALUES RETURNING id")[0][0]
            if not self._delivered(number, stillness) and self.ended is None:
                return [f"nothing comes any more ({self.instances[-1].progress.state})"]
            stored = self.offsets.load()
            wrong = differences(self.world, self.world.rows(), self.topic.events)
            if not wrong and stored is not None and not stored.snapshot:
                return []
            time.sleep(0.3)
        return wrong

    def _delivered(self, number: int, stillness: _Stillness) -> bool:
        """Whether it came before nothing came for too long."""

        def found() -> bool:
            return any(event.id == number for event in reversed(self.topic.events))

        self.instances[-1].until(lambda: found() or stillness.lasts, LONGEST + PATIENCE)
        return found()

    def reading(self) -> None:
        """Wait until some rows of a table came, and not all."""
        self.instances[-1].until(lambda: len(self.topic.events) > 300)


class _Stillness:
    """No patience is used up while rows come: a busy machine makes a pipeline slow, and nothing worse."""

    def __init__(self, events: list[Event]) -> None:
        self._events = events
        self._count = -1
        self._began = self._since = time.monotonic()

    @property
    def lasts(self) -> bool:
        """Whether nothing but the end's own rows came for too long; or all of it takes beyond reason."""
        now, count = time.monotonic(), sum(event.topic != "public.finish" for event in self._events)
        if count != self._count:
            self._count, self._since = count, now
        return now - self._since > PATIENCE or now - self._began > LONGEST
