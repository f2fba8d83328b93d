"""Move the inventory out of the monolith while users read and write, and print each figure beside its goal.

    python -m examples.inventory.migration [--brokers HOST:PORT] [--registry URL] [--seconds 5]

Both databases are embedded ones, broker and registry too where none are named, the façade is a real Envoy. The exit
code is 1 if a goal is missed.
"""

from __future__ import annotations

import argparse
import json
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
from confluent_kafka.admin import AdminClient, NewTopic
from examples.inventory import configurations, decommission, preparation
from examples.inventory.clients import Clients

from pycdc.demo.broker import EmbeddedBroker
from pycdc.demo.postgres import EmbeddedPostgres
from pycdc.demo.registry import EmbeddedRegistry

HERE = Path(__file__).parent
PYCDC = [sys.executable, "-m", "pycdc"]
PATIENCE = 120.0


class Figure(NamedTuple):
    """`met` says whether `found` is within `goal`."""

    stage: str
    name: str
    found: str
    goal: str
    met: bool


class Run:
    """The migration's programs. A context manager: all of them end with it."""

    def __init__(self, folder: Path, brokers: str | None, registry: str | None) -> None:
        self.figures: list[Figure] = []
        self.programs: dict[str, subprocess.Popen[bytes]] = {}
        self.folder = folder
        self._stack = ExitStack()
        self.monolith = self._stack.enter_context(EmbeddedPostgres("shop")).dsn
        self.service = self._stack.enter_context(EmbeddedPostgres("inventory")).dsn
        self._embedded = brokers is None
        self._brokers = brokers or self._stack.enter_context(EmbeddedBroker()).bootstrap
        self.registry = registry or self._stack.enter_context(EmbeddedRegistry()).url
        self.name = f"m{secrets.token_hex(4)}"
        self.ports = configurations.Ports(*(free_port() for _ in range(4)))

    def start(self) -> None:
        """Make the tables and the topics, start every program, and wait until both sides hold the same."""
        for dsn, script in ((self.monolith, "monolith/schema.sql"), (self.service, "inventory_service/schema.sql")):
            with psycopg.connect(dsn, autocommit=True) as connection:
                connection.execute((HERE / script).read_bytes())
        _make_topics(self._brokers, configurations.topics(self.name), embedded=self._embedded)
        self.migration = configurations.write(
            self.folder, self.name, self.monolith, self.service, self._brokers, self.ports
        )
        shop = [sys.executable, "-m", "monolith", self.monolith, str(self.ports.monolith)]
        self._program("monolith-server", shop, HERE)
        service = [sys.executable, "-m", "inventory_service", self.service, str(self.ports.service)]
        self._program("service-server", service, self.folder / "deployed")
        for name in configurations.PIPELINES:
            self._program(name, [*PYCDC, "run", str(self.folder / f"{name}.yaml")])
        wait_for(lambda: rows(self.service, "SELECT count(*) FROM stock_levels") == [(200,)])
        self.start_facade()

    def start_facade(self) -> None:
        """Start the façade's guard; one after a kill adopts the Envoy that serves."""
        if "facade" in self.programs:
            self.programs["facade"].kill()
            self.programs["facade"].wait()
        self._program("facade", [*PYCDC, "facade", "run", str(self.migration)])
        wait_for(lambda: b"is served" in (self.folder / "facade.log").read_bytes())

    def _program(self, name: str, command: list[str], folder: Path | None = None) -> None:
        log = self._stack.enter_context((self.folder / f"{name}.log").open("wb"))
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=folder)
        self.programs[name] = process
        self._stack.callback(process.wait)
        self._stack.callback(process.terminate)

    def stop(self, name: str) -> None:
        self.programs[name].terminate()
        self.programs[name].wait()

    def pycdc(self, *command: str) -> str:
        """Run a command; return what it prints. Raises RuntimeError with what it said where it fails."""
        done = subprocess.run([*PYCDC, *command], capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"pycdc {' '.join(command)}: {done.stderr}{done.stdout}")
        return done.stdout

    def cutover(self, command: str, *options: str) -> dict[str, Any]:
        answer = self.pycdc("cutover", command, str(self.migration), "inventory", "--json", *options)
        found: dict[str, Any] = json.loads(answer)
        return found

    def verified(self, apply: str, capture: str) -> int:
        """Return how many rows differ."""
        folder = self.folder
        command = ["verify", str(folder / f"{apply}.yaml"), "--capture", str(folder / f"{capture}.yaml"), "--json"]
        done = subprocess.run([*PYCDC, *command], capture_output=True, text=True, check=False)
        if done.returncode not in (0, 1):
            raise RuntimeError(done.stderr)
        return 0 if done.returncode == 0 else 1

    def figure(self, stage: str, name: str, found: str, goal: str, met: bool) -> None:
        self.figures.append(Figure(stage, name, found, goal, met))
        say(f"{'met   ' if met else 'MISSED'}  {stage:<9} {name:<44} {found:>12}   goal {goal}")

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def prepare(run: Run) -> None:
    """Stage 1: the events' schemas are registered, and what would break their readers is refused."""
    events, prefix = len(preparation.event_schemas()), f"{run.name}.inventory"
    registered = preparation.register(run.registry, prefix)
    run.figure("1 prepare", "schemas of events registered", str(registered), str(events), registered == events)
    refused = preparation.breaking_changes_refused(run.registry, prefix)
    run.figure("1 prepare", "breaking changes refused (FULL_TRANSITIVE)", str(refused), str(events), refused == events)
    missing = preparation.missing_in_domain_model()
    run.figure("1 prepare", "names that the domain model does not explain", str(len(missing)), "0", not missing)


