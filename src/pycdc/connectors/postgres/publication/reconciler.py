"""Keeps publication and configuration in step, at the start and while the stream goes on; says whose rows to read.

What a table that joins held before it was published is read in chunks (`incremental`). The transaction id taken after
it was published goes with each reading: changes of transactions that wrote before it may not be in the stream, so the
first chunk waits until those are over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final

from pycdc.config.pipeline import CapturePipeline
from pycdc.connectors.postgres.catalog.catalog import Catalog
from pycdc.connectors.postgres.catalog.metadata import TableRef, missing_tables
from pycdc.connectors.postgres.catalog.open_transactions import has_rows_of_its_maker
from pycdc.connectors.postgres.catalog.slots_and_publications import Admin, add_tables_sql, create_publication_sql
from pycdc.connectors.postgres.publication.alter_publication import change_tables, current_transaction, publish_sql, run
from pycdc.connectors.postgres.publication.delivered_names import require_one_name
from pycdc.connectors.postgres.publication.published_identity import failing_parts
from pycdc.connectors.postgres.publication.published_state import (
    CandidateTable,
    PublishedState,
    observe,
)
from pycdc.connectors.postgres.publication.reconcile_plan import (
    START_OVER,
    CapturedTables,
    ExcludedTables,
    ReconcilePlan,
    named_in_full,
    patterns,
    plan,
    record,
    wanted_operations,
)
from pycdc.connectors.postgres.signals.signal_table import with_signal_table
from pycdc.connectors.postgres.snapshot.backlog import ADDED, RESYNC, TableTask
from pycdc.errors import EnvironmentNotReady, PositionGap, PycdcError
from pycdc.model.change import Lsn
from pycdc.observability.logger import get_logger
from pycdc.observability.progress import Progress

log = get_logger()

_NONE: Final = CandidateTable(TableRef(0, "", ""))
_READ_AGAIN: Final = (
    "what was left out meanwhile is lost to the slot: `pycdc apply` puts the publication right, so that the tables are "
    "read again when the pipeline is started (rows deleted meanwhile stay with the consumers); or start over with "
    "`pycdc teardown`"
)


class PublicationReconciler:
    """Keeps the publication of one connector as its configuration asks.

    `state` is the record of what is captured, the same object until that changes. `partitions_only`: whatever else
    comes by the stream must have been a partition of a captured table.
    """

    def __init__(
        self,
        config: CapturePipeline,
        catalog: Catalog,
        admin: Admin,
        progress: Progress | None = None,
        objection: Callable[[TableRef], PycdcError | None] = lambda table: None,
    ) -> None:
        self._config = config
        self._progress = progress or Progress()
        self._operations = wanted_operations(config)
        self._source = config.source.postgres
        self._name = config.publication
        self._dsn = config.source.postgres.dsn.get_secret_value()
        self._catalog = catalog
        self._admin = admin
        self._objection = objection
        self._known: CapturedTables | None = None
        self._names: dict[int, str] = {}
        self._warned: set[tuple[int, str]] = set()
        self.state: dict[str, object] = {}
        self.partitions_only = False

    def first(self) -> list[TableTask]:
        """Publish all that is configured, for a pipeline that begins: its rows are read anyway, or not wanted."""
        self._require_one_name()
        self._publish(self._catalog.tables(self._source.tables, self._source.exclude_tables))
        observation = self._observe()
        self._remember(record(observation, observation.captured, self._source))
        self._warn_of_failing(observation, self._plan(observation).failing)
        return []

    def resume(self, known: dict[str, object]) -> list[TableTask]:
        """Put right what happened since the checkpoint that has the record `known`. Raises PositionGap."""
        self._known = CapturedTables.of_state(known)
        self.state = known
        self._require_one_name()
        tasks = self._put_right(follow=False, starting=True)
        # What somebody else took out of it was refused before.
        self._align_operations()
        self._publish([])
        return tasks

    def look(self, *, follow: bool = False) -> list[TableTask]:
        """Compare now; return the rows to read. `follow` takes in what matches, whatever `tables_added` says."""
        return self._put_right(follow=follow, starting=False)

    @property
    def members(self) -> set[int]:
        """The partitions that are captured for a root's sake, by OID, and those that were until not long ago."""
        return set() if self._known is None else {*self._known.partitions, *self._known.former}

    def passed(self, position: Lsn) -> set[int]:
        """Forget the former tables of which nothing more can come behind `position`; return them."""
        known = self._known
        gone = set() if known is None else {oid for oid, lsn in known.former.items() if lsn < position}
        if known is not None and gone:
            self._remember(replace(known, former={oid: lsn for oid, lsn in known.former.items() if oid not in gone}))
        return gone - self.members

    def _observe(self) -> PublishedState:
        found = observe(self._catalog, self._name, self._source.tables, self._source.exclude_tables)
        self.partitions_only = found.publishes_captured_only and any(one.ref.kind == "p" for one in found.candidates)
        return found

    def _plan(self, observation: PublishedState) -> ReconcilePlan:
        return plan(observation, self._known, self._source, self._name, self._operations)

    def _require_one_name(self) -> None:
        observation = self._observe()
        uncaptured_partitions = self._catalog.uncaptured_partitions(found.ref.oid for found in observation.candidates)
        refused = require_one_name(observation, uncaptured_partitions, self._source, self._name)
        if refused is not None:
            raise refused

    def _align_operations(self) -> None:
        """Publish what is delivered, in a publication of pycdc's own.

        Operations that are not delivered would keep tables without a replica identity from being updated for nothing.
        """
        published = self._observe().publication
        if published is None or not (self._source.manage_publication and published.owned):
            return
        if published.operations - {"t"} != self._operations - {"t"}:
            statement = publish_sql(self._name, self._operations)
            log.info("changing what the publication publishes", statement=statement)
            run(self._dsn, statement, self._catalog.stopping)

    # -- a pipeline that begins

    def _publish(self, chosen: list[TableRef]) -> None:
        """Publish these and the signal table, where there is one."""
        source, name = self._source, self._name
        tables = with_signal_table(self._config, self._catalog, chosen)
        if not tables:
            return
        present = self._catalog.publication(name)
        missing = tables if present is None else missing_tables(tables, present)
        if source.manage_publication:
            if missing:
                self._warn_of_failing_writes(missing)
            self._admin.ensure_publication(
                name, tables, present, via_partition_root=source.via_partition_root, operations=self._operations
            )
            if present is not None:
                self._align_operations()
            return
        if missing:
            create = create_publication_sql(
                name, tables, via_partition_root=source.via_partition_root, operations=self._operations
            )
            raise _unpublished(name, missing, create if present is None else add_tables_sql(name, missing))

    def _warn_of_failing_writes(self, tables: Sequence[TableRef]) -> None:
        """Before that is so: what is told afterwards may be too late."""
        oids = {table.oid for table in tables}
        observed = self._observe()
        generated = observed.publication is not None and observed.publication.generated
        found = [
            one
            for one in observed.candidates
            if one.ref.oid in oids and one.writes.fails(publishes_generated=generated)
        ]
        if found and self._operations & {"u", "d"}:
            log.warning(
                "publishing tables on which UPDATE and DELETE fail from now on: "
                "mend their replica identity, or take them out of source.postgres.tables",
                tables=[str(one) for one in found],
                remedies=[one.writes.remedy for one in found],
            )

    def _warn_of_failing(self, observed: PublishedState, failing: Sequence[ExcludedTables]) -> None:
        failing = [*failing, *self._failing_parts(observed)]
        self._progress.unwritable = {str(found.table): found.reason for found in failing}
        for found in failing:
            if (found.table.ref.oid, found.reason) not in self._warned:
                self._warned.add((found.table.ref.oid, found.reason))
                log.error(
                    "the application cannot UPDATE or DELETE in a captured table",
                    table=str(found.table),
                    reason=found.reason,
                    remedy=found.remedy,
                )

    def _failing_parts(self, observed: PublishedState) -> list[ExcludedTables]:
        """Return tables that fail for the rows and columns that the publication has of them."""
        if observed.publication is None or not observed.publication.operations & {"u", "d"}:
            return []
        captured = observed.captured
        parts = failing_parts(self._catalog, self._name, [found.ref for found in captured.values()])
        return [ExcludedTables(captured[found.table.oid], found.fact, found.remedy) for found in parts]

    # -- one that goes on

    def _put_right(self, *, follow: bool, starting: bool) -> list[TableTask]:
        before, known = self._observe(), self._known
        if before.publication is None and known is None:
            raise PositionGap(f"publication {self._name} does not exist any more", hint=START_OVER)
        todo = self._plan(before)
        self._refuse(todo, starting=starting)
        for found in todo.drift:
            log.warning("publishing and reading tables again; rows deleted meanwhile stay", reason=found.fact)
        self._warn_of_excluded(todo.left_out)
        self._warn_of_failing(before, todo.failing)
        drifted = {table.ref.oid for table in todo.drifted}
        wanted = [found for found in todo.joining if self._follows(found, drifted, follow=follow)]
        after = self._alter(todo, wanted, before)
        captured = after.captured
        joined = [captured[found.ref.oid] for found in wanted if found.ref.oid in captured]
        joined = [found for found in joined if found.grants]
        stay = _staying(before, after, todo, known)
        self._log_changes(after, joined, stay)
        tasks = self._tasks(joined, after, drifted)
        kept = record(before, stay, self._source)
        if known is not None:
            kept = replace(kept, burdened=kept.burdened & known.burdened, former=self._former(after, known))
        self._remember(kept.with_those_of(record(after, (found.ref.oid for found in joined), self._source)))
        return tasks

    def _former(self, now: PublishedState, known: CapturedTables) -> dict[int, int]:
        """Return tables that are captured no more, without the configuration's doing: rows of them may still come."""
        before, patterns_now = known.patterns, patterns(self._source)
        gone = known.partitions - now.captured.keys()
        if not gone or not (set(before[0]) <= set(patterns_now[0]) and set(patterns_now[1]) <= set(before[1])):
            return dict(known.former)
        return {**known.former, **dict.fromkeys(gone, int(self._catalog.wal_end()))}

    def _follows(self, found: CandidateTable, drifted: set[int], *, follow: bool) -> bool:
        if found.ref.oid not in drifted and (objection := self._objection(found.ref)) is not None:
            self._once(found, objection.fact, objection.hint)
            return False
        if follow or found.ref.oid in drifted or self._source.tables_added == "follow":
            return True
        self._once(found, "waits for `pycdc apply`, as source.postgres.tables_added says")
        return False

    def _refuse(self, todo: ReconcilePlan, *, starting: bool) -> None:
        for changed in todo.narrowed:
            raise PositionGap(changed.fact, hint=_READ_AGAIN)
        helpless = [found for found in todo.left_out if found.table in todo.drifted]
        for drift in todo.drift:
            if not drift.repairable:
                raise PositionGap(drift.fact, hint=START_OVER)
            if self._source.publication_drift == "stop" or helpless:
                raise PositionGap(drift.fact, hint=_READ_AGAIN)
        for found in todo.left_out:
            table = found.table
            if starting and table.logged and not table.grants and named_in_full(table.ref, self._source):
                raise _unpublished(self._name, [table.ref], found.remedy)

    def _warn_of_excluded(self, left_out: Iterable[ExcludedTables]) -> None:
        for found in left_out:
            self._once(found.table, found.reason, found.remedy)

    def _once(self, table: CandidateTable, reason: str, remedy: str = "") -> None:
        if (table.ref.oid, reason) not in self._warned:
            self._warned.add((table.ref.oid, reason))
            log.warning("a table that matches is not captured", table=str(table), reason=reason, remedy=remedy)

    def _alter(self, todo: ReconcilePlan, wanted: list[CandidateTable], before: PublishedState) -> PublishedState:
        """Change the publication, as far as it is ours; return what is so afterwards."""
        publish = [found.ref for found in wanted if found in todo.publish]
        mine = set() if self._known is None else self._known.grants.keys()
        withdraw = [ref for ref in todo.withdraw if ref.oid in mine]
        published = before.publication
        if not self._source.manage_publication or (published is not None and not published.owned):
            withdraw = []
        if not publish and not withdraw:
            return before
        change_tables(self._dsn, self._name, add=publish, drop=withdraw, stopping=self._catalog.stopping)
        return self._observe()

    def _remember(self, known: CapturedTables) -> None:
        if known != self._known:
            self._known, self.state = known, known.state

    def _log_changes(self, now: PublishedState, joined: Sequence[CandidateTable], stay: set[int]) -> None:
        gone = [] if self._known is None else sorted(self._known.grants.keys() - now.captured.keys())
        if gone:
            names = [self._names.get(oid, f"oid {oid}") for oid in gone]
            log.info("tables that are dropped, renamed or no longer configured are not captured", tables=names)
        for oid in stay & self._names.keys():
            if (name := str(now.captured.get(oid, self._names[oid]))) != self._names[oid]:
                log.info("a captured table has another name, and another topic", before=self._names[oid], now=name)
        self._names = {oid: str(found) for oid, found in now.captured.items()}
        if joined:
            log.info("tables joined", tables=[str(found) for found in joined], read=self._source.snapshot != "never")

    # -- rows from before

    def _tasks(self, joined: Sequence[CandidateTable], now: PublishedState, drifted: set[int]) -> list[TableTask]:
        if self._source.snapshot == "never" or now.publication is None:
            return []
        chosen = list(self._to_read(joined, now, drifted))
        if not chosen:
            return []
        since = current_transaction(self._dsn, self._catalog.stopping)
        return [
            TableTask(ref.schema, ref.name, where=where, request=RESYNC if again else ADDED, since=since, oid=ref.oid)
            for ref, where, again in chosen
        ]

    def _to_read(
        self, joined: Sequence[CandidateTable], now: PublishedState, drifted: set[int]
    ) -> Iterator[tuple[TableRef, str | None, bool]]:
        """Tables under the names that the stream uses for them; of a partition that joined its root, those rows."""
        captured, joining = now.captured, {found.ref.oid for found in joined}
        via_root = now.publication is not None and now.publication.via_root
        for found in joined:
            ref, again = found.ref, found.ref.oid in drifted
            root = captured.get(ref.root or 0)
            if self._config.compatibility.partitioned_snapshot == "twice":
                yield ref, None, again
            elif ref.kind == "p" and (root is not None or not via_root):
                continue
            elif root is None or (root.ref.oid in joining and not via_root):
                yield ref, None, again
            elif root.ref.oid not in joining and self._held_rows_before(found, again=again):
                yield (root.ref, f"tableoid = {ref.oid}::pg_catalog.oid", again) if via_root else (ref, None, again)

    def _held_rows_before(self, found: CandidateTable, *, again: bool) -> bool:
        """Return whether a partition may hold rows from before its root published it.

        One that was made as a partition cannot, unless the same transaction filled it before.
        """
        known = self._known is not None and found.ref.oid in self._known.grants
        return again or known or found.attached or has_rows_of_its_maker(self._catalog, found.ref)


def _staying(
    before: PublishedState, after: PublishedState, todo: ReconcilePlan, known: CapturedTables | None
) -> set[int]:
    """Return the tables that stay captured, by OID. What was published when there was no record counts as captured."""
    captured = before.captured
    members = {oid for oid, found in captured.items() if found.grants} if known is None else set(known.grants)
    left_out = {found.table.ref.oid for found in todo.left_out}
    elsewhere = {found.ref.oid for found in todo.joining} | left_out
    out = {oid for oid in members & captured.keys() if {oid, captured[oid].ref.root} & elsewhere}
    # What could not be taken out is still captured, until that succeeds.
    still = {oid for oid in out if {oid, captured[oid].ref.root} & left_out and after.captured.get(oid, _NONE).grants}
    return (members & captured.keys()) - out | still


def _unpublished(name: str, tables: Sequence[TableRef], remedy: str) -> EnvironmentNotReady:
    return EnvironmentNotReady(
        f"publication {name} does not publish {', '.join(map(str, tables))}",
        hint=f"let its owner run: {remedy};",
    )
