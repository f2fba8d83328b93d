"""A migration that moves as a real one does, for the page's pictures and its tests."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from pycdc.config.cutover import CutoverGroupConfig
from pycdc.errors import PycdcError
from pycdc.operations.cutover.gate_keeper import GroupAnswers
from pycdc.operations.cutover.gates import Gate, Measure
from pycdc.operations.cutover.group_state import GroupState, Stage
from pycdc.operations.migration.command_runner import GivenCommand
from pycdc.operations.migration.figures import Figure, at_most
from pycdc.operations.migration.group_document import group_document
from pycdc.operations.verify.reports.html_report import html
from pycdc.operations.verify.reports.json_report import document, verification
from pycdc.operations.verify.result import Difference, DifferenceKind, PointInTime, TableResult, Verification

STEPS = (0, 1, 5, 25, 50, 100)


class ExampleMigration:
    """A `ServedMigration` of the inventory, whose figures wave. `acted` holds what was asked of it."""

    def __init__(self, stage: Stage | None = "reading", table: str = "public.stock") -> None:
        self.config = CutoverGroupConfig.model_validate(
            {
                **dict.fromkeys(("capture", "apply", "reverse_capture", "reverse_apply"), "one.yaml"),
                "old_dsn": "dbname=shop",
                "new_dsn": "dbname=inventory",
                "tables": [
                    {"old": table, "new": "public.stock_levels"},
                    {"old": "public.stock_moves", "new": "public.stock_adjusted"},
                ],
            }
        )
        self.answers = GroupAnswers(read_at=time.monotonic(), fresh_at=time.monotonic())
        self.answers.reports = {"forward": document(report("to-inventory", table))}
        self.closed: dict[str, str] = {}
        """Gates that are closed, with their reasons."""
        self.given: GivenCommand | None = None
        self.acted: list[tuple[tuple[str, ...], dict[str, Any]]] = []
        self.refusal: PycdcError | None = None
        self.percent = self.target = 25
        self.held = False
        self.asked = 0
        self.to(stage)

    def to(self, stage: Stage | None, **changes: Any) -> None:
        """Bring the group to a stage."""
        if stage is None:
            self.answers.state = None
            return
        state = GroupState(7, stage, verified_at=time.time(), switched_at=time.time(), held_at=time.time())
        self.answers.state = state.at(stage, **changes)

    def gates(self, group: str) -> Mapping[str, Any] | None:
        return None

    def document(self) -> Mapping[str, Any]:
        self.asked += 1
        now = time.monotonic()
        self.answers.read_at = self.answers.asked_at = now
        self.answers.fresh_at = now - 1.2 - self._wave(0.7, 9)
        self.answers.gates = list(self._gates())
        group = group_document("inventory", self.config, self.answers, self.given, 10)
        return {"stages": get_args(Stage), "groups": [group], "facade": self._facade()}

    def report(self, group: str, direction: str) -> bytes | None:
        found = self.answers.reports.get(direction) if group == "inventory" else None
        return None if found is None else html(verification(found)).encode()

    def act(self, what: Sequence[str], options: Mapping[str, Any]) -> bool:
        if self.refusal is not None:
            raise self.refusal
        self.acted.append((tuple(what), dict(options)))
        return True

    def _wave(self, size: float, period: float) -> float:
        return size * (1 + math.sin(self.asked * 2 * math.pi / period) * math.cos(self.asked / 3)) / 2

    def _gates(self) -> Sequence[Gate]:
        gates = []
        for side, capture, apply in (
            ("old", "monolith", "to-inventory"),
            ("new", "inventory", "to-monolith"),
        ):
            lag = 0.04 + self._wave(0.12, 7 if side == "old" else 11)
            gates += [
                Gate(f"{capture} slot", True, "read"),
                Gate(f"{apply} conflicts", True, "none waits for a decision", Measure(0, 0, "records")),
                Gate(f"{apply} parked", True, "nothing is parked", Measure(0, 0, "records")),
                Gate(f"{apply} origin", True, "granted"),
                Gate(f"{apply} lag", True, f"{lag * 1000:.0f} ms", Measure(lag, 1)),
                Gate(f"{apply} sequences", True, "can be set"),
                Gate(f"{side} fence", True, "can be put up"),
            ]
        oldest = self._wave(0.4, 5)
        gates += [
            Gate("transactions", True, f"the oldest has lasted {oldest:.1f} s", Measure(oldest, 5)),
            Gate("clocks", True, "differ by 2 ms", Measure(0.002, 1)),
            Gate("verification", True, "equal 84 s ago", Measure(84, 3600)),
            Gate("tables", True, "as they were verified"),
        ]
        return [
            Gate(gate.name, False, self.closed[gate.name], gate.measure) if gate.name in self.closed else gate
            for gate in gates
        ]

    def _facade(self) -> dict[str, Any]:
        reads = {
            "route": "read-item",
            "path": "/api/inventory/{itemId}",
            "methods": ["GET", "HEAD"],
            "reads": True,
            "to": "new",
            "percent": self.percent,
            "target": self.target,
            "held": False,
            "reason": "step",
        }
        writes = {"route": "adjust", "path": "/api/inventory/adjust", "methods": ["POST"], "reads": False, "to": "new"}
        figures = [
            Figure("read-item", self.percent, "percent", 100, True if self.percent == 100 else None),
            at_most("p99 of new", 0.012 + self._wave(0.01, 6), "seconds", 0.25),
            at_most("failed at new", 0.0, "ratio", 0.01),
        ]
        return {
            "listen": "127.0.0.1:8080",
            "runs": True,
            "steps": list(STEPS),
            "routes": [{**writes, "percent": 0, "target": 0, "held": self.held, "reason": ""}, reads],
            "figures": [one.as_dict() for one in figures],
        }


def report(pipeline: str, source: str = "public.stock", *, differences: int = 0) -> Verification:
    """Return what a verification may have found."""
    offsets = {"shop.public.stock[0]": 88_411}
    differing = Counter({DifferenceKind.CHANGED: differences}) if differences else Counter()
    table = "public.stock_levels"
    found = [Difference(table, DifferenceKind.CHANGED, {"item_id": "item-7"}, ("available",))] if differences else []
    stock = TableResult(table, (source,), key=("item_id",), columns=("item_id", "available", "version"))
    stock.source_rows = stock.target_rows = 200
    stock.in_flight, stock.differences, stock.differing = 14, found, differing
    moves = TableResult("public.stock_adjusted", ("public.stock_moves",), key=("id",), columns=("id", "delta"))
    moves.source_rows = moves.target_rows = 48_112
    moves.in_flight = 31
    return Verification(
        pipeline,
        (),
        "2026-11-30T10:00:00+00:00",
        "shop (7312450917)",
        "inventory (7312450988)",
        "hashtext",
        "9f0c1d6a52b7e833",
        0.6,
        points=[PointInTime("0/5A3C1B8", offsets, offsets, offsets, 0.11, 0.08)],
        tables=[stock, moves],
    )
