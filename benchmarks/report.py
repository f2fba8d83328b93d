"""docs/performance.md and its charts, made from benchmarks/results/latest.json.

    python -m benchmarks.report

What stands outside of the two marks in the page is written by hand and stays.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.charts import bars, curves
from benchmarks.figures import RESULTS, load, shown
from benchmarks.pipelines import ROOT

PAGE = ROOT / "docs" / "performance.md"
CHARTS = ROOT / "docs" / "performance"
BEGIN = "<!-- Made by `python -m benchmarks.report` from benchmarks/results/latest.json, down to the next mark. -->"
END = "<!-- The end of what is made. -->"
ORDER = (
    "throughput",
    "latency",
    "snapshot",
    "reverse",
    "verify",
    "memory",
    "growth",
    "large",
    "start",
    "recovery",
    "idle",
)

Row = dict[str, Any]


def main() -> None:
    write(load(RESULTS))


def write(rows: list[Row], page: Path = PAGE, charts: Path = CHARTS) -> None:
    """Replace what lies between the marks."""
    charts.mkdir(exist_ok=True)
    made = "\n".join(_page(rows, charts))
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    page.write_text(f"{before}{BEGIN}\n\n{made}\n{END}{after}", encoding="utf-8")


def _page(rows: list[Row], charts: Path) -> Iterator[str]:
    scenarios = {name: [row for row in rows if row["scenario"] == name] for name in ORDER}
    for name, found in scenarios.items():
        if found:
            yield from _scenario(name, found)
            yield from _charts(name, found, charts)
            yield from _origin(found)


def _scenario(name: str, rows: list[Row]) -> Iterator[str]:
    yield f"## {name.capitalize()}\n"
    yield "| figure | pycdc | beside | | ratio | target | met |"
    yield "|---|---|---|---|---|---|---|"
    for row in rows:
        peer = f"{row['peer_name']} | {_amount(row['peer'], row['unit'])}" if row["peer"] is not None else "| "
        ratio = "" if row["ratio"] is None else f"{row['ratio']:.3g}×"
        met = {True: "yes", False: "**no**", None: ""}[row["met"]]
        yield f"| {row['name']} | {_amount(row['pycdc'], row['unit'])} | {peer} | {ratio} | {row['target']} | {met} |"
    yield ""
    for row in rows:
        if row["notes"]:
            yield f"- {row['name']}: {row['notes']}"
    if any(row["notes"] for row in rows):
        yield ""


def _amount(value: float | None, unit: str) -> str:
    return f"{shown(value)} {unit}".strip()


def _origin(rows: list[Row]) -> Iterator[str]:
    last = rows[-1]
    versions = ", ".join(f"{name} {version}" for name, version in last["versions"].items())
    settings = ", ".join(f"{name} {_setting(value)}" for name, value in last["settings"].items())
    yield f"`{last['command']}` on {last['machine']}. {versions}. {settings}.\n"


def _setting(value: Any) -> str:
    if isinstance(value, dict):
        return "(" + ", ".join(f"`{name}={one}`" for name, one in value.items()) + ")"
    return json.dumps(value) if isinstance(value, str) else str(value)


def _charts(name: str, rows: list[Row], charts: Path) -> Iterator[str]:
    """A bar chart of the first figure that has peers, and a chart of every curve."""
    compared = next((row for row in rows if len(row["runs"]) > 1 and row["peer"] is not None), None)
    if name in ("throughput", "snapshot", "reverse") and compared is not None:
        values = {"pycdc": compared["pycdc"], compared["peer_name"]: compared["peer"]}
        for row in rows[1:]:
            if row["pycdc"] == compared["pycdc"] and row["peer"] is not None:
                values[row["peer_name"]] = row["peer"]
        yield _saved(charts / f"{name}.svg", compared["name"], bars(compared["name"], compared["unit"], values))
    drawn = set()
    for number, row in enumerate(row for row in rows if row["points"]):
        title = row["name"].partition(", p")[0] if name in ("latency", "reverse") else row["name"]
        if title in drawn:
            continue
        drawn.add(title)
        series = {one: [(x, y) for x, y in points] for one, points in row["points"].items()}
        if name in ("latency", "reverse"):
            chart = curves(f"{title}, by percentile", "percent of all", "ms", series)
        else:
            chart = curves(title, "", next(iter(series)), series, log_x=True)
        yield _saved(charts / f"{name}-{number + 1}.svg", title, chart)


def _saved(path: Path, title: str, chart: str) -> str:
    path.write_text(chart, encoding="utf-8")
    return f"![{title}](performance/{path.name})\n"


if __name__ == "__main__":
    main()
