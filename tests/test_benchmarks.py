"""What the benchmarks say about what they measured: ratios, verdicts, percentiles, the page and its charts."""

from __future__ import annotations

import json
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import benchmarks.__main__ as command
import pytest
from benchmarks import figures, journal, report
from benchmarks.charts import bars, curves
from benchmarks.figures import Figure, Result
from benchmarks.percentiles import Samples
from benchmarks.plan import SCENARIOS, Options, Scenario
from benchmarks.workload import SHAPES

RATE = Figure(
    "events into Kafka",
    "events/s",
    120_000.0,
    40_000.0,
    peer_name="Debezium",
    target="≥ 2.5× Debezium",
    limit=2.5,
    compare="at least",
    of_ratio=True,
    runs={"pycdc": [120_000.0], "debezium": [40_000.0]},
)
LATE = Figure(
    "commit to consumer, 1000 tx/s, p99",
    "ms",
    12.0,
    24.0,
    better="less",
    target="≤ 10 ms",
    limit=10.0,
    compare="at most",
    points={"pycdc": [(50.0, 2.0), (99.0, 12.0)]},
)


def result(scenario: str, *found: Figure) -> Result:
    return Result(scenario, found, {"pycdc": "1"}, {"rows": 5}, command="python -m benchmarks.x", machine="a machine")


def test_a_ratio_above_one_is_better_whichever_way_a_figure_counts() -> None:
    assert (RATE.ratio, LATE.ratio) == (3.0, 2.0)


def test_a_target_is_held_against_the_ratio_or_the_figure() -> None:
    assert RATE.met is True
    assert LATE.met is False


def test_without_a_target_or_a_figure_there_is_no_verdict() -> None:
    assert Figure("x", "s", 1.0).met is None
    assert Figure("x", "s", None, limit=1.0, compare="at most").met is None
    assert Figure("x", "s", 1.0, limit=1.0, compare="at least", of_ratio=True).met is None


def test_a_scenario_that_ran_again_takes_the_place_of_its_old_figures(tmp_path: Path) -> None:
    figures.save([result("throughput", RATE), result("latency", LATE)], tmp_path)
    figures.save([result("latency", LATE)], tmp_path)
    saved = figures.load(tmp_path)
    assert sorted(row["scenario"] for row in saved) == ["latency", "throughput"]
    needed = {"name", "pycdc", "peer", "ratio", "target", "met", "machine", "versions", "command"}
    assert all(needed <= row.keys() for row in saved)


def test_percentiles_are_samples_and_none_is_lost() -> None:
    samples = Samples()
    for number in range(1000, 0, -1):
        samples.add(number / 1000)
    assert samples.milliseconds() == {"p50": 500.0, "p90": 900.0, "p99": 990.0, "p99.9": 999.0, "max": 1000.0}
    samples.add(5.0)
    assert samples.at(100.0) == 5.0
    assert samples.curve()[0] == (0.0, 1.0)


@pytest.mark.parametrize(
    "chart",
    [
        bars("rate <of> events", "events/s", {"pycdc": 120_000.0, "Debezium & co": 0.5}),
        curves("latency", "percent", "ms", {"pycdc": [(0.0, 0.0), (50.0, 2.0)], "other": [(50.0, 900.0)]}),
        curves("growth", "", "events/s", {"events/s": [(1.0, 100.0), (1000.0, 100.0)]}, log_x=True),
    ],
)
def test_charts_are_well_formed_and_stay_within_their_frame(chart: str) -> None:
    root = ET.fromstring(chart)
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    for element in root.iter():
        for name, limit in (("x", width), ("y", height)):
            assert 0 <= float(element.attrib.get(name, 0)) <= limit
        for point in element.attrib.get("points", "").split():
            x, y = map(float, point.split(","))
            assert 0 <= x <= width
            assert 0 <= y <= height


