"""A run of the migration: its databases, its programs, the commands that move it, and the figures that it finds."""

from __future__ import annotations

import json
import secrets
import socket
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import psycopg
from confluent_kafka.admin import AdminClient, NewTopic
from examples.inventory import configurations
from examples.inventory.chaos import kill_envoy
from examples.inventory.programs import Programs

from pycdc.demo.broker import EmbeddedBroker
from pycdc.demo.postgres import EmbeddedPostgres
from pycdc.demo.registry import EmbeddedRegistry

T = TypeVar("T")

HERE = Path(__file__).parent
PYCDC = [sys.executable, "-m", "pycdc"]
PATIENCE = 120.0
_SERVED = b"is served"


class Figure(NamedTuple):
    """`met` says whether `found` is within `goal`."""

    stage: str
    name: str
    found: str
    goal: str
    met: bool


class Run:
    """A context manager: all that it has started ends with it."""

    def __init__(self, folder: Path, brokers: str | None, registry: str | None, *, chaos: bool = False) -> None:
        self.chaos = chaos
        """Whether programs and databases are killed meanwhile."""
        self.figures: list[Figure] = []
        self.peace: Callable[[], AbstractContextManager[None]] = nullcontext
        """What kills, kills nothing within its block."""
        self.folder = folder
        self._stack = ExitStack()
        self.programs = Programs(folder)
        self.monolith = self._stack.enter_context(EmbeddedPostgres("shop")).dsn
        self.service = self._stack.enter_context(EmbeddedPostgres("inventory")).dsn
        self._embedded = brokers is None
        self.brokers = brokers or self._stack.enter_context(EmbeddedBroker()).bootstrap
        self.registry = registry or self._stack.enter_context(EmbeddedRegistry()).url
        self.name = f"m{secrets.token_hex(4)}"
        self.ports = configurations.Ports(*(free_port() for _ in range(4)))

    def start(self) -> None:
        """Make the tables and the topics, start every program, and wait until both sides hold the same."""
        for dsn, script in ((self.monolith, "monolith/schema.sql"), (self.service, "inventory_service/schema.sql")):
            with psycopg.connect(dsn, autocommit=True) as connection:
                connection.execute((HERE / script).read_bytes())
        self.event_topics = configurations.event_topics(self.name)
        topics = [*configurations.topics(self.name), *self.event_topics]
        _make_topics(self.brokers, topics, embedded=self._embedded)
        self.migration = configurations.write(
            self.folder, self.name, self.monolith, self.service, self.brokers, self.ports
        )
        shop = [sys.executable, "-m", "monolith", self.monolith, str(self.ports.monolith)]
        self._stack.callback(kill_envoy, self.migration)
        self._stack.enter_context(self.programs)
        self.programs.start("monolith-server", shop, HERE)
        service = [sys.executable, "-m", "inventory_service", self.service, str(self.ports.service)]
        self.programs.start("service-server", service, self.folder / "deployed")
        for name in (*configurations.PIPELINES, *configurations.SAGA_PIPELINES):
            self.programs.start(name, [*PYCDC, "run", str(self.folder / f"{name}.yaml")])
        wait_for(lambda: rows(self.service, "SELECT count(*) FROM stock_levels") == [(200,)])
        # What is written before there is a slot, nobody reads.
        reading = "SELECT count(*) FROM pg_replication_slots WHERE active"
        wait_for(lambda: all(rows(dsn, reading) == [(2,)] for dsn in (self.monolith, self.service)))
        self.programs.start("facade", [*PYCDC, "facade", "run", str(self.migration)])
        wait_for(lambda: _SERVED in self.programs.log("facade"))
        reactions = [sys.executable, "-m", "monolith.reactions", self.monolith, self.brokers, str(self.ports.facade)]
        self.programs.start("reactions", [*reactions, self.name], HERE)

    def start_facade_anew(self) -> None:
        """Have the façade's guard read its configuration; one after a kill adopts the Envoy that serves."""
        served = self.programs.log("facade").count(_SERVED)
        self.programs.kill("facade")
        wait_for(lambda: self.programs.log("facade").count(_SERVED) > served)

    def pycdc(self, *command: str) -> str:
        """Run a command; return what it prints. Raises RuntimeError with what it said where it fails."""
        done = self.programs.run([*PYCDC, *command])
        if done.returncode:
            raise RuntimeError(f"pycdc {' '.join(command)}: {done.stderr}{done.stdout}")
        return done.stdout

    def cutover(self, command: str, *options: str) -> dict[str, Any]:
        answer = self.pycdc("cutover", command, str(self.migration), "inventory", "--json", *options)
        found: dict[str, Any] = json.loads(answer)
        return found

    def patiently(self, step: Callable[[], T]) -> T:
        """Take a step again where it fails: a busy machine closes gates for a moment, a kill breaks a command off."""
        for left in reversed(range(300 if self.chaos else 10)):
            try:
                return step()
            except (RuntimeError, psycopg.OperationalError):
                if not left:
                    raise
                time.sleep(0.2)
        raise AssertionError

    def reached(self, command: str, stage: str) -> dict[str, Any]:
        """Give a command of `pycdc cutover` until the group is at a stage; return its state.

        One that was killed goes on, or has stepped back and begins anew.
        """
        answers: list[dict[str, Any]] = []

        def step() -> dict[str, Any]:
            state = self.cutover("status") if answers else {"stage": ""}
            answers.append(state)
            if state["stage"] != stage:
                if stage == "ready":
                    self.all_reads_to_the_service()
                state = self.cutover(command)
            if state["stage"] != stage:
                raise RuntimeError(f"the group is {state['stage']}, not {stage}")
            return state

        return self.patiently(step)

    def all_reads_to_the_service(self) -> None:
        self.pycdc("facade", "set", str(self.migration), "read-item", "100", "--at-once")

    def verified(self, apply: str, capture: str) -> bool:
        """Return whether no row differs."""
        return self.patiently(lambda: self._verified(apply, capture))

    def _verified(self, apply: str, capture: str) -> bool:
        folder = self.folder
        command = ["verify", str(folder / f"{apply}.yaml"), "--capture", str(folder / f"{capture}.yaml"), "--json"]
        done = self.programs.run([*PYCDC, *command])
        if done.returncode not in (0, 1):
            raise RuntimeError(done.stderr)
        return done.returncode == 0

    def figure(self, stage: str, name: str, found: str, goal: str, met: bool) -> None:
        self.figures.append(Figure(stage, name, found, goal, met))
        say(f"{'met   ' if met else 'MISSED'}  {stage:<9} {name:<44} {found:>12}   goal {goal}")

    def shown(self, stage: str, name: str, found: str) -> None:
        self.figure(stage, name, found, "shown", True)

    def none(self, stage: str, name: str, found: int) -> None:
        """A figure that has to be 0."""
        self.figure(stage, name, str(found), "0", not found)

    def timing(self, stage: str, name: str, found: str, goal: str, met: bool) -> None:
        """A figure that has a goal only where nothing is killed."""
        self.figure(stage, name, found, "shown" if self.chaos else goal, met or self.chaos)

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def rows(dsn: str, query: str) -> list[Any]:
    """Ask a database, again where it is gone meanwhile."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            with psycopg.connect(dsn, autocommit=True) as connection:
                return connection.execute(query.encode()).fetchall()
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError("nothing happened in time: see the logs in the folder")
        time.sleep(0.05)


def became(condition: Callable[[], bool]) -> bool:
    """Return whether it comes true within the time that is waited for anything."""
    try:
        wait_for(condition)
    except RuntimeError:
        return False
    return True


def accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _make_topics(brokers: str, topics: list[str], *, embedded: bool) -> None:
    admin = AdminClient({"bootstrap.servers": brokers})
    if embedded:  # it makes a topic when it is asked for
        for topic in topics:
            admin.list_topics(topic, timeout=10)
        return
    for future in admin.create_topics([NewTopic(topic, 3, 1) for topic in topics]).values():
        future.result(30)