def build(run: Run) -> None:
    """Stage 2: the service's own tests, in a copy of its own folder, from which it is started afterwards."""
    coverage = preparation.tested(preparation.deployed(run.folder), run.service)
    run.figure("2 build", "coverage of the service by its own tests", f"{coverage:.1%}", "> 90 %", coverage > 0.9)


def serves(run: Run) -> None:
    """Stage 2: the service answers."""
    with psycopg.connect(run.service, autocommit=True) as connection:
        connection.execute("SELECT 1 FROM stock_levels")
    answers = accepts(run.ports.service) and run.programs["service-server"].poll() is None
    run.figure("2 build", "runs from its own folder", "yes" if answers else "no", "yes", answers)


def sync(run: Run) -> None:
    """Stage 3: the service's tables follow the monolith's."""
    run.cutover("start")
    delays = sorted(_delay(run) for _ in range(60))
    p99 = delays[int(len(delays) * 0.99)]
    run.figure("3 sync", "commit in the monolith → in the service, p99", f"{p99 * 1000:.0f} ms", "< 1 s", p99 < 1)
    run.cutover("advance")
    differing = run.verified("to-inventory", "monolith")
    run.figure("3 sync", "verification", "equal" if not differing else "different", "0 differences", not differing)


def _delay(run: Run) -> float:
    query = b"SELECT version FROM stock_levels WHERE item_id = 'item-1'"
    with psycopg.connect(run.monolith, autocommit=True) as here, psycopg.connect(run.service, autocommit=True) as there:
        row = here.execute(b"UPDATE stock SET version = version + 1 WHERE sku = 'item-1' RETURNING version").fetchone()
        began = time.monotonic()
        assert row is not None
        while (found := there.execute(query).fetchone()) is None or found[0] < row[0]:
            time.sleep(0.001)
        return time.monotonic() - began


def reads(run: Run, clients: Clients, seconds: float) -> None:
    """Stage 4: reads go to the service, step by step."""
    patiently(lambda: run.pycdc("facade", "set", str(run.migration), "read-item", "100"))
    clients.reads.clear()
    clients.outcomes.clear()
    time.sleep(seconds)
    taken = sorted(clients.reads)
    p99 = taken[int(len(taken) * 0.99)]
    failed, stale = clients.outcomes["failed"], clients.outcomes["stale"]
    run.figure("4 reads", f"p99 of {len(taken)} reads by the façade", f"{p99 * 1000:.0f} ms", "< 50 ms", p99 < 0.05)
    run.figure("4 reads", "failed reads", str(failed), "< 0.01 %", failed <= len(taken) / 10_000)
    run.figure("4 reads", "reads older than the client's own write", str(stale), "0", not stale)
    patiently(lambda: with_all_reads(run))


def with_all_reads(run: Run) -> None:
    run.pycdc("facade", "set", str(run.migration), "read-item", "100", "--at-once")
    run.cutover("advance")


def patiently(step: Callable[[], object]) -> None:
    """Take a step again where the façade's guard took the reads back meanwhile, as it may on a busy machine."""
    for left in reversed(range(10)):
        try:
            step()
            return
        except RuntimeError:
            if not left:
                raise


def writes(run: Run, clients: Clients, seconds: float) -> None:
    """Stage 5: writes move, come back, and move again."""
    for command, what in (("advance", "moved"), ("roll-back", "rolled back"), ("forth", "moved again")):
        began = time.monotonic()
        if command == "forth":
            run.cutover("advance")
            patiently(lambda: with_all_reads(run))
            began = time.monotonic()
        state = run.cutover("advance" if command == "forth" else command)
        time.sleep(seconds)
        pause, longest = float(state["pause"]), clients.longest_pause(began)
        run.figure("5 writes", f"{what}: writes were held", f"{pause:.2f} s", "< 1 s", pause < 1)
        run.figure("5 writes", f"{what}: longest time without a write", f"{longest:.2f} s", "shown", True)
    failed, stale = clients.outcomes["write-failed"], clients.outcomes["stale"]
    taken = sorted(clients.writes)
    run.figure("5 writes", "adjustments", str(clients.outcomes["written"]), "shown", True)
    run.figure(
        "5 writes", "p99 of an adjustment, pauses included", f"{taken[int(len(taken) * 0.99)]:.2f} s", "shown", True
    )
    run.figure("5 writes", "failed adjustments", str(failed), "0", not failed)
    run.figure("5 writes", "reads older than the client's own write", str(stale), "0", not stale)


