"""What must hold before anything of a group moves: each gate is asked by itself, and says why it is closed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal, NamedTuple

import psycopg
from psycopg import sql

from pycdc.clients.postgres_sessions import connected
from pycdc.errors import EnvironmentNotReady, PycdcError
from pycdc.operations import apply_status
from pycdc.operations.cutover.drain import drain
from pycdc.operations.cutover.group_state import GroupState, HandoverDirection
from pycdc.operations.cutover.sides import Group, Side, Way
from pycdc.operations.cutover.table_shapes import table_shapes
from pycdc.sinks.postgres.bookkeeping.inspection import read_pipeline_state
from pycdc.sinks.postgres.replication_origin import origin_granted
from pycdc.sinks.postgres.sequences import read_sequences

DIRECTIONS: Final[tuple[HandoverDirection, HandoverDirection]] = ("forward", "back")
_PAUSE: Final = 0.5
_NOT_SUPPORTED: Final = "not supported by broker"
"""What librdkafka says of the embedded broker, which does not know the members of a group."""
_OLDEST: Final = """SELECT coalesce(max(extract(epoch FROM clock_timestamp() - xact_start)), 0)::float8
FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend'
    AND pid <> pg_backend_pid() AND (backend_xid IS NOT NULL OR state LIKE 'idle in transaction%')"""
_SLOT: Final = "SELECT active, wal_status FROM pg_replication_slots WHERE slot_name = %s"
_CLOCK: Final = "SELECT extract(epoch FROM clock_timestamp())::float8"
_MAY_ASK: Final = "SELECT has_function_privilege('pg_replication_origin_session_is_setup()', 'EXECUTE')"


class Measure(NamedTuple):
    """A number beside the greatest one that is allowed; `value` is None where all that is known is that it is above."""

    value: float | None
    goal: float
    unit: Literal["seconds", "records"] = "seconds"


Answer = str | tuple[str, Measure]
"""What was found, of an open gate."""


@dataclass(frozen=True, slots=True)
class Gate:
    """`reason` says what was found, open or closed; `measure` is there where that is a number."""

    name: str
    open: bool
    reason: str
    measure: Measure | None = None

    def as_dict(self) -> dict[str, Any]:
        measured = {} if self.measure is None else self.measure._asdict()
        return {"gate": self.name, "open": self.open, "reason": self.reason, **measured}


def ask_gates(
    group: Group,
    state: GroupState,
    *,
    verified: bool = True,
    directions: Sequence[HandoverDirection] = DIRECTIONS,
) -> list[Gate]:
    """Ask the gates of `directions`; the first is the one of the hand-over. `verified`: one must have been made."""
    questions: list[tuple[str, Callable[[], Answer]]] = []
    for direction in directions:
        way = group.way(direction)
        questions += [
            (f"{way.capture.name} slot", partial(_slot, group.sides(direction)[0], way)),
            (f"{way.apply.name} conflicts", partial(_conflicts, way)),
            (f"{way.apply.name} parked", partial(_parked, way)),
            (f"{way.apply.name} origin", partial(_origin, way)),
            (f"{way.apply.name} lag", partial(_lag, group, way)),
            (f"{way.apply.name} sequences", partial(_sequences, way)),
        ]
    questions += [(f"{side.name} fence", partial(_may_fence, side)) for side in (group.old, group.new)]
    giver = group.sides(directions[0])[0]
    questions += [("transactions", partial(_transactions, group, giver)), ("clocks", partial(_clocks, group))]
    if verified:
        questions.append(("verification", partial(_verification, group, state)))
        questions.append(("tables", partial(_tables, group, state)))
    return [ask(name, question) for name, question in questions]


def closed(gates: list[Gate]) -> Iterator[Gate]:
    return (gate for gate in gates if not gate.open)


class Closed(Exception):
    """Why a gate is closed."""

    def __init__(self, why: str, measure: Measure | None = None) -> None:
        super().__init__(why)
        self.measure = measure


def ask(name: str, question: Callable[[], Answer], *, again: bool = True) -> Gate:
    """Ask a gate; once more where what failed may pass."""
    try:
        answer = question()
    except Closed as why:
        return Gate(name, False, str(why), why.measure)
    except PycdcError as error:
        if error.retry and again:
            time.sleep(_PAUSE)
            return ask(name, question, again=False)
        return Gate(name, False, error.fact)
    except psycopg.Error as error:
        return Gate(name, False, f"the database refuses the question ({error.sqlstate})")
    reason, measure = (answer, None) if isinstance(answer, str) else answer
    return Gate(name, True, reason, measure)


def _slot(side: Side, way: Way) -> str:
    row = side.connection.execute(_SLOT, (way.capture.slot,)).fetchone()
    if row is None or not row[0]:
        raise Closed(f"slot {way.capture.slot} is not read: start the capture")
    if row[1] not in ("reserved", "extended"):
        raise Closed(f"slot {way.capture.slot} loses its WAL ({row[1]})")
    return "read"


def _conflicts(way: Way) -> Answer:
    undecided = read_pipeline_state(way.apply.sink.postgres, way.apply.name).undecided
    measure = Measure(undecided, 0, "records")
    if undecided:
        raise Closed(f"{undecided} conflicts wait for a decision: pycdc conflicts list --open", measure)
    return "none waits for a decision", measure


def _parked(way: Way) -> Answer:
    found = apply_status.inspect(way.apply)
    kafka = found.failures.get("kafka")
    tells_members = kafka is None or _NOT_SUPPORTED not in kafka.fact
    for problem in found.problems():
        if tells_members or problem is not kafka:
            raise problem
    if tells_members and not found.members:
        raise Closed(f"{way.apply.name} does not run")
    bookkeeping = found.bookkeeping
    parked = sum((bookkeeping.parked or {}).values()) if bookkeeping is not None else 0
    measure = Measure(parked, 0, "records")
    if parked:
        raise Closed(f"{parked} records are parked: pycdc conflicts list", measure)
    return "nothing is parked", measure


def _origin(way: Way) -> str:
    """Without an origin the fence would refuse the apply side too."""
    sink = way.apply.sink.postgres
    with connected(sink.dsn.get_secret_value()) as connection:
        if not origin_granted(connection):
            raise Closed("the role may not set up replication origins, by which the fence lets it through")
    return "granted"


def _lag(group: Group, way: Way) -> Answer:
    limit = group.config.gates.max_lag
    try:
        seconds = drain(way, limit)
    except EnvironmentNotReady as error:
        raise Closed(error.fact, Measure(None, limit)) from None
    return f"{seconds * 1000:.0f} ms", Measure(seconds, limit)


def _sequences(way: Way) -> str:
    """They are set while writes are held: it must be possible."""
    sink = way.apply.sink.postgres
    fixed = [one.sequence_name for one in read_sequences(sink) if not (one.readable and one.settable)]
    if fixed:
        raise Closed(f"the role of {way.apply.name} may not read and set {', '.join(fixed)}")
    return "can be set"


def _may_fence(side: Side) -> str:
    row = side.connection.execute(_MAY_ASK).fetchone()
    if row is None or not row[0]:
        raise Closed(
            "the role may not ask for a session's origin: GRANT EXECUTE ON FUNCTION "
            "pg_replication_origin_session_is_setup() TO it"
        )
    for table in side.tables:
        name = sql.Identifier(*table).as_string(side.connection)
        there = side.connection.execute("SELECT to_regclass(%s) IS NOT NULL", (name,)).fetchone()
        if there is None or not there[0]:
            raise Closed(f"there is no table {'.'.join(table)}")
        allowed = side.connection.execute("SELECT has_table_privilege(%s, 'TRIGGER')", (name,)).fetchone()
        if allowed is None or not allowed[0]:
            raise Closed(f"the role may not make triggers on {'.'.join(table)}")
    return "can be put up"


def _transactions(group: Group, giver: Side) -> Answer:
    row = giver.connection.execute(_OLDEST).fetchone()
    oldest = float(row[0]) if row else 0.0
    measure = Measure(oldest, group.config.gates.max_transaction)
    if oldest > measure.goal:
        raise Closed(f"a transaction of the {giver.name} database has lasted {oldest:.0f} s", measure)
    return f"the oldest has lasted {oldest:.1f} s", measure


def _clocks(group: Group) -> Answer:
    times = []
    for connection in group.connections:
        began = time.monotonic()
        row = connection.execute(_CLOCK).fetchone()
        assert row is not None
        times.append(float(row[0]) - (began + time.monotonic()) / 2)
    difference = abs(times[0] - times[1])
    measure = Measure(difference, group.config.gates.max_clock_difference)
    if difference > measure.goal:
        raise Closed(f"the clocks of both databases differ by {difference:.1f} s", measure)
    return f"differ by {difference * 1000:.0f} ms", measure


def _verification(group: Group, state: GroupState) -> Answer:
    if not state.verified_at:
        raise Closed("nothing was verified yet")
    age = time.time() - state.verified_at
    measure = Measure(age, group.config.gates.max_verification_age)
    if age > measure.goal:
        raise Closed(f"the last verification is {age:.0f} s old", measure)
    return f"equal {age:.0f} s ago", measure


def _tables(group: Group, state: GroupState) -> str:
    """Ask whether the tables are as they were verified: DDL may have left a column out of a route, or of a trigger."""
    now = table_shapes(group.old, group.new)
    changed = [name for name, shape in state.shapes.items() if now.get(name) != shape]
    if changed:
        raise Closed(
            f"{', '.join(changed)} changed since the last verification: see that the routes fit, then pycdc cutover "
            "roll-back and advance verify anew"
        )
    return "as they were verified"
