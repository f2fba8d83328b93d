"""Move the inventory out of the monolith while users read and write, and print each figure beside its goal.

    python -m examples.inventory.migration [--brokers HOST:PORT] [--registry URL] [--seconds 5] [--rate 1]
        [--chaos] [--seed N]

Both databases are embedded ones, broker and registry too where none are named, the façade is a real Envoy. The exit
code is 1 if a goal is missed.
"""

from __future__ import annotations

import argparse
import http.client
import json
import math
import secrets
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from examples.inventory import configurations, decommission, preparation
from examples.inventory.browser import Browser
from examples.inventory.buyers import Buyers
from examples.inventory.chaos import Chaos
from examples.inventory.clients import Clients
from examples.inventory.oracle import judged, same_rows, unbalanced
from examples.inventory.recorded_events import recorded_events
from examples.inventory.run import PYCDC, Run, accepts, became, rows, say, wait_for


def prepare(run: Run) -> None:
    """Stage 1: the events' schemas are registered, and what would break their readers is refused."""
    events, prefix = len(preparation.event_schemas()), run.name
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
    answers = accepts(run.ports.service) and not run.programs.ended["service-server"]
    run.figure("2 build", "runs from its own folder", "yes" if answers else "no", "yes", answers)


def sync(run: Run) -> None:
    """Stage 3: the service's tables follow the monolith's."""
    run.patiently(lambda: run.cutover("start"))
    p99 = _p99([run.patiently(lambda: _delay(run)) for _ in range(60)])
    run.timing("3 sync", "commit in the monolith → in the service, p99", f"{p99 * 1000:.0f} ms", "< 1 s", p99 < 1)
    run.reached("advance", "reading")
    equal = run.verified("to-inventory", "monolith")
    run.figure("3 sync", "verification", "equal" if equal else "different", "0 differences", equal)


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
    """Stage 4: reads go to the service, step by step. While programs are killed no step would last: then at once."""
    at_once = ["--at-once"] if run.chaos else []
    run.patiently(lambda: run.pycdc("facade", "set", str(run.migration), "read-item", "100", *at_once))
    clients.reads.clear()
    before = Counter(clients.outcomes)
    time.sleep(seconds)
    taken = list(clients.reads)
    p99 = _p99(taken)
    failed, stale = (clients.outcomes[name] - before[name] for name in ("failed", "stale"))
    run.timing("4 reads", f"p99 of {len(taken)} reads by the façade", f"{p99 * 1000:.0f} ms", "< 50 ms", p99 < 0.05)
    run.figure("4 reads", "failed reads", str(failed), "< 0.01 %", failed <= len(taken) / 10_000)
    run.none("4 reads", "reads older than the client's own write", stale)
    run.reached("advance", "ready")


def writes(run: Run, clients: Clients, seconds: float) -> None:
    """Stage 5: writes move, come back, and move again."""
    for command, stage, what in (
        ("advance", "watching", "moved"),
        ("roll-back", "following", "rolled back"),
        ("advance", "watching", "moved again"),
    ):
        if what == "moved again":
            run.reached("advance", "reading")
            run.reached("advance", "ready")
        began = time.monotonic()
        state = run.reached(command, stage)
        time.sleep(seconds)
        pause, longest = float(state["pause"]), clients.longest_pause(began)
        run.timing("5 writes", f"{what}: writes were held", f"{pause:.2f} s", "< 1 s", pause < 1)
        run.shown("5 writes", f"{what}: longest time without a write", f"{longest:.2f} s")
    found = clients.outcomes
    run.shown("5 writes", "adjustments", str(found["written"]))
    run.shown("5 writes", "p99 of an adjustment, pauses included", f"{_p99(clients.writes):.2f} s")
    run.timing("5 writes", "adjustments without an answer", str(found["unanswered"]), "0", not found["unanswered"])
    run.none("5 writes", "reads older than the client's own write", found["stale"])


def compared(run: Run, clients: Clients) -> None:
    """Both databases hold the same, and every adjustment once, while orders go on."""
    equal = run.verified("to-monolith", "inventory")
    run.figure("5 writes", "verification of the way back", "equal" if equal else "different", "0 differences", equal)
    same = became(lambda: same_rows(run.monolith, run.service))
    run.figure("5 writes", "every row of both sides is the same", "yes" if same else "no", "yes", same)
    recorded = rows(run.service, "SELECT count(*) FROM stock_adjusted WHERE order_id IS NULL")[0][0]
    written, unanswered = clients.outcomes["written"], clients.outcomes["unanswered"]
    goal = f"{written} to {written + unanswered}" if unanswered else str(written)
    once = written <= recorded <= written + unanswered
    run.figure("5 writes", "adjustments that are recorded", str(recorded), goal, once)


