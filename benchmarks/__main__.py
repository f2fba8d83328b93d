"""All benchmarks, or some of them, into benchmarks/results/latest.json and docs/performance.md.

    python -m benchmarks [--only throughput,latency,…] [--runs 5] [--scale 1] [--without-peers] [--resume] [--list]
    python -m benchmarks --quick

All of it takes less than 45 minutes on two quiet cores (`--list` tells what each scenario takes). Figures are saved
after each scenario: a run that was interrupted goes on with `--resume`, with its own options, and tries again what had
failed. `--scale 0.3` writes three tenths of the rows. `--quick` runs everything small, in minutes, to see that it
works: what it prints means little, and nothing is saved. Each scenario also runs alone, with options of its own:
`python -m benchmarks.throughput --help`.
"""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import ExitStack

from benchmarks import figures, journal, report
from benchmarks.figures import note
from benchmarks.journal import Journal
from benchmarks.plan import SCENARIOS, Options
from benchmarks.rig import Rig


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", default=",".join(SCENARIOS))
    parser.add_argument("--runs", type=int, default=Options().runs)
    parser.add_argument("--scale", type=float, default=Options().scale)
    parser.add_argument("--without-peers", action="store_true", help="without Debezium, so without Connect")
    parser.add_argument("--resume", action="store_true", help="go on with the run that was interrupted")
    parser.add_argument("--list", action="store_true", help="the scenarios, and what each takes")
    arguments = parser.parse_args()
    unknown = set(arguments.only.split(",")) - set(SCENARIOS)
    if unknown:
        parser.error(f"no scenario {', '.join(sorted(unknown))}; there are {', '.join(SCENARIOS)}")
    if arguments.list:
        _list()
        return
    run = Journal(
        Options(not arguments.without_peers, arguments.runs, arguments.scale),
        [name for name in SCENARIOS if name in arguments.only.split(",")],
    )
    if arguments.resume:
        found = journal.unfinished()
        if found is None:
            parser.error("no run was interrupted")
        run = found
    failed = _Run(run, quick=arguments.quick).all()
    if failed:
        sys.exit(f"failed: {', '.join(failed)}" + ("" if arguments.quick else "; try them again with --resume"))


def _list() -> None:
    for name, scenario in SCENARIOS.items():
        print(f"{name:<12} {scenario.minutes:4.1f} min")
    print(f"{'all':<12} {sum(one.minutes for one in SCENARIOS.values()):4.1f} min")


class _Run:
    """Scenarios on the same servers, which are made anew after a failure."""

    def __init__(self, journal: Journal, *, quick: bool) -> None:
        self._journal = journal
        self._quick = quick
        self._started = time.monotonic()

    def all(self) -> list[str]:
        """The names of those that failed."""
        failed = []
        if not self._quick:
            self._journal.write()
        with ExitStack() as servers:
            rig = servers.enter_context(Rig(warm=not self._quick))
            for name in self._journal.left:
                self._announce(name)
                try:
                    self._one(name, rig)
                    rig.clear()
                except Exception as error:
                    note(f"{name} failed: {type(error).__name__}: {error}")
                    failed.append(name)
                    servers.close()
                    rig = servers.enter_context(Rig(warm=not self._quick))
        return failed

    def _announce(self, name: str) -> None:
        number, count = len(self._journal.done) + 1, len(self._journal.chosen)
        left = sum(SCENARIOS[one].minutes for one in self._journal.left)
        minutes = "" if self._quick else f", about {SCENARIOS[name].minutes:g} of the {left:g} min left"
        note(f"\n== {name} ({number} of {count}{minutes}; {(time.monotonic() - self._started) / 60:.1f} min gone)")

    def _one(self, name: str, rig: Rig) -> None:
        started, scenario = time.monotonic(), SCENARIOS[name]
        result = (scenario.quick if self._quick else scenario.full)(rig, self._journal.options)
        figures.show(result)
        note(f"   {name} took {time.monotonic() - started:.0f} s")
        if self._quick:
            self._journal.done.append(name)
            return
        # After each, so that what was measured is not lost with what comes behind it.
        figures.save([result])
        report.main()
        self._journal.finish(name)


if __name__ == "__main__":
    main()
