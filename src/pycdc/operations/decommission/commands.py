"""The decommission of a closed group: asked who uses it, then removed step by step, each proved gone.

A step that is done is stored; what was killed in the middle is done again, by removing what is still there. The tables
go after the pipelines, the stored state goes last.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

import psycopg
from psycopg import sql

from pycdc.clients.postgres_errors import source_error
from pycdc.errors import EnvironmentNotReady, PycdcError
from pycdc.facade.envoy import Facade
from pycdc.operations.cutover.gates import Closed, Gate, ask
from pycdc.operations.cutover.group_state import lock_group, read_state
from pycdc.operations.cutover.sides import Group
from pycdc.operations.decommission.archive import Archived
from pycdc.operations.decommission.pipelines import ApplyRemnants, CaptureRemnants
from pycdc.operations.decommission.progress import DecommissionProgress, database_time, read_progress, write_progress
from pycdc.operations.decommission.remnant import OnProgress, Remnant, Remnants
from pycdc.operations.decommission.roles import RoleRemnants
from pycdc.operations.decommission.tables import FenceRemnants, TableRemnants
from pycdc.operations.decommission.topics import TopicRemnants
from pycdc.operations.decommission.usage import OldTables, increases
from pycdc.sinks.postgres.bookkeeping.inspection import read_pipeline_state

IGNORABLE: Final = ("reads", "sessions", "functions")
"""Questions whose answer may be no: what they find does not break when the tables go, or may not be what it seems."""
_ATTEMPTS: Final = 3
_PAUSE: Final = 1.0
_STATE: Final = ("decommissions", "groups")
Status = Literal["in use", "watched", "ready", "left", "decommissioned"]


@dataclass(frozen=True, slots=True)
class Report:
    """`gates` are the questions who uses it; `left` is still there and should not, `kept` stays on purpose."""

    group: str
    status: Status
    gates: list[Gate] = field(default_factory=list)
    found: list[Remnant] = field(default_factory=list)
    removed: list[Remnant] = field(default_factory=list)
    left: list[Remnant] = field(default_factory=list)
    kept: list[Remnant] = field(default_factory=list)
    archived: list[Archived] = field(default_factory=list)


class Decommission:
    """The decommission of one group. `on_progress` is called with what was done. All methods raise PycdcError."""

    def __init__(
        self, group: Group, facade: Facade | None, folder: Path, on_progress: OnProgress = lambda line: None
    ) -> None:
        self._group = group
        self._facade = facade
        self._config = group.config.decommission
        self._on_progress = on_progress
        self._archived: list[Archived] = []
        forward, back = group.way("forward"), group.way("back")
        self._captures = (CaptureRemnants(forward.capture, group.old), CaptureRemnants(back.capture, group.new))
        self._applies = (ApplyRemnants(forward.apply, group.new), ApplyRemnants(back.apply, group.old))
        keep = self._config.keep_topics
        self._topics = [
            TopicRemnants(capture, apply, keep=keep)
            for capture, apply in zip(self._captures, self._applies, strict=True)
        ]
        archive = None if self._config.archive is None else folder / self._config.archive
        roles = ((group.old, self._config.old_roles), (group.new, self._config.new_roles))
        self._steps: list[Remnants] = [
            *self._captures,
            *self._applies,
            *self._topics,
            TableRemnants(group.old, archive, self._archived.append),
            FenceRemnants(group.old, group.new),
            RoleRemnants(roles),
        ]

    def plan(self) -> Report:
        """Ask who uses it and what there is. Changes nothing."""
        with _translated():
            progress = read_progress(self._group.old.connection, self._group.name)
            if self._is_done(progress):
                return Report(self._group.name, "decommissioned")
            under_way = progress is not None and progress.removing
            gates = [] if under_way else self._ask(progress)
            steps = self._open_steps(progress)
            found = [one for step in steps for one in step.present()]
            return Report(
                self._group.name, _status([gate for gate in gates if not gate.open]), gates, found, kept=self._kept()
            )

    def run(self, *, now: bool = False, ignored: Collection[str] = ()) -> Report:
        """Remove it all, unless somebody uses it, or might. `now`: without watching it first."""
        with _translated():
            for connection in self._group.connections:
                lock_group(connection, self._group.name)
            progress = read_progress(self._group.old.connection, self._group.name)
            if self._is_done(progress):
                return Report(self._group.name, "decommissioned")
            gates: list[Gate] = []
            if progress is None or not progress.removing:
                gates = self._ask(progress)
                progress = self._watched(progress, ignored)
                passing = {*ignored, *(["quiet"] if now else [])}
                closed = [gate for gate in gates if not gate.open and gate.name not in passing]
                if closed:
                    return Report(self._group.name, _status(closed), gates, kept=self._kept())
                progress = self._stored(replace(progress, removing=True))
            return self._removed(progress, gates)

    # Who uses it.

    def _ask(self, progress: DecommissionProgress | None) -> list[Gate]:
        old = OldTables(self._group.old.connection, self._group.old.tables)
        now = database_time(self._group.old.connection)
        own = [apply.apply.group for apply in self._applies]
        questions: list[tuple[str, Callable[[], str]]] = [
            ("group", self._is_closed),
            ("routes", self._are_led),
            ("pipelines", self._are_stopped),
            ("parked", self._nothing_parked),
            ("quiet", partial(old.quiet, progress, now, self._config.quiet)),
            ("writes", partial(old.writes, progress)),
            ("reads", partial(old.reads, progress)),
            ("sessions", partial(old.sessions, progress)),
            *((kind, partial(old.dependents, kind)) for kind in ("views", "foreign keys", "dependents")),
            ("functions", old.functions),
            ("publications", partial(old.publications, [one.capture.publication for one in self._captures])),
            *((topics.name, partial(topics.unread, own)) for topics in self._topics),
        ]
        return [ask(name, question) for name, question in questions]

    def _is_closed(self) -> str:
        state = read_state(self._group.connections, self._group.name)
        if state is None or state.stage != "closed":
            raise Closed(f"it is {'not started' if state is None else state.stage}: pycdc cutover close")
        columns = [one.old for one in self._group.config.tables if one.old_columns]
        if columns:
            raise Closed(f"of {', '.join(columns)} only columns have moved: its rows still come from the old system")
        return "closed"

    def _are_led(self) -> str:
        weights = {} if self._facade is None else self._facade.weights.read()
        led = (*self._group.config.reads, *self._group.config.routes)
        lacking = [name for name in led if weights[name].percent < 100]
        if lacking:
            raise Closed(f"{', '.join(lacking)} of the façade are not all at the new system: pycdc facade set")
        return "at the new system"

    def _are_stopped(self) -> str:
        """Let a shared capture run on. What writes the old tables may not: it would fail without them."""
        running = [one.capture.name for one in self._captures if one.runs and not one.others]
        running += [one.apply.name for one in self._applies if (one.mine or not one.others) and one.running()]
        if running:
            raise Closed(f"{', '.join(running)} run: stop them, and whatever starts them again")
        return "stopped"

    def _nothing_parked(self) -> str:
        apply = self._applies[0].apply
        parked = sum((read_pipeline_state(apply.sink.postgres, apply.name).parked or {}).values())
        if parked:
            raise Closed(f"{parked} records of the old system never came to the new one: pycdc conflicts list")
        return "nothing"

    def _watched(self, progress: DecommissionProgress | None, ignored: Collection[str]) -> DecommissionProgress:
        """Begin to watch; anew where somebody has used the tables meanwhile."""
        connection = self._group.old.connection
        counters = OldTables(connection, self._group.old.tables).counters()
        names = [name for name in ("reads", "writes") if name not in ignored]
        if progress is not None and not any(increases(progress.counters, counters, name) for name in names):
            return progress
        return self._stored(DecommissionProgress(database_time(connection), counters))

    # What is removed.

    def _removed(self, progress: DecommissionProgress, gates: list[Gate]) -> Report:
        removed: list[Remnant] = []
        left: list[Remnant] = []
        for step in self._open_steps(progress):
            before, after = self._taken(step)
            names = {(one.kind, one.name) for one in after}
            removed += [one for one in before if (one.kind, one.name) not in names]
            left += after
            if not after:
                progress = self._stored(replace(progress, done=(*progress.done, step.name)))
        kept = self._kept()
        if not left:
            self._forget()
        status: Status = "left" if left else "decommissioned"
        return Report(self._group.name, status, gates, [], removed, left, kept, self._archived)

    def _taken(self, step: Remnants) -> tuple[list[Remnant], list[Remnant]]:
        """Remove what a step finds; again where what failed may pass. Return what was there, and what still is."""
        before: list[Remnant] = []
        lines: list[str] = []
        for left in reversed(range(_ATTEMPTS)):
            try:
                there = step.present()
                before += [one for one in there if one not in before]
                if there:
                    step.remove(partial(self._note, lines))
                    there = step.present()
                return before, [_with_reason(one, lines) for one in there]
            except PycdcError as error:
                if not (error.retry and left):
                    raise
                time.sleep(_PAUSE)
        raise AssertionError

    def _note(self, lines: list[str], line: str) -> None:
        lines.append(line)
        self._on_progress(line)

    def _open_steps(self, progress: DecommissionProgress | None) -> list[Remnants]:
        done = () if progress is None else progress.done
        return [step for step in self._steps if step.name not in done]

    def _kept(self) -> list[Remnant]:
        return [one for step in self._steps for one in step.kept()]

    def _stored(self, progress: DecommissionProgress) -> DecommissionProgress:
        write_progress(self._group.old.connection, self._group.name, progress)
        return progress

    def _is_done(self, progress: DecommissionProgress | None) -> bool:
        """Return whether nothing is stored and no table is there: the last step was taken."""
        if progress is not None or read_state(self._group.connections, self._group.name) is not None:
            return False
        if not OldTables(self._group.old.connection, self._group.old.tables).oids:
            return True
        raise EnvironmentNotReady(f"group {self._group.name} was not started", hint="pycdc cutover start")

    def _forget(self) -> None:
        """Remove the group's state: the old database's last, since it says that all else is gone."""
        for connection in (self._group.new.connection, self._group.old.connection):
            with connection.transaction():
                for table in _STATE:
                    _forget_in(connection, table, self._group.name)
                _drop_schema(connection)
        self._on_progress("removed the state of the group")


def _forget_in(connection: psycopg.Connection[Any], table: str, group: str) -> None:
    name = sql.Identifier("pycdc_cutover", table)
    there = connection.execute("SELECT to_regclass(%s) IS NOT NULL", (name.as_string(connection),)).fetchone()
    if there != (True,):
        return
    connection.execute(sql.SQL("DELETE FROM {} WHERE name = %s").format(name), (group,))
    if connection.execute(sql.SQL("SELECT EXISTS (SELECT FROM {})").format(name)).fetchone() == (False,):
        connection.execute(sql.SQL("DROP TABLE {}").format(name))


def _drop_schema(connection: psycopg.Connection[Any]) -> None:
    """Drop the schema if nothing is in it: other groups keep theirs there."""
    try:
        with connection.transaction():
            connection.execute("DROP SCHEMA IF EXISTS pycdc_cutover")
    except psycopg.errors.DependentObjectsStillExist:
        pass


def _with_reason(remnant: Remnant, lines: list[str]) -> Remnant:
    """Return what is still there with what was said of it."""
    if remnant.reason:
        return remnant
    said = [line for line in lines if line.startswith("kept ") and remnant.name in line]
    return replace(remnant, reason=said[0] if said else "it is still there")


def _status(closed: Collection[Gate]) -> Status:
    if not closed:
        return "ready"
    return "watched" if [gate.name for gate in closed] == ["quiet"] else "in use"


@contextmanager
def _translated() -> Iterator[None]:
    """Errors of the databases become the project's own."""
    try:
        yield
    except psycopg.Error as error:
        raise source_error(error) from None