def decommissioned(run: Run, clients: Clients, seconds: float) -> None:
    """Stage 6: what the inventory left in the monolith goes, and what moved it."""
    databases, tables = (run.monolith, run.service), [one["old"].partition(".")[2] for one in configurations.TABLES]
    monolith_tested(run, "the monolith's tests before")
    pids = [run.programs.pid(name) for name in configurations.PIPELINES]
    before = run.patiently(lambda: decommission.resources(databases, pids))
    run.patiently(lambda: run.cutover("close", "--now"))
    configurations.give_up_the_way_back(run.migration)
    run.start_facade_anew()
    run.patiently(run.all_reads_to_the_service)
    for name in configurations.PIPELINES:
        run.programs.stop(name)
    command = [*PYCDC, "decommission", str(run.migration), "inventory", "--json"]
    report = decommission.decommissioned(lambda: run.programs.run(command))
    left = [f"{one['kind']} {one['name']}" for one in report["left"]]
    left += decommission.left_behind(
        databases, tables, [f"{run.name}-{name}" for name in configurations.SAGA_PIPELINES]
    )
    gone = report["status"] == "decommissioned" and not left
    run.shown("6 gone", "things removed, each proved gone", str(len(report["removed"])))
    run.figure("6 gone", "left of it on the servers", ", ".join(left) or "nothing", "nothing", gone)
    rows = sum(table["rows"] for table in report["archived"])
    run.figure("6 gone", "rows archived", str(rows), "> 200", rows > 200)
    monolith_tested(run, "the monolith's tests without the tables")
    time.sleep(seconds)
    failed, unanswered = clients.outcomes["failed"], clients.outcomes["unanswered"]
    run.none("6 gone", "reads that failed meanwhile", failed)
    run.timing("6 gone", "adjustments without an answer", str(unanswered), "0", not unanswered)
    after = run.patiently(lambda: decommission.resources(databases, []))
    for what, one, other in (
        ("the monolith's database", f"{before.size / 1e6:.1f}", f"{after.size / 1e6:.1f} MB"),
        ("WAL that slots hold back", f"{before.wal / 1e6:.1f}", f"{after.wal / 1e6:.1f} MB"),
        ("sessions at the databases", str(before.sessions), str(after.sessions)),
        ("processes of pipelines", str(before.processes), str(after.processes)),
        ("their memory", f"{before.memory / 1e6:.0f}", f"{after.memory / 1e6:.0f} MB"),
    ):
        run.shown("6 gone", what, f"{one} → {other}")


def orders(run: Run, buyers: Buyers) -> None:
    """Stages 3 to 6: what became of the orders, by what followed their events, and by the tables."""
    stage, asked = "3-6 saga", buyers.outcomes
    ended = became(lambda: _orders_ended(run))
    totals = json.loads(run.pycdc("saga", "list", str(run.folder / "sagas.yaml"), "--json"))["totals"][0]
    found, off = judged(run.monolith, run.service, buyers.placed), unbalanced(run.service)
    states, ratio = totals["states"], totals["success_ratio"] or 0.0
    run.shown(
        stage,
        "orders placed, cards declined, orders withdrawn",
        f"{len(buyers.placed)}, {asked['declined']}, {asked['withdrawn']}",
    )
    run.shown(stage, "requests of customers sent again", str(asked["again"]))
    run.none(stage, "orders that nobody accepted", asked["given up"])
    run.figure(stage, "success, as the tracker counts", f"{ratio:.2%}", "> 99.99 %", ratio > 0.9999)
    run.figure(stage, "success, as the tables say", f"{found.success:.2%}", "> 99.99 %", found.success > 0.9999)
    counted = states.get("succeeded", 0), states.get("compensated", 0)
    same = ended and counted == (found.confirmed, found.compensated)
    run.figure(stage, "compensated (tracker, tables)", f"{counted[1]}, {found.compensated}", "the same", same)
    run.shown(stage, "took longer than their time limit", str(totals["timed_out"]))
    run.none(stage, "stuck", found.open + totals["stuck"])
    run.none(stage, "orders with other stock or money than their state says", len(found.wrong))
    run.none(stage, "items whose level is not the sum of its moves", len(off))
    events = recorded_events(run.brokers, run.event_topics, preparation.event_schemas())
    run.shown(stage, "events, and how many came again", f"{events.kinds.total()}, {events.repeated}")
    run.none(stage, "events unlike their schema", len(events.unlike))
    lacking = set(preparation.event_schemas()) - set(events.kinds) - {"StockAdjusted"}
    run.figure(stage, "kinds of events that never came", ", ".join(sorted(lacking)) or "none", "none", not lacking)