def compared(run: Run) -> None:
    """Both databases hold the same, and every adjustment once."""
    for apply, capture in (("to-inventory", "monolith"), ("to-monolith", "inventory")):
        differing = run.verified(apply, capture)
        told = "equal" if not differing else "different"
        run.figure("5 writes", f"verification of {apply}", told, "0 differences", not differing)
    queries = {
        run.monolith: "SELECT sum(on_hand - 1000), (SELECT sum(quantity) FROM stock_moves) FROM stock",
        run.service: "SELECT sum(available - 1000), (SELECT sum(delta) FROM stock_adjusted) FROM stock_levels",
    }
    sums = {number for dsn, query in queries.items() for row in rows(dsn, query) for number in row}
    run.figure(
        "5 writes",
        "stock and its record agree, on both sides",
        "yes" if len(sums) == 1 else "no",
        "yes",
        len(sums) == 1,
    )


def decommissioned(run: Run, clients: Clients, seconds: float) -> None:
    """Stage 6: what the inventory left in the monolith goes, and what moved it."""
    databases, tables = (run.monolith, run.service), [one["old"].partition(".")[2] for one in configurations.TABLES]
    monolith_tested(run, "the monolith's tests before")
    pids = [run.programs[name].pid for name in configurations.PIPELINES]
    before = decommission.resources(databases, pids)
    run.cutover("close", "--now")
    configurations.give_up_the_way_back(run.migration)
    run.start_facade()
    run.pycdc("facade", "set", str(run.migration), "read-item", "100", "--at-once")
    for name in configurations.PIPELINES:
        run.stop(name)
    command = [*PYCDC, "decommission", str(run.migration), "inventory", "--json"]
    report = decommission.decommissioned(command)
    left = [f"{one['kind']} {one['name']}" for one in report["left"]]
    left += decommission.left_behind(databases, tables)
    gone = report["status"] == "decommissioned" and not left
    run.figure("6 gone", "things removed, each proved gone", str(len(report["removed"])), "shown", True)
    run.figure("6 gone", "left of it on the servers", ", ".join(left) or "nothing", "nothing", gone)
    rows = sum(table["rows"] for table in report["archived"])
    run.figure("6 gone", "rows archived", str(rows), "> 200", rows > 200)
    monolith_tested(run, "the monolith's tests without the tables")
    time.sleep(seconds)
    failed = clients.outcomes["failed"] + clients.outcomes["write-failed"]
    run.figure("6 gone", "requests that failed meanwhile", str(failed), "0", not failed)
    after = decommission.resources(databases, [])
    for what, one, other in (
        ("the monolith's database", f"{before.size / 1e6:.1f}", f"{after.size / 1e6:.1f} MB"),
        ("WAL that slots hold back", f"{before.wal / 1e6:.1f}", f"{after.wal / 1e6:.1f} MB"),
        ("sessions at the databases", str(before.sessions), str(after.sessions)),
        ("processes of pipelines", str(before.processes), str(after.processes)),
        ("their memory", f"{before.memory / 1e6:.0f}", f"{after.memory / 1e6:.0f} MB"),
    ):
        run.figure("6 gone", what, f"{one} → {other}", "shown", True)


def monolith_tested(run: Run, name: str) -> None:
    failures = decommission.monolith_failures(run.ports.facade)
    if failures:
        say(failures)
    run.figure("6 gone", name, "red" if failures else "green", "green", not failures)


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def rows(dsn: str, query: str) -> list[Any]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        return connection.execute(query.encode()).fetchall()


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError("nothing happened in time: see the logs in the folder")
        time.sleep(0.05)


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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--brokers", help="A Kafka. Default: an embedded broker.")
    parser.add_argument("--registry", help="A schema registry. Default: an embedded one.")
    parser.add_argument("--seconds", type=float, default=5.0, help="Of load at each step.")
    parser.add_argument("--folder", type=Path, help="Where configurations and logs are kept. Default: one that goes.")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as temporary,
        Run(options.folder or Path(temporary), options.brokers, options.registry) as run,
    ):
        prepare(run)
        build(run)
        run.start()
        serves(run)
        with Clients(run.ports.facade) as clients:
            sync(run)
            reads(run, clients, options.seconds)
            writes(run, clients, options.seconds)
        compared(run)
        with Clients(run.ports.facade) as clients:
            decommissioned(run, clients, options.seconds)
        missed = [figure for figure in run.figures if not figure.met]
    say(f"{len(run.figures) - len(missed)} of {len(run.figures)} goals met")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
