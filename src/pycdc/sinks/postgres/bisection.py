"""Finding the events that the database refuses: savepoints around halves, in order, until one stands alone.

Constraints that wait for the commit are checked at the end of each savepoint, so that what would be found by the commit
is found here, and has a name. An orphan may only have come too early within the batch (a child before its parent, a
parent's delete before its child's): those are tried again behind the others, as long as that helps. So is what met in a
trigger that something is missing: where other rows of the table pass, it is the row's fault, else the table's.
"""

from __future__ import annotations

from collections.abc import Callable

from pycdc.events import Partition
from pycdc.sinks.postgres.faults import Fault, fault
from pycdc.sinks.postgres.ledger import Identity
from pycdc.sinks.postgres.session import Connection
from pycdc.sinks.postgres.tables import TargetTable
from pycdc.sinks.postgres.targets import Drifted
from pycdc.sinks.postgres.verdicts import Refusal, Routed, Verdicts, orphaned


class Bisection:
    """Of one attempt. `run` writes the rows of events. `lasting`: see `fault`."""

    def __init__(
        self, connection: Connection, run: Callable[[list[Routed]], None], verdicts: Verdicts, *, lasting: bool = False
    ) -> None:
        self._connection = connection
        self._lasting = lasting
        self._run = run
        self._verdicts = verdicts
        self._applied = 0
        self._later: list[Routed] = []
        self._orphans: list[tuple[Routed, Refusal]] = []
        self._behind: set[Partition | Identity] = set()
        self._drifted: list[tuple[Routed, Drifted]] = []
        self._written: set[TargetTable] = set()

    def apply(self, events: list[Routed]) -> None:
        """Write what can be written; give the others up."""
        while events:
            self._applied, self._later, self._orphans, self._behind, self._drifted = 0, [], [], set(), []
            self._halves(events)
            if not self._applied:
                self._give_orphans_up()
            events = self._later

    def _halves(self, events: list[Routed]) -> None:
        events = [routed for routed in events if self._goes(routed)]
        if not events:
            return
        try:
            with self._connection.transaction():
                self._connection.execute(b"SET CONSTRAINTS ALL DEFERRED")
                self._run(events)
                self._connection.execute(b"SET CONSTRAINTS ALL IMMEDIATE")
            self._applied += len(events)
            self._written.update(write.shape.table for routed in events for write in routed.writes)
        except Exception as error:
            drifted = isinstance(error, Drifted) and error.inside
            if not drifted and fault(error, self._connection, lasting=self._lasting) is not Fault.ROW:
                raise
            if len(events) == 1:
                self._refused(events[0], error)
                return
            middle = len(events) // 2
            self._halves(events[:middle])
            self._halves(events[middle:])

    def _goes(self, routed: Routed) -> bool:
        event = routed.event
        if not self._verdicts.cuts.spares(event):
            return False
        if event.partition in self._behind or event.identity in self._behind:
            self._later.append(routed)
            return False
        return not self._verdicts.follows(event)

    def _refused(self, routed: Routed, error: Refusal) -> None:
        event = routed.event
        if isinstance(error, Drifted):
            self._later.append(routed)
            self._drifted.append((routed, error))
            if event.identity is not None:
                self._behind.add(event.identity)
            return
        if not orphaned(error):
            rest = self._verdicts.give_up(routed, error)
            if rest is not None:
                self._halves([rest])
            return
        self._later.append(routed)
        self._orphans.append((routed, error))
        behind = event.partition if self._verdicts.holds(event) else event.identity
        if behind is not None:
            self._behind.add(behind)

    def _give_orphans_up(self) -> None:
        """Nothing was applied since they were found: nothing will help them in this transaction."""
        for routed, error in self._orphans:
            self._verdicts.give_up(routed, error)
        for routed, drifted in self._drifted:
            if drifted.table not in self._written:
                raise drifted  # no row passes its trigger: that is the table's fault
            self._verdicts.give_up(routed, drifted.error)
        given_up = {id(routed) for routed, _ in (*self._orphans, *self._drifted)}
        self._later = [routed for routed in self._later if id(routed) not in given_up]