def _orders_ended(run: Run) -> bool:
    """Return whether all orders have ended, and what follows them knows."""
    placed, left = rows(run.monolith, "SELECT count(*), count(*) FILTER (WHERE ended_at IS NULL) FROM orders")[0]
    followed = dict(rows(run.monolith, "SELECT state, count FROM sagas.saga_totals"))
    return not left and placed == followed.get("succeeded", 0) + followed.get("compensated", 0)


def monolith_tested(run: Run, name: str) -> None:
    """Nothing is killed meanwhile: these tests ask once."""
    with run.peace():
        wait_for(lambda: _answers(run))
        failures = decommission.monolith_failures(run.ports.facade)
    if failures:
        say(failures)
    run.figure("6 gone", name, "red" if failures else "green", "green", not failures)


def _answers(run: Run) -> bool:
    """Return whether both systems answer by the façade."""
    browser = Browser(run.ports.facade)
    try:
        statuses = [browser.ask("GET", f"/api/{path}")[0] for path in ("orders/none", "inventory/item-1")]
    except (OSError, http.client.HTTPException):
        return False
    finally:
        browser.close()
    return statuses == [404, 200]


def _recovered(run: Run) -> bool:
    """Return whether both systems answer, and every slot is read."""
    try:
        for dsn in (run.monolith, run.service):
            with psycopg.connect(dsn, autocommit=True) as connection:
                row = connection.execute("SELECT bool_and(active) FROM pg_replication_slots").fetchone()
                if row is None or not row[0]:
                    return False
    except psycopg.OperationalError:
        return False
    return _answers(run)


def _p99(seconds: list[float]) -> float:
    return sorted(seconds)[int(len(seconds) * 0.99)] if seconds else math.inf


@contextmanager
def _killing(run: Run, seed: int | None) -> Iterator[None]:
    """Kill at random within the block, if the run is one with chaos."""
    if not run.chaos:
        yield
        return
    seed = secrets.randbelow(1_000_000) if seed is None else seed
    say(f"chaos: --seed {seed}")
    databases = {"shop-database": run.monolith, "inventory-database": run.service}
    with Chaos(seed, run.programs, databases, run.migration, lambda: _recovered(run)) as chaos:
        run.peace = chaos.peace
        yield
    killed = ", ".join(f"{name} {times}" for name, times in sorted(chaos.killed.items()))
    run.shown("chaos", "killed", f"{chaos.killed.total()}: {killed}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--brokers", help="A Kafka. Default: an embedded broker.")
    parser.add_argument("--registry", help="A schema registry. Default: an embedded one.")
    parser.add_argument("--seconds", type=float, default=5.0, help="Of load at each step.")
    parser.add_argument("--rate", type=float, default=1.0, help="1: users ask 60 times a second, customers order 4.")
    parser.add_argument("--chaos", action="store_true", help="Kill programs and databases at random meanwhile.")
    parser.add_argument("--seed", type=int, help="Of what --chaos kills, and when. Default: another one each time.")
    parser.add_argument("--folder", type=Path, help="Where configurations and logs are kept. Default: one that goes.")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as temporary,
        Run(options.folder or Path(temporary), options.brokers, options.registry, chaos=options.chaos) as run,
    ):
        prepare(run)
        build(run)
        run.start()
        say(f"the page: http://127.0.0.1:{run.ports.gates}/migration")
        serves(run)
        with _killing(run, options.seed), Buyers(run.ports.facade, rate=2 * options.rate) as buyers:
            with Clients(run.ports.facade, rate=10 * options.rate, again=run.chaos) as clients:
                sync(run)
                reads(run, clients, options.seconds)
                writes(run, clients, options.seconds)
            compared(run, clients)
            with Clients(run.ports.facade, rate=10 * options.rate, again=run.chaos) as clients:
                decommissioned(run, clients, options.seconds)
        orders(run, buyers)
        ended = run.programs.ended.total()
        run.timing("all", "programs that ended by themselves", str(ended), "0", not ended)
        missed = [figure for figure in run.figures if not figure.met]
    say(f"{len(run.figures) - len(missed)} of {len(run.figures)} goals met")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
