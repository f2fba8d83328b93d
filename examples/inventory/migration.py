"""Move the inventory out of the monolith while users read and write, and print each figure beside its goal.

    python -m examples.inventory.migration [--brokers HOST:PORT] [--registry URL] [--seconds 5]

Both databases are embedded ones, broker and registry too where none are named, the façade is a real Envoy. The exit
code is 1 if a goal is missed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psycopg
from examples.inventory import configurations, decommission, preparation
from examples.inventory.buyers import Buyers
from examples.inventory.clients import Clients
from examples.inventory.oracle import judged, same_rows, unbalanced
from examples.inventory.recorded_events import recorded_events
from examples.inventory.run import PYCDC, Run, accepts, became, rows, say


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
    before = Counter(clients.outcomes)
    time.sleep(seconds)
    taken = sorted(clients.reads)
    p99 = taken[int(len(taken) * 0.99)]
    failed, stale = (clients.outcomes[name] - before[name] for name in ("failed", "stale"))
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


def compared(run: Run, clients: Clients) -> None:
    """Both databases hold the same, and every adjustment once, while orders go on."""
    differing = run.verified("to-monolith", "inventory")
    told = "equal" if not differing else "different"
    run.figure("5 writes", "verification of the way back", told, "0 differences", not differing)
    same = became(lambda: same_rows(run.monolith, run.service))
    run.figure("5 writes", "every row of both sides is the same", "yes" if same else "no", "yes", same)
    recorded = rows(run.service, "SELECT count(*) FROM stock_adjusted WHERE order_id IS NULL")[0][0]
    once = recorded == clients.outcomes["written"]
    run.figure("5 writes", "adjustments that are recorded", str(recorded), "each once", once)


def decommissioned(run: Run, clients: Clients, seconds: float) -> None:
    """Stage 6: what the inventory left in the monolith goes, and what moved it."""
    databases, tables = (run.monolith, run.service), [one["old"].partition(".")[2] for one in configurations.TABLES]
    monolith_tested(run, "the monolith's tests before")
    pids = [run.programs.pid(name) for name in configurations.PIPELINES]
    before = decommission.resources(databases, pids)
    run.cutover("close", "--now")
    configurations.give_up_the_way_back(run.migration)
    run.start_facade_anew()
    run.pycdc("facade", "set", str(run.migration), "read-item", "100", "--at-once")
    for name in configurations.PIPELINES:
        run.programs.stop(name)
    command = [*PYCDC, "decommission", str(run.migration), "inventory", "--json"]
    report = decommission.decommissioned(command)
    left = [f"{one['kind']} {one['name']}" for one in report["left"]]
    left += decommission.left_behind(
        databases, tables, [f"{run.name}-{name}" for name in configurations.SAGA_PIPELINES]
    )
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


def orders(run: Run, buyers: Buyers) -> None:
    """Stages 3 to 6: what became of the orders, by what followed their events, and by the tables."""
    ended = became(lambda: _orders_ended(run))
    totals = json.loads(run.pycdc("saga", "list", str(run.folder / "sagas.yaml"), "--json"))["totals"][0]
    found, off = judged(run.monolith, run.service, buyers.placed), unbalanced(run.service)
    states, ratio = totals["states"], totals["success_ratio"] or 0.0
    run.figure("3-6 saga", "orders placed, each by one request or more", str(len(buyers.placed)), "shown", True)
    run.figure(
        "3-6 saga",
        "orders that nobody accepted",
        str(buyers.outcomes["given up"]),
        "0",
        not buyers.outcomes["given up"],
    )
    run.figure("3-6 saga", "success, as the tracker counts", f"{ratio:.2%}", "> 99.99 %", ratio > 0.9999)
    run.figure("3-6 saga", "success, as the tables say", f"{found.success:.2%}", "> 99.99 %", found.success > 0.9999)
    counted = states.get("succeeded", 0), states.get("compensated", 0)
    same = ended and counted == (found.confirmed, found.compensated)
    run.figure("3-6 saga", "compensated (tracker, tables)", f"{counted[1]}, {found.compensated}", "the same", same)
    run.figure(
        "3-6 saga",
        "cards declined, orders withdrawn",
        f"{buyers.outcomes['declined']}, {buyers.outcomes['withdrawn']}",
        "shown",
        True,
    )
    stuck = found.open + totals["stuck"]
    run.figure("3-6 saga", "stuck", str(stuck), "0", not stuck)
    run.figure(
        "3-6 saga",
        "orders with other stock or money than their state says",
        str(len(found.wrong)),
        "0",
        not found.wrong,
    )
    run.figure("3-6 saga", "items whose level is not the sum of its moves", str(len(off)), "0", not off)
    events = recorded_events(run.brokers, run.event_topics, preparation.event_schemas())
    unlike = len(events.unlike)
    run.figure("3-6 saga", f"of {events.kinds.total()} events, unlike their schema", str(unlike), "0", not unlike)
    lacking = set(preparation.event_schemas()) - set(events.kinds) - {"StockAdjusted"}
    run.figure("3-6 saga", "kinds of events that never came", ", ".join(sorted(lacking)) or "none", "none", not lacking)


def _orders_ended(run: Run) -> bool:
    """Return whether all orders have ended, and what follows them knows."""
    placed, left = rows(run.monolith, "SELECT count(*), count(*) FILTER (WHERE ended_at IS NULL) FROM orders")[0]
    followed = dict(rows(run.monolith, "SELECT state, count FROM sagas.saga_totals"))
    return not left and placed == followed.get("succeeded", 0) + followed.get("compensated", 0)


def monolith_tested(run: Run, name: str) -> None:
    failures = decommission.monolith_failures(run.ports.facade)
    if failures:
        say(failures)
    run.figure("6 gone", name, "red" if failures else "green", "green", not failures)


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
        say(f"the page: http://127.0.0.1:{run.ports.gates}/migration")
        serves(run)
        with Buyers(run.ports.facade) as buyers:
            with Clients(run.ports.facade) as clients:
                sync(run)
                reads(run, clients, options.seconds)
                writes(run, clients, options.seconds)
            compared(run, clients)
            with Clients(run.ports.facade) as clients:
                decommissioned(run, clients, options.seconds)
        orders(run, buyers)
        ended = run.programs.ended.total()
        run.figure("all", "programs that ended by themselves", str(ended), "0", not ended)
        missed = [figure for figure in run.figures if not figure.met]
    say(f"{len(run.figures) - len(missed)} of {len(run.figures)} goals met")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
