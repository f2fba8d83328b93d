"""What can be done with a group: start, advance, roll back, close. Each goes on where one before it was killed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

from pycdc.errors import EnvironmentNotReady
from pycdc.facade.envoy import Facade
from pycdc.operations.cutover import fence
from pycdc.operations.cutover.gates import DIRECTIONS, Gate, ask_gates, closed
from pycdc.operations.cutover.group_state import (
    IN_PAUSE,
    GroupState,
    HandoverDirection,
    Stage,
    create_table,
    lock_group,
    read_state,
    write_state,
)
from pycdc.operations.cutover.handover import Handover, StageListener, lead_reads_back
from pycdc.operations.cutover.sides import Group
from pycdc.operations.cutover.table_shapes import table_shapes
from pycdc.operations.cutover.way_verification import WayVerification

_LOCK_SECONDS: Final = 10.0
_OF_PAUSE: Final = 0.3
"""The part of it that a verification of what changed may take: as much will have changed again in the pause."""


class Cutover:
    """The commands of one group. `announce` hears what is reached."""

    def __init__(self, group: Group, facade: Facade | None, announce: StageListener = lambda text: None) -> None:
        self._group = group
        self._facade = facade
        self._announce = announce

    def state(self) -> GroupState:
        """Return where the group stands. Raises EnvironmentNotReady where it was never started."""
        found = read_state(self._group.connections, self._group.name)
        if found is None:
            raise EnvironmentNotReady(f"group {self._group.name} was not started", hint="pycdc cutover start")
        return found

    def check(self) -> list[Gate]:
        """Ask all gates."""
        state = read_state(self._group.connections, self._group.name)
        return ask_gates(self._group, state or GroupState(), verified=state is not None)

    def start(self) -> GroupState:
        """Put the fence around the new side, and store the state. Once more, it changes nothing."""
        self._lock()
        state = read_state(self._group.connections, self._group.name)
        if state is not None and state.stage == "closed":
            return state
        for connection in self._group.connections:
            fence.install(connection)
            create_table(connection)
        if state is None:
            self._require_open(verified=False)
            new = self._group.new
            with fence.locked(new.connection, new.tables, _LOCK_SECONDS):
                fence.put_up(new.connection, new.fences(owns=False))
            state = GroupState(version=1)
        return self._stored(state)

    def advance(self) -> GroupState:
        """Take the next step. Raises SteppedBack, EnvironmentNotReady where a gate is closed."""
        self._lock()
        state = self._stored(self.state())
        if state.direction == "back" and (state.stage in IN_PAUSE or state.stage == "switched"):
            raise EnvironmentNotReady("a roll back is under way", hint="pycdc cutover roll-back finishes it")
        steps: dict[Stage, Callable[[GroupState], GroupState]] = {
            "following": self._reading,
            "reading": self._ready,
            "ready": self._hand_over,
            "watching": self._watched,
            "closed": self._closed,
        }
        return steps.get(state.stage, self._resumed)(state)

    def roll_back(self) -> GroupState:
        """Bring reads and writes back to the old system, from wherever the group stands."""
        self._lock()
        state = self._stored(self.state())
        if state.stage == "closed":
            return self._closed(state)
        under_way = state.stage in IN_PAUSE
        if under_way and state.direction == "forward":
            with WayVerification(self._group, "forward") as verification:
                handover = self._handover(state, "forward", verification)
                handover.step_back("rolled back")
            state = handover.state
        if state.owner == "new" or state.direction == "back":
            if state.stage == "switched" and state.direction == "forward":
                state = self._resumed(state)
            if state.stage != "following":
                begins = not under_way and state.stage != "switched"
                if begins:
                    self._require_open(verified=False, directions=("back",))
                state = self._moved(state, "back", begins=begins)
        lead_reads_back(self._facade, self._group.config.reads)
        return state if state.stage == "following" else self._stored(state.at("following", direction="forward"))

    def close(self, *, now: bool = False) -> GroupState:
        """Give the way back up. Raises EnvironmentNotReady before the rollback window is over, unless `now`."""
        self._lock()
        state = self._stored(self.state())
        if state.stage == "closed":
            return self._without_idle_triggers(state)
        if state.stage != "watching":
            raise EnvironmentNotReady(f"group {self._group.name} is {state.stage}", hint="advance it to watching first")
        left = state.switched_at + self._group.config.rollback_window - time.time()
        if left > 0 and not now:
            raise EnvironmentNotReady(f"the rollback window lasts {left:.0f} s more", hint="wait, or give --now")
        return self._without_idle_triggers(self._stored(state.at("closed")))

    def _without_idle_triggers(self, state: GroupState) -> GroupState:
        """Drop the triggers that refuse nothing any more. Those of the old system's tables refuse on, until they go."""
        for side in (self._group.old, self._group.new):
            fence.remove(side.connection, side.tables, _LOCK_SECONDS, idle=True)
            fence.uninstall(side.connection)
        return state

    # Steps.

    def _reading(self, state: GroupState) -> GroupState:
        self._require_open(verified=False)
        self._announce("verifies")
        shapes = table_shapes(self._group.old, self._group.new)  # before: DDL meanwhile counts as later
        with WayVerification(self._group, "forward") as verification:
            verification.verify()
        return self._stored(state.at("reading", direction="forward", verified_at=time.time(), shapes=shapes))

    def _ready(self, state: GroupState) -> GroupState:
        self._require_open()
        weights = {} if self._facade is None else self._facade.weights.read()
        lacking = [name for name in self._group.config.reads if weights[name].percent < 100]
        if lacking:
            raise EnvironmentNotReady(
                f"reads of {', '.join(lacking)} are not all at the new system", hint="pycdc facade set MIGRATION … 100"
            )
        return self._stored(state.at("ready"))

    def _hand_over(self, state: GroupState) -> GroupState:
        self._require_open()
        return self._moved(state, "forward", begins=True)

    def _resumed(self, state: GroupState) -> GroupState:
        return self._moved(state, "forward", begins=False)

    def _moved(self, state: GroupState, direction: HandoverDirection, *, begins: bool) -> GroupState:
        """Hand over. Where that `begins` only now, verify before writes are held, so that little is left for then."""
        with WayVerification(self._group, direction) as verification:
            if begins:
                self._announce("verifies")
                verification.prepare(self._group.config.max_pause * _OF_PAUSE)
            return self._handover(state, direction, verification).run()

    def _watched(self, state: GroupState) -> GroupState:
        raise EnvironmentNotReady(
            f"group {self._group.name} has moved", hint="pycdc cutover close gives the way back up, roll-back takes it"
        )

    def _closed(self, state: GroupState) -> GroupState:
        raise EnvironmentNotReady(f"group {self._group.name} is closed", hint="start a migration of its own")

    def _handover(self, state: GroupState, direction: HandoverDirection, verification: WayVerification) -> Handover:
        return Handover(self._group, state, direction, self._facade, verification, self._announce)

    def _lock(self) -> None:
        for connection in self._group.connections:
            lock_group(connection, self._group.name)

    def _stored(self, state: GroupState) -> GroupState:
        """Write a state to both, also where only one of them has it yet."""
        for connection in self._group.connections:
            write_state(connection, self._group.name, state)
        return state

    def _require_open(self, *, verified: bool = True, directions: Sequence[HandoverDirection] = DIRECTIONS) -> None:
        state = read_state(self._group.connections, self._group.name) or GroupState()
        for gate in closed(ask_gates(self._group, state, verified=verified, directions=directions)):
            raise EnvironmentNotReady(f"the gate {gate.name} is closed: {gate.reason}", hint="pycdc cutover check")


def planned(state: GroupState | None) -> str:
    """Return what `advance` would do next."""
    if state is None:
        return "start: fence the new side, and store the state"
    return {
        "following": "verify without a pause, then allow reads to move",
        "reading": "see that all reads have moved, then allow writes to move",
        "ready": "verify; hold writes, drain, verify what changed, set sequences, switch, probe the way back",
        "watching": "nothing: close, or roll back",
        "closed": "nothing",
    }.get(state.stage, "go on with the hand-over that is under way, or step back if its pause is over")