def test_the_page_keeps_what_was_written_by_hand(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text(f"# Before\n\n{report.BEGIN}\nold\n{report.END}\n\nafter\n")
    rows = json.loads(json.dumps(result("throughput", RATE).rows() + result("latency", LATE).rows()))
    report.write(rows, page, tmp_path / "performance")
    text = page.read_text()
    assert text.startswith("# Before\n")
    assert text.endswith(f"{report.END}\n\nafter\n")
    assert "old" not in text
    assert "| events into Kafka | 120,000 events/s | Debezium | 40,000 events/s | 3× | ≥ 2.5× Debezium | yes |" in text
    assert "| 12.0 ms |" in text
    assert "**no**" in text
    charts = [line.partition("(")[2].rstrip(")") for line in text.splitlines() if line.startswith("![")]
    assert len(charts) == 2
    assert all((tmp_path / chart).exists() for chart in charts)


def test_the_page_of_the_project_has_both_marks() -> None:
    text = report.PAGE.read_text(encoding="utf-8")
    assert text.count(report.BEGIN) == text.count(report.END) == 1


@pytest.mark.parametrize("name", SHAPES)
def test_statements_of_a_shape_fit_its_table(name: str) -> None:
    shape = SHAPES[name]
    assert shape.insert.count("%(first)s") == shape.update.count("%(first)s") == shape.delete.count("%(first)s") == 1


# -- a run of all of them


class Servers:
    """In place of a Rig: counts how often servers were started and cleared."""

    started = 0
    cleared = 0

    def __init__(self, **more: object) -> None:
        type(self).started += 1

    def __enter__(self) -> Servers:
        return self

    def __exit__(self, *exc: object) -> None: ...

    def clear(self) -> None:
        type(self).cleared += 1


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str | int | None]:
    """Run `python -m benchmarks` with two scenarios, of which those named in `broken` fail; what it exits with."""
    broken: set[str] = set()

    def scenario(name: str) -> Scenario:
        def measure(rig: object, options: Options) -> Result:
            if name in broken:
                raise ChildProcessError(name)
            return Result(name, [replace(RATE, pycdc=float(options.runs))], {}, {})

        return Scenario(1.0, measure, measure)

    monkeypatch.setattr(Servers, "started", 0)
    monkeypatch.setattr(command, "Rig", Servers)
    monkeypatch.setattr(command, "SCENARIOS", {name: scenario(name) for name in ("idle", "start")})
    monkeypatch.setattr("benchmarks.__main__.figures.save", partial(figures.save, folder=tmp_path))
    monkeypatch.setattr("benchmarks.__main__.report.main", lambda: None)
    monkeypatch.setattr(journal, "RESULTS", tmp_path)

    def run(*arguments: str, without: str = "") -> str | int | None:
        broken.clear()
        broken.add(without)
        monkeypatch.setattr(sys, "argv", ["benchmarks", *arguments])
        try:
            command.main()
        except SystemExit as end:
            return end.code
        return None

    return run


def measured(folder: Path) -> dict[str, float]:
    return {row["scenario"]: row["pycdc"] for row in figures.load(folder)}


def test_figures_are_saved_after_each_scenario_and_a_failure_does_not_end_the_run(
    bench: Callable[..., str | int | None], tmp_path: Path
) -> None:
    assert "idle" in str(bench("--only", "idle,start", without="idle"))
    assert measured(tmp_path) == {"start": 5.0}
    assert Servers.started == 2, "after a failure the servers are made anew"


def test_an_interrupted_run_goes_on_with_its_own_options_and_does_nothing_twice(
    bench: Callable[..., str | int | None], tmp_path: Path
) -> None:
    bench("--only", "idle,start", "--runs", "3", without="start")
    assert measured(tmp_path) == {"idle": 3.0}
    figures.save([Result("idle", [replace(RATE, pycdc=99.0)], {}, {})], folder=tmp_path)
    assert bench("--resume") is None
    assert measured(tmp_path) == {"idle": 99.0, "start": 3.0}


def test_there_is_nothing_to_resume_after_a_run_that_came_to_its_end(
    bench: Callable[..., str | int | None], capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench("--only", "idle,start") is None
    assert bench("--resume") == 2
    assert "no run was interrupted" in capsys.readouterr().err


def test_a_quick_run_saves_nothing_and_leaves_an_interrupted_one_alone(
    bench: Callable[..., str | int | None], tmp_path: Path
) -> None:
    bench("--only", "idle,start", without="idle")
    before = {path: path.read_text() for path in tmp_path.iterdir()}
    assert bench("--quick", "--only", "idle,start") is None
    assert {path: path.read_text() for path in tmp_path.iterdir()} == before


def test_all_of_it_is_planned_within_three_quarters_of_an_hour() -> None:
    assert sum(scenario.minutes for scenario in SCENARIOS.values()) <= 45
    assert set(SCENARIOS) == set(report.ORDER)


def test_two_measurements_of_a_scenario_are_one_result_with_the_settings_of_both() -> None:
    one = Result("latency", [LATE], {}, {"runs": 5, "seconds": 6}, command="c", machine="m")
    both = figures.together(one, Result("latency", [RATE], {}, {"runs": 3, "seconds": 6}, command="c", machine="m"))
    assert (both.scenario, both.figures) == ("latency", [LATE, RATE])
    assert both.settings == {"runs": 5, "seconds": 6, "other cases": {"runs": 3}}
