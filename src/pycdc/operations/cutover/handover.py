"""A hand-over: one side's writes go to the other, in either direction, by steps that are stored and can be resumed.

1. Hold writes at the façade, and put a fence around the giving side, which falls by itself after `max_pause`.
2. Drain: all that was committed is on the other side.
3. Verify what changed since the verification before the pause, and set the sequences of the taking side.
4. Seal: the fence of the giving side is for good now, if it has not fallen yet.
5. Decide: one transaction of the taking side takes its fence down and stores the state.
6. Lead the façade's writes there. Probe the way back.

Before 5 every failure steps back: writes stay where they were. From 5 on the hand-over goes forward only; the way back
is a hand-over of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

import psycopg

from pycdc.clients.postgres_errors import source_error
from pycdc.errors import ConnectionLost, EnvironmentNotReady, PycdcError
from pycdc.facade.envoy import Facade
from pycdc.facade.route_weights import RouteWeight
from pycdc.operations.cutover import fence
from pycdc.operations.cutover.drain import drain
from pycdc.operations.cutover.group_state import IN_PAUSE, GroupState, HandoverDirection, Stage, write_state
from pycdc.operations.cutover.sides import Group
from pycdc.operations.cutover.way_verification import WayVerification
from pycdc.sinks.postgres.sequences import advance_sequences

StageListener = Callable[[str], None]
"""Hears what was reached."""

_PROBE_SECONDS: Final = 30.0
_SEALED_SECONDS: Final = 30.0
_SOON: Final = 0.5


class SteppedBack(EnvironmentNotReady):
    """The hand-over was given up before its decision: writes are where they were."""

    code = "stepped-back"
    exit_code = 1


def lead_reads_back(facade: Facade | None, reads: Sequence[str]) -> None:
    """Send the reads of a group to the old system."""
    if facade is not None and reads:
        facade.weights.change(dict.fromkeys(reads, lambda weight: weight.moved(0, 0, "rolled back")))


class Handover:
    """One direction of a group. `state` is current after every step. `verification` is of its way."""

    def __init__(
        self,
        group: Group,
        state: GroupState,
        direction: HandoverDirection,
        facade: Facade | None,
        verification: WayVerification,
        announce: StageListener = lambda text: None,
    ) -> None:
        self.state = state
        self._group = group
        self._direction: HandoverDirection = direction
        self._facade = facade
        self._verification = verification
        self._announce = announce
        self._way = group.way(direction)
        self._giver, self._taker = group.sides(direction)

    def run(self) -> GroupState:
        """Hand over from where the state stands. Raises SteppedBack; or what else failed after the decision."""
        if self.state.stage != "switched":
            try:
                self._until_decision()
            except (PycdcError, psycopg.Error) as error:
                raise self._stepped_back(error) from None
        self._lead()
        self._probe()
        return self.state

    def _until_decision(self) -> None:
        if self.state.stage not in IN_PAUSE:
            self._hold()
        if self.state.stage == "fenced":
            self._fence()
            self._announce("drains")
            drain(self._way, self._left())
            self._reach("drained")
        if self.state.stage == "drained":
            self._verify_within_pause()
            self._advance_sequences()
            self._reach("verified")
        self._decide()

    def _hold(self) -> None:
        """Store the state first: a process that dies behind it leaves something that the next one can take back."""
        config = self._group.config
        until = time.time() + config.max_pause + config.settle
        text = datetime.fromtimestamp(until, UTC).isoformat()
        self._announce("holds writes")
        self._reach("fenced", direction=self._direction, held_at=time.time(), until=text, pause=None, note="")
        self._route(lambda weight: replace(weight, held=True, held_until=until))
        time.sleep(config.settle)

    def _fence(self) -> None:
        """Also after a kill: the state `fenced` may have been stored before the fence was up."""
        with fence.locked(self._giver.connection, self._giver.tables, self._left()):
            fence.put_up(self._giver.connection, self._giver.fences(owns=False), self.state.until)

    def _verify_within_pause(self) -> None:
        if self._group.config.verify != "pause":
            return
        self._announce("verifies")
        try:
            self._verification.verify(self._left())
        except TimeoutError:
            raise self._over() from None

    def _advance_sequences(self) -> None:
        sink = self._way.apply.sink.postgres
        advance_sequences(sink, self._group.config.sequence_margin)

    def _decide(self) -> None:
        """Do steps 4 and 5. The seal fails if the fence has fallen: then somebody may have written behind the drain."""
        giver, taker = self._giver.connection, self._taker.connection
        with fence.locked(giver, self._giver.tables, self._left()):
            row = giver.execute("SELECT clock_timestamp() < %s::timestamptz", (self.state.until,)).fetchone()
            if row is None or not row[0]:
                raise self._over()
            fence.put_up(giver, self._giver.fences(owns=False))
        decided = self.state.at("switched", switched_at=time.time(), pause=time.time() - self.state.held_at)
        with fence.locked(taker, self._taker.tables, self._left()):
            fence.take_down(taker, self._taker.tables)
            fence.put_up(taker, self._taker.fences(owns=True))
            if not write_state(taker, self._group.name, decided):
                raise EnvironmentNotReady("somebody else has changed the group's state", hint="pycdc cutover status")
        self.state = decided
        write_state(giver, self._group.name, decided)
        self._announce("switched")

    def _lead(self) -> None:
        """Send writes to the taker; reads too where it is the old system, before anything else can fail."""
        percent = 100 if self._direction == "forward" else 0
        self._route(lambda weight: replace(weight.moved(percent, percent, "cutover"), held=False, held_until=0.0))
        if self._direction == "back":
            lead_reads_back(self._facade, self._group.config.reads)

    def _probe(self) -> None:
        """Require that the other direction is alive: what the taker's system writes comes to the other side."""
        self._announce("probes the way back")
        back = self._group.way("back" if self._direction == "forward" else "forward")
        drain(back, _PROBE_SECONDS)
        self._reach("watching" if self._direction == "forward" else "following", direction="forward")

    def _stepped_back(self, error: Exception) -> SteppedBack:
        fact = error.fact if isinstance(error, PycdcError) else source_error(error).fact  # type: ignore[arg-type]
        hint = error.hint if isinstance(error, PycdcError) else "see the server's log"
        self.step_back(fact)
        held = time.time() - self.state.held_at
        return SteppedBack(f"stepped back, writes were held for {held:.1f} s: {fact}", hint=hint)

    def step_back(self, why: str) -> None:
        """Take the giver's fence down, and hold writes no more."""
        stage: Stage = "ready" if self._direction == "forward" else "watching"
        self._take_down()
        self._route(lambda weight: replace(weight, held=False, held_until=0.0))
        self._reach(stage, until="", note=why)

    def _take_down(self) -> None:
        """Take the fence down. One that was not sealed falls by itself; open transactions in the way are waited for."""
        sealed = self.state.stage == "verified"
        try:
            with fence.locked(self._giver.connection, self._giver.tables, _SEALED_SECONDS if sealed else _SOON):
                fence.take_down(self._giver.connection, self._giver.tables)
                fence.put_up(self._giver.connection, self._giver.fences(owns=True))
        except EnvironmentNotReady:
            if sealed:
                raise

    def _reach(self, stage: Stage, **changes: object) -> None:
        state = self.state.at(stage, **changes)
        for side in (self._giver, self._taker):
            if not write_state(side.connection, self._group.name, state):
                raise EnvironmentNotReady("somebody else has changed the group's state", hint="pycdc cutover status")
        self.state = state
        self._announce(stage)

    def _route(self, change: Callable[[RouteWeight], RouteWeight]) -> None:
        if self._facade is None or not self._group.config.routes:
            return
        version = self._facade.weights.change(dict.fromkeys(self._group.config.routes, change))
        try:
            self._facade.admin().wait_for_routes(version)
        except (EnvironmentNotReady, ConnectionLost):
            self._announce("no Envoy runs: it begins with these routes")

    def _left(self) -> float:
        """Seconds until the fence falls."""
        left = datetime.fromisoformat(self.state.until).timestamp() - time.time()
        if left <= 0:
            raise self._over()
        return left

    def _over(self) -> EnvironmentNotReady:
        return EnvironmentNotReady(
            f"max_pause of {self._group.config.max_pause:g} s is over",
            hint="see what took so long: pycdc cutover check; raise max_pause if the lag is what it should be",
        )
