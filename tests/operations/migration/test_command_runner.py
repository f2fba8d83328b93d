"""Which commands lead on."""

from __future__ import annotations

import pytest

from pycdc.operations.cutover.group_state import GroupState, HandoverDirection, Stage
from pycdc.operations.migration.command_runner import offered


@pytest.mark.parametrize(
    ("stage", "direction", "commands"),
    [
        ("following", "forward", ["advance"]),
        ("reading", "forward", ["advance", "roll-back"]),
        ("ready", "forward", ["advance", "roll-back"]),
        ("drained", "forward", ["advance", "roll-back"]),
        ("switched", "forward", ["advance", "roll-back"]),
        ("drained", "back", ["roll-back"]),
        ("switched", "back", ["roll-back"]),
        ("watching", "forward", ["close", "roll-back"]),
        ("closed", "forward", []),
    ],
)
def test_what_leads_on_is_offered(stage: Stage, direction: HandoverDirection, commands: list[str]) -> None:
    assert offered(GroupState(1, stage, direction)) == commands


def test_a_group_that_was_not_started_can_only_be_started() -> None:
    assert offered(None) == ["start"]
