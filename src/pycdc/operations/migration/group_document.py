"""A group as the page shows it: no values and no keys of rows."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from pycdc.config.cutover import CutoverGroupConfig
from pycdc.operations.cutover.commands import planned
from pycdc.operations.cutover.gate_keeper import GroupAnswers
from pycdc.operations.cutover.group_state import GroupState
from pycdc.operations.migration.command_runner import GivenCommand, offered
from pycdc.operations.migration.figures import differing, group_figures


def group_document(
    name: str,
    config: CutoverGroupConfig,
    answers: GroupAnswers,
    given: GivenCommand | None,
    read_your_writes: float | None,
) -> dict[str, Any]:
    """Return what is known of a group. `given` is the command that runs, or ran last."""
    state, gates = answers.state, answers.current_gates
    known = GroupState() if state is None else state
    return {
        "group": name,
        "tables": [{"old": one.old, "new": one.new, "columns": one.old_columns} for one in config.tables],
        "stage": None if state is None else state.stage,
        "read_seconds_ago": _ago(answers.read_at),
        "failure": answers.failure,
        "direction": known.direction,
        "owner": known.owner,
        "note": known.note,
        "plan": planned(state),
        "commands": offered(state) if answers.read_at else [],
        "rollback_seconds": max(0.0, known.switched_at + config.rollback_window - time.time()),
        "max_pause": config.max_pause,
        "open": all(gate.open for gate in gates),
        "gates": [gate.as_dict() for gate in gates],
        "asked_seconds_ago": _ago(answers.asked_at),
        "figures": [one.as_dict() for one in group_figures(config, answers, read_your_writes)],
        "verifications": [_verified(way, report) for way, report in sorted(answers.reports.items(), reverse=True)],
        "command": None if given is None else given.as_dict(),
    }


def _ago(moment: float) -> float | None:
    return time.monotonic() - moment if moment else None


def _verified(direction: str, report: Mapping[str, Any]) -> dict[str, Any]:
    """Return the summary of a report: numbers by table, and no key."""
    return {
        "direction": direction,
        "pipeline": report["pipeline"],
        "started": report["started"],
        "seconds": report["seconds"],
        "equal": report["equal"],
        "exact": report["exact"],
        "tables": [
            {
                "table": table["table"],
                "rows": table["source_rows"],
                "in_flight": table["in_flight"],
                "differences": differing(table),
                "problem": table["problem"],
            }
            for table in report["tables"]
        ],
    }
