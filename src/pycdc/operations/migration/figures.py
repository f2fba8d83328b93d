"""Figures of a migration beside their goals."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pycdc.config.cutover import CutoverGroupConfig
from pycdc.operations.cutover.gate_keeper import GroupAnswers
from pycdc.operations.cutover.group_state import IN_PAUSE, GroupState

FigureUnit = Literal["seconds", "records", "rows", "percent", "ratio"]


@dataclass(frozen=True, slots=True)
class Figure:
    """`value` is None where it is not known, `goal` where there is none; `met` is None where neither can be said."""

    name: str
    value: float | None
    unit: FigureUnit
    goal: float | None = None
    met: bool | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def at_most(name: str, value: float | None, unit: FigureUnit, goal: float | None) -> Figure:
    """Return a figure that shall not be above its goal."""
    return Figure(name, value, unit, goal, None if value is None or goal is None else value <= goal)


def group_figures(config: CutoverGroupConfig, answers: GroupAnswers, read_your_writes: float | None) -> list[Figure]:
    """Return a group's figures: what its gates measured, staleness, and of the last times pause and differences.

    Staleness is proved: what was committed in the old system before is in the new one. It ends once the new one writes.
    """
    figures = [
        Figure(gate.name, gate.measure.value, gate.measure.unit, gate.measure.goal, gate.open)
        for gate in answers.current_gates
        if gate.measure is not None
    ]
    if answers.state is None or answers.state.owner == "old":
        fresh = time.monotonic() - answers.fresh_at if answers.fresh_at else None
        figures.append(at_most("staleness", fresh, "seconds", read_your_writes))
    if (pause := _pause(answers.state)) is not None:
        figures.append(at_most("pause of writes", pause, "seconds", config.max_pause))
    if (differences := _differences(answers)) is not None:
        figures.append(at_most("differences", differences, "rows", 0))
    return sorted(figures, key=_place)


def _place(figure: Figure) -> int:
    """Return where a figure stands: first comes what a cut-over is judged by."""
    first = ("lag", "staleness", "writes", "differences", "parked", "conflicts")
    kind = figure.name.split()[-1]
    return first.index(kind) if kind in first else len(first)


def _pause(state: GroupState | None) -> float | None:
    """Return how long writes were held at the last hand-over, or have been at the one that is under way, if any."""
    if state is None:
        return None
    return time.time() - state.held_at if state.stage in IN_PAUSE else state.pause


def _differences(answers: GroupAnswers) -> int | None:
    if not answers.reports:
        return None
    return sum(differing(table) for report in answers.reports.values() for table in report["tables"])


def differing(table: dict[str, Any]) -> int:
    """Return how many rows of a report's table differ."""
    return sum(table["differing"].values())
