"""What a scenario finds out: figures beside their targets, in one format for all of them."""

from __future__ import annotations

import json
import os
import platform
import shlex
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

RESULTS = Path(__file__).parent / "results"
Compare = Literal["at least", "at most", ""]


@dataclass(frozen=True, slots=True)
class Figure:
    """One number of pycdc, beside a peer's where there is one.

    `pycdc` and `peer` are medians over the runs, in `unit`; `runs` holds every value, so that the spread can be seen.
    `target` is in words; `limit` is what the tested number (`pycdc`, or `ratio` where `of_ratio`) is held against.
    `points` is a curve for a plot: pairs of x and y.
    """

    name: str
    unit: str
    pycdc: float | None
    peer: float | None = None
    peer_name: str = ""
    better: Literal["more", "less"] = "more"
    target: str = ""
    limit: float | None = None
    compare: Compare = ""
    of_ratio: bool = False
    runs: Mapping[str, Sequence[float]] = field(default_factory=dict)
    points: Mapping[str, Sequence[tuple[float, float]]] = field(default_factory=dict)
    notes: str = ""

    @property
    def ratio(self) -> float | None:
        """How many times better than the peer; below 1 it is worse."""
        if not self.pycdc or not self.peer:
            return None
        return self.pycdc / self.peer if self.better == "more" else self.peer / self.pycdc

    @property
    def met(self) -> bool | None:
        tested = self.ratio if self.of_ratio else self.pycdc
        if self.limit is None or tested is None:
            return None
        return tested >= self.limit if self.compare == "at least" else tested <= self.limit


@dataclass(frozen=True, slots=True)
class Result:
    """What one scenario found, with all that is needed to find it again."""

    scenario: str
    figures: Sequence[Figure]
    versions: Mapping[str, str]
    settings: Mapping[str, Any]
    command: str = field(default_factory=lambda: command())
    machine: str = field(default_factory=lambda: machine())

    def rows(self) -> list[dict[str, Any]]:
        shared = {"scenario": self.scenario, "machine": self.machine, "versions": dict(self.versions)}
        shared |= {"settings": dict(self.settings), "command": self.command}
        return [asdict(one) | {"ratio": rounded(one.ratio), "met": one.met} | shared for one in self.figures]


def together(first: Result, second: Result) -> Result:
    """One scenario measured in two ways: the settings of the second are told where they differ."""
    other = {name: value for name, value in second.settings.items() if first.settings.get(name) != value}
    settings = {**first.settings, **({"other cases": other} if other else {})}
    return Result(first.scenario, [*first.figures, *second.figures], second.versions, settings, machine=first.machine)


def save(results: Iterable[Result], folder: Path = RESULTS) -> Path:
    """Put the figures into latest.json in place of those that earlier runs of the same scenarios left there."""
    folder.mkdir(exist_ok=True)
    path = folder / "latest.json"
    results = list(results)
    new = {result.scenario for result in results}
    kept = [row for row in load(folder) if row["scenario"] not in new]
    rows = kept + [row for result in results for row in result.rows()]
    path.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n")
    return path


def load(folder: Path = RESULTS) -> list[dict[str, Any]]:
    path = folder / "latest.json"
    return list(json.loads(path.read_text())) if path.exists() else []


def show(result: Result) -> None:
    """A line for each figure, on standard output."""
    print(f"\n{result.scenario}   ({result.machine})")
    for one in result.figures:
        beside = "" if one.peer is None else f"   {one.peer_name} {shown(one.peer)}, ratio {shown(one.ratio)}"
        verdict = {True: "  met", False: "  MISSED", None: ""}[one.met]
        target = f"   target {one.target}{verdict}" if one.target else ""
        print(f"  {one.name:<52} {shown(one.pycdc):>12} {one.unit}{beside}{target}")
        if one.notes:
            print(f"    {one.notes}")


def shown(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:,.2f}" if abs(value) < 10 else f"{value:,.1f}"


def rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def note(text: str) -> None:
    """Progress, on standard error."""
    print(text, file=sys.stderr, flush=True)


def median(values: Sequence[float]) -> float | None:
    return rounded(statistics.median(values)) if values else None


def command() -> str:
    """How this process was started."""
    name = getattr(sys.modules["__main__"].__spec__, "name", None) or Path(sys.argv[0]).stem
    return shlex.join(["python", "-m", name.removesuffix(".__main__"), *sys.argv[1:]])


def machine() -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    load = os.getloadavg()[0]
    return (
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs ({_processor()}), {memory:.0f} GB, "
        f"load {load:.1f} at the start"
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown"
