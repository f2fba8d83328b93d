"""Finding the events that the database refuses: savepoints around halves, in order, until one stands alone.

Constraints that wait for the commit are checked at the end of each savepoint, so that what would be found by the commit
is found here, and has a name. An event may only have come too early within the batch (a child before its parent, a
parent's delete before its child's, a value that must be unique before another row has given it up): those are tried
again behind the others, as long as that helps; then together with what shares a partition, a table or a foreign key
with them, in every manner that there is. What helps none of them may be helped by events that follow (see
`FailurePolicy`). What met in a trigger that something is missing is tried again too: where other rows of the table
pass, it is the row's fault, else the table's.

Events that are about the same row, or share a key, stay together as long as their batch alone is to blame: what they do
to it together may be possible where each of them is not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterator

from pycdc.clients.postgres import Connection
from pycdc.model.event import Partition
from pycdc.sinks.postgres.bookkeeping.apply_offsets import ParkedKey
from pycdc.sinks.postgres.failures.errors import FaultKind, fault
from pycdc.sinks.postgres.failures.failure_policy import FailurePolicy, Refusal, Routed, early
from pycdc.sinks.postgres.schema_drift import Drifted
from pycdc.sinks.postgres.target_tables import TargetTable
from pycdc.sinks.postgres.writing.key_forms import exact
from pycdc.sinks.postgres.writing.source_order import likely_order
from pycdc.sinks.postgres.writing.write_order import Manner, component_of
from pycdc.sinks.postgres.writing.writes import RowWrite


class Bisection:
    """Finds the events of one attempt that cannot be applied.

    `run` writes the rows of events. `lasting`: see `fault`.
    """

    def __init__(
        self,
        connection: Connection,
        run: Callable[[list[Routed], Manner], None],
        failure_policy: FailurePolicy,
        *,
        lasting: bool = False,
    ) -> None:
        self._connection = connection
        self._lasting = lasting
        self._run = run
        self._failure_policy = failure_policy
        self._waiting: list[list[Routed]] = []
        self._stuck: set[Partition] = set()
        self._helps = False
        self._applied = 0
        self._later: list[Routed] = []
        self._orphans: list[tuple[Routed, Refusal]] = []
        self._behind: set[Partition | ParkedKey] = set()
        self._drifted: list[tuple[Routed, Drifted]] = []
        self._written: set[TargetTable] = set()

    def apply(self, events: list[Routed]) -> None:
        """Write what can be written; give the others up."""
        places = {id(routed): place for place, routed in enumerate(events)}
        waiting, tried = independent(events), 0
        self._helps = True
        while waiting and (self._helps or len(waiting) < tried):
            self._helps, self._waiting, self._stuck = False, [], set()
            self._sets(waiting)
            tried, waiting = len(self._waiting), _joined(self._waiting)
            for own in waiting:
                own.sort(key=lambda routed: places[id(routed)])
        left = sorted((routed for own in waiting for routed in own), key=lambda routed: places[id(routed)])
        self._one_by_one(_in_order(left))

    def _sets(self, sets: list[list[Routed]]) -> None:
        """Halves of independent events. Those that came too early wait for the others, and so do those behind them."""
        stuck = [own for own in sets if any(routed.event.partition in self._stuck for routed in own)]
        if stuck:
            self._waiting += stuck
            sets = [own for own in sets if not any(routed.event.partition in self._stuck for routed in own)]
        if not sets:
            return
        events = [routed for own in sets for routed in own]
        error = self._attempt(events)
        if error is None:
            self._helps = True
        elif len(sets) > 1:
            middle = len(sets) // 2
            self._sets(sets[:middle])
            self._sets(sets[middle:])
        elif isinstance(error, Drifted):
            self._waiting.append(sets[0])
        elif early(error):
            if self._in_some_manner(sets[0]):
                self._helps = True
                return
            self._waiting.append(sets[0])
            held = [routed.event for routed in sets[0] if self._failure_policy.ends_partition(routed.event)]
            self._stuck.update(event.partition for event in held)
        else:
            self._helps = True
            self._one_by_one(sets[0])

    def _in_some_manner(self, events: list[Routed]) -> bool:
        manners: tuple[Manner, ...] = ("vacating", "step by step", "ends alone")
        ordered = _in_order(events) if len(events) > 1 else []
        return bool(ordered) and any(self._attempt(ordered, manner) is None for manner in manners)

    def _one_by_one(self, events: list[Routed]) -> None:
        while events:
            self._applied, self._later, self._orphans, self._behind, self._drifted = 0, [], [], set(), []
            self._halves(events)
            if not self._applied:
                self._give_orphans_up()
            events = self._later

    def _attempt(self, events: list[Routed], manner: Manner = "together") -> Refusal | None:
        """Apply the events; return what was wrong with one of them."""
        events = [routed for routed in events if self._failure_policy.limits.includes(routed.event)]
        try:
            with self._connection.transaction():
                self._connection.execute(b"SET CONSTRAINTS ALL DEFERRED")
                self._run(events, manner)
                self._connection.execute(b"SET CONSTRAINTS ALL IMMEDIATE")
        except Exception as error:
            drifted = isinstance(error, Drifted) and error.inside
            if not drifted and fault(error, self._connection, lasting=self._lasting) is not FaultKind.ROW:
                raise
            return error
        self._written.update(write.shape.table for routed in events for write in routed.writes)
        return None

    def _halves(self, events: list[Routed]) -> None:
        events = [routed for routed in events if self._goes(routed)]
        if not events:
            return
        error = self._attempt(events)
        if error is None:
            self._applied += len(events)
        elif len(events) == 1:
            self._refused(events[0], error)
        else:
            middle = len(events) // 2
            self._halves(events[:middle])
            self._halves(events[middle:])

    def _goes(self, routed: Routed) -> bool:
        event = routed.event
        if not self._failure_policy.limits.includes(event):
            return False
        if event.partition in self._behind or event.identity in self._behind:
            self._later.append(routed)
            return False
        return not self._failure_policy.follows(event)

    def _refused(self, routed: Routed, error: Refusal) -> None:
        event = routed.event
        if isinstance(error, Drifted):
            self._later.append(routed)
            self._drifted.append((routed, error))
            if event.identity is not None:
                self._behind.add(event.identity)
            return
        if not early(error):
            rest = self._failure_policy.give_up(routed, error)
            if rest is not None:
                self._halves([rest])
            return
        self._later.append(routed)
        self._orphans.append((routed, error))
        behind = event.partition if self._failure_policy.ends_partition(event) else event.identity
        if behind is not None:
            self._behind.add(behind)

    def _give_orphans_up(self) -> None:
        """Give orphans up: nothing was applied since they were found, so nothing will help them in this transaction."""
        for _, drifted in self._drifted:
            if drifted.table not in self._written:
                raise drifted  # no row passes its trigger: that is the table's fault
        refused = [*self._orphans, *((routed, drifted.error) for routed, drifted in self._drifted)]
        rests = {id(routed): self._failure_policy.give_up(routed, error) for routed, error in refused}
        found = (rests.get(id(routed), routed) for routed in self._later)
        self._later = [routed for routed in found if routed is not None]


def independent(events: list[Routed]) -> list[list[Routed]]:
    """Split events into sets, each in order, between which the order is free: no row, no key and no tie in common."""
    spaces = {write.shape.space for routed in events for write in routed.writes}
    tables = Counter(table for table, _ in spaces)
    tangled = {table for table, keys in tables.items() if keys > 1 or table.ties.in_order}
    tangled |= {write.shape.table for routed in events for write in routed.writes if not _exact(write)}
    leaders: dict[object, int] = {}
    parents = list(range(len(events)))

    def leader(number: int) -> int:
        while parents[number] != number:
            parents[number] = number = parents[parents[number]]
        return number

    for number, routed in enumerate(events):
        for token in _tokens(routed, tangled):
            other = leader(leaders.setdefault(token, number))
            parents[leader(number)] = other
    sets: dict[int, list[Routed]] = {}
    for number, routed in enumerate(events):
        sets.setdefault(leader(number), []).append(routed)
    return list(sets.values())


def _tokens(routed: Routed, tangled: Container[TargetTable]) -> Iterator[object]:
    """Yield what an event is about, in names that other events about the same use too."""
    if routed.event.identity is not None:
        yield routed.event.identity
    for write in routed.writes:
        table = write.shape.table
        yield component_of(table) if table in tangled else (write.shape.space, write.key)


def _exact(write: RowWrite) -> bool:
    table, key = write.shape.space
    return exact([table.columns[name] for name in key], [write.key])


def _joined(sets: list[list[Routed]]) -> list[list[Routed]]:
    """Return sets that share a partition, or tables that hang together, as one."""
    joined: dict[object, list[Routed]] = {}
    for own in sets:
        tokens: set[object] = {routed.event.partition for routed in own}
        tokens.update(component_of(write.shape.table) for routed in own for write in routed.writes)
        found = list({id(one): one for one in map(joined.get, tokens) if one is not None}.values())
        whole = found[0] if found else []
        for other in found[1:]:
            whole += other
            tokens.update(token for token, members in joined.items() if members is other)
        whole += own
        joined.update(dict.fromkeys(tokens, whole))
    return list({id(found): found for found in joined.values()}.values())


def _in_order(events: list[Routed]) -> list[Routed]:
    return [events[place] for place in likely_order([routed.event for routed in events])]
