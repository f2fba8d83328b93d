"""A pair whose pipelines are processes: killed, started again, joined by a second one, and met by schema changes."""

from __future__ import annotations

import json
import random
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg

from tests.chaos.verified_pair import Pair
from tests.faults.harness import Process
from tests.reading import wait_for
from tests.running import TopicReader


class DisturbedPair(Pair):
    """`folder` is for configurations and logs."""

    def __init__(self, folder: Path, seed: int, *args: Any, **options: Any) -> None:
        # A killed member keeps its partitions for as long.
        super().__init__(*args, kafka={"options": {"session.timeout.ms": 6000}}, **options)
        self._folder = folder
        self._chance = random.Random(seed)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._disturb, name="disturbances")
        self._failure: BaseException | None = None
        self._columns = 0
        self.done: list[str] = []

    def start(self) -> None:
        for name, document in (("capture", self.capture), ("apply", self.apply)):
            (self._folder / f"{name}.json").write_text(json.dumps(document))
        self._second: Process | None = None
        self._applying: Process | None = None
        self._capturing = self._process("capture")
        self._stack.callback(self._kill_all)
        with closing(TopicReader(self.capture["sink"]["kafka"]["brokers"])) as reader:
            # A pipeline refuses to start where its pattern matches no topic.
            wait_for(lambda: len(reader.topics(f"{self.capture['name']}.public.")) == 3)
        self._applying = self._process("apply")
        wait_for(self.caught_up)
        self._stack.callback(self._stop)
        self._thread.start()

    def _process(self, name: str) -> Process:
        return Process(self._folder / f"{name}.json")

    def _kill_all(self) -> None:
        for process in (self._capturing, self._applying, self._second):
            if process is not None:
                process.kill()

    def _stop(self) -> None:
        self._end.set()
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def logs(self) -> str:
        """What the processes that run now have said."""
        return "\n".join(one.log for one in (self._capturing, self._applying, self._second) if one is not None)

    def _disturb(self) -> None:
        try:
            pause = 0.5
            while not self._end.wait(pause):
                quick, slow = (self._restart_capture, self._add_column), (self._restart_apply, self._rebalance)
                what = self._chance.choice((*quick, *slow))
                what()
                self.done.append(what.__name__)
                # The group notices after its session timeout that a member is gone.
                pause = (1 if what in quick else 9) + 2 * self._chance.random()
        except BaseException as error:
            self._failure = error

    def _restart_capture(self) -> None:
        self._capturing.kill()
        self._capturing = self._process("capture")

    def _restart_apply(self) -> None:
        if self._applying is not None:
            self._applying.kill()
        self._applying = self._process("apply")

    def _rebalance(self) -> None:
        if self._second is None:
            self._second = self._process("apply")
        else:
            self._second.kill()
            self._second = None

    def _add_column(self) -> None:
        """A new column: first where it is written to."""
        self._columns += 1
        added = f"ALTER TABLE items ADD COLUMN extra_{self._columns} int"
        for dsn in (self.target, self.source):
            self.sql(dsn, added)
        while True:
            try:
                self.sql(self.source, f"UPDATE items SET extra_{self._columns} = id WHERE id % 3 = 0")
                return
            except psycopg.errors.DeadlockDetected:
                continue  # with the writers, whose rows it locks in another order
