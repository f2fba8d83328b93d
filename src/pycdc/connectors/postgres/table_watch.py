"""Keeps publication and configuration in step, at the start and while the stream goes on; says whose rows to read.

What a table that joins held before it was published is read in chunks (`backfill`). The transaction id taken after it
was published goes with each reading: changes of transactions that wrote before it may not be in the stream, so the
first chunk waits until those are over.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from pycdc.config import Config
from pycdc.connectors.postgres.admin import Admin, add_tables_sql, create_publication_sql, missing_tables
from pycdc.connectors.postgres.backlog import ADDED, RESYNC, Reading
from pycdc.connectors.postgres.catalog import Catalog
from pycdc.connectors.postgres.facts import TableRef
from pycdc.connectors.postgres.membership import START_OVER, LeftOut, Membership, Plan, named_in_full, plan, record
from pycdc.connectors.postgres.observation import Candidate, Observation, has_rows_of_its_maker, observe
from pycdc.connectors.postgres.publication_change import change_tables, current_transaction
from pycdc.connectors.postgres.signal_table import with_signal_table
from pycdc.errors import EnvironmentNotReady, PositionGap
from pycdc.observability.logger import get_logger

log = get_logger()

_READ_AGAIN: Final = (
    "what was left out meanwhile is lost to the slot: `pycdc apply` puts the publication right, so that the tables are "
    "read again when the pipeline is started (rows deleted meanwhile stay with the consumers); or start over with "
    "`pycdc teardown`"
)


class TableWatch:
    """One for each connector. `state` is the record of what is captured, the same object until that changes."""

    def __init__(self, config: Config, catalog: Catalog, admin: Admin) -> None:
        self._config = config
        self._source = config.capture
        self._name = config.publication
        self._dsn = config.capture.dsn.get_secret_value()
        self._catalog = catalog
        self._admin = admin
        self._known: Membership | None = None
        self._names: dict[int, str] = {}
        self._told: set[tuple[int, str]] = set()
        self.state: dict[str, object] = {}

    def first(self) -> list[Reading]:
        """Publish all that is configured, for a pipeline that begins: its rows are read anyway, or not wanted."""
        self._publish(self._catalog.tables(self._source.tables, self._source.exclude_tables))
        observation = self._observe()
        self._remember(record(observation, observation.captured, self._source))
        return []

    def resume(self, known: dict[str, object]) -> list[Reading]:
        """Put right what happened since the checkpoint that has the record `known`. Raises PositionGap."""
        self._known = Membership.of_state(known)
        self.state = known
        readings = self._put_right(follow=False, starting=True)
        self._publish([])
        return readings

    def look(self, *, follow: bool = False) -> list[Reading]:
        """Compare now; return the rows to read. `follow` takes in what matches, whatever `tables_added` says."""
        return self._put_right(follow=follow, starting=False)

    def _observe(self) -> Observation:
        return observe(self._catalog, self._name, self._source.tables, self._source.exclude_tables)

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
            self._admin.ensure_publication(name, tables, present, via_partition_root=source.via_partition_root)
            return
        if missing:
            create = create_publication_sql(name, tables, via_partition_root=source.via_partition_root)
            raise _unpublished(name, missing, create if present is None else add_tables_sql(name, missing))

    def _warn_of_failing_writes(self, tables: Sequence[TableRef]) -> None:
        """Publishing a table without a replica identity makes the application's UPDATE and DELETE on it fail."""
        oids = {table.oid for table in tables}
        found = [str(one) for one in self._observe().candidates if one.ref.oid in oids and not one.updatable]
        if found:
            log.warning(
                "publishing tables without a replica identity: UPDATE and DELETE on them fail from now on; "
                "ALTER TABLE … REPLICA IDENTITY FULL, or take them out of source.postgres.tables",
                tables=found,
            )

    # -- one that goes on

    def _put_right(self, *, follow: bool, starting: bool) -> list[Reading]:
        before, known = self._observe(), self._known
        if before.publication is None and known is None:
            raise PositionGap(f"publication {self._name} does not exist any more", hint=START_OVER)
        todo = plan(before, known, self._source, self._name)
        self._refuse(todo, starting=starting)
        for found in todo.drift:
            log.warning("publishing and reading tables again; rows deleted meanwhile stay", reason=found.fact)
        self._tell(todo.left_out)
        drifted = {table.ref.oid for table in todo.drifted}
        wanted = [found for found in todo.joining if self._follows(found, drifted, follow=follow)]
        after = self._alter(todo, wanted, before)
        captured = after.captured
        joined = [captured[found.ref.oid] for found in wanted if found.ref.oid in captured]
        joined = [found for found in joined if found.grants]
        stay = _staying(before, todo, known)
        self._tell_of_changes(after, joined, stay)
        readings = self._readings(joined, after, drifted)
        kept = record(before, stay, self._source)
        self._remember(kept.with_those_of(record(after, (found.ref.oid for found in joined), self._source)))
        return readings

    def _follows(self, found: Candidate, drifted: set[int], *, follow: bool) -> bool:
        if follow or found.ref.oid in drifted or self._source.tables_added == "follow":
            return True
        self._once(found, "waits for `pycdc apply`, as source.postgres.tables_added says")
        return False

    def _refuse(self, todo: Plan, *, starting: bool) -> None:
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

    def _tell(self, left_out: Iterable[LeftOut]) -> None:
        for found in left_out:
            self._once(found.table, found.reason, found.remedy)

    def _once(self, table: Candidate, reason: str, remedy: str = "") -> None:
        if (table.ref.oid, reason) not in self._told:
            self._told.add((table.ref.oid, reason))
            log.warning("a table that matches is not captured", table=str(table), reason=reason, remedy=remedy)

    def _alter(self, todo: Plan, wanted: list[Candidate], before: Observation) -> Observation:
        """Change the publication, as far as it is ours; return what is so afterwards."""
        publish = [found.ref for found in wanted if found in todo.publish]
        mine = set() if self._known is None else self._known.grants.keys()
        withdraw = [ref for ref in todo.withdraw if ref.oid in mine]
        published = before.publication
        if not self._source.manage_publication or (published is not None and not published.owned):
            withdraw = []
        if not publish and not withdraw:
            return before
        change_tables(self._dsn, self._name, add=publish, drop=withdraw)
        return self._observe()

    def _remember(self, known: Membership) -> None:
        if known != self._known:
            self._known, self.state = known, known.state

    def _tell_of_changes(self, now: Observation, joined: Sequence[Candidate], stay: set[int]) -> None:
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

    def _readings(self, joined: Sequence[Candidate], now: Observation, drifted: set[int]) -> list[Reading]:
        if self._source.snapshot == "never" or now.publication is None:
            return []
        chosen = list(self._to_read(joined, now, drifted))
        if not chosen:
            return []
        since = current_transaction(self._dsn)
        return [
            Reading(ref.schema, ref.name, where=where, request=RESYNC if again else ADDED, since=since, oid=ref.oid)
            for ref, where, again in chosen
        ]

    def _to_read(
        self, joined: Sequence[Candidate], now: Observation, drifted: set[int]
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

    def _held_rows_before(self, found: Candidate, *, again: bool) -> bool:
        """Whether a partition may hold rows from before its root published it. One that was made as a partition
        cannot, unless the same transaction filled it before."""
        known = self._known is not None and found.ref.oid in self._known.grants
        return again or known or found.attached or has_rows_of_its_maker(self._catalog, found.ref)


def _staying(now: Observation, todo: Plan, known: Membership | None) -> set[int]:
    """The tables that go on being captured, by OID. What was published when there was no record counts as captured."""
    captured = now.captured
    members = {oid for oid, found in captured.items() if found.grants} if known is None else set(known.grants)
    elsewhere = {found.ref.oid for found in todo.joining} | {found.table.ref.oid for found in todo.left_out}
    return (members & captured.keys()) - elsewhere


def _unpublished(name: str, tables: Sequence[TableRef], remedy: str) -> EnvironmentNotReady:
    return EnvironmentNotReady(
        f"publication {name} does not publish {', '.join(map(str, tables))}",
        hint=f"let its owner run: {remedy};",
    )
