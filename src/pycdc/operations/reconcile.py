"""What `pycdc apply` would change, and changing it.

A pipeline does the same by itself, when it starts and every `publication_check` seconds. This is for seeing it first,
for what it refuses to do without being told, and for what its options leave to somebody.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

from pycdc.build.offsets import build_offsets, stored_source
from pycdc.config.pipeline import CapturePipeline
from pycdc.connectors.postgres.catalog.catalog import Catalog
from pycdc.connectors.postgres.catalog.metadata import SlotMetadata, TableRef
from pycdc.connectors.postgres.catalog.slots_and_publications import add_tables_sql, create_publication_sql
from pycdc.connectors.postgres.publication.alter_publication import drop_tables_sql, run
from pycdc.connectors.postgres.publication.published_state import CandidateTable, PublishedState, observe
from pycdc.connectors.postgres.publication.reconcile_plan import (
    START_OVER,
    CapturedTables,
    ExcludedTables,
    ReconcilePlan,
    patterns,
    plan,
    record,
    wanted_operations,
)
from pycdc.connectors.postgres.signals.messages import Signal, send
from pycdc.connectors.postgres.signals.signing import key_of
from pycdc.errors import EnvironmentNotReady, PositionGap
from pycdc.interfaces import Checkpoint
from pycdc.operations.lag.topics import topics_of


@dataclass(frozen=True, slots=True)
class Changes:
    """A plan, and the pipeline that it is for. `known` is its record of the captured tables, None without one."""

    config: CapturePipeline
    observation: PublishedState
    slot: SlotMetadata | None
    checkpoint: Checkpoint | None
    known: CapturedTables | None
    plan: ReconcilePlan

    @property
    def running(self) -> bool:
        return self.slot is not None and self.slot.active_pid is not None

    @property
    def pending(self) -> bool:
        return bool(self.plan) or bool(self.for_the_owner)

    @property
    def restart_needed(self) -> bool:
        """The pipeline runs with other patterns than these."""
        return self.running and self.known is not None and self.known.patterns != patterns(self.config.source.postgres)

    @property
    def withdrawn_later(self) -> tuple[TableRef, ...]:
        """What a running pipeline still captures: it would take them for lost. It does that itself when restarted."""
        if not self.running or self.known is None:
            return ()
        return tuple(ref for ref in self.plan.withdraw if ref.oid in self.known.grants)

    @property
    def statements(self) -> list[str]:
        """The SQL that changes the publication."""
        name, source, found = self.config.publication, self.config.source.postgres, self.plan
        publish = [table.ref for table in found.publish]
        withdraw = [ref for ref in found.withdraw if ref not in self.withdrawn_later]
        if self.observation.publication is None:
            operations = wanted_operations(self.config)
            return [
                create_publication_sql(
                    name, publish, via_partition_root=source.via_partition_root, operations=operations
                )
            ]
        out = [narrowed.remedy for narrowed in found.narrowed]
        out += [add_tables_sql(name, publish)] * bool(publish)
        return out + [drop_tables_sql(name, withdraw)] * bool(withdraw)

    @property
    def for_the_owner(self) -> list[str]:
        """The statements that this role may not run, or is not to run."""
        published, source = self.observation.publication, self.config.source.postgres
        by_owner = not source.manage_publication or (published is not None and not published.owned)
        left = [found.remedy for found in self.plan.left_out if found.by_owner]
        return left + self.statements if by_owner else left

    @property
    def to_read(self) -> list[tuple[CandidateTable, bool]]:
        """Tables whose rows will come, and whether they come again."""
        if self.config.source.postgres.snapshot == "never":
            return []
        again = set(self.plan.drifted) | (set(self._members) if self.plan.narrowed else set())
        new = [table for table in self.plan.joining if table not in again]
        return [(table, False) for table in new] + [(table, True) for table in sorted(again, key=str)]

    @property
    def _members(self) -> list[CandidateTable]:
        captured = self.observation.captured
        return [] if self.known is None else [captured[oid] for oid in self.known.grants if oid in captured]

    @property
    def record(self) -> CapturedTables | None:
        """Return the record with which a stopped pipeline does the right thing when it starts; None if it has that.

        It is without what it has to read again.
        """
        published = self.observation.publication
        if self.checkpoint is None or published is None:
            return None
        if self.known is None:
            granted = [oid for oid, found in self.observation.captured.items() if found.grants]
            return record(self.observation, granted, self.config.source.postgres)
        if not self.plan.drift and not self.plan.narrowed:
            return None
        out = {table.ref.oid for table in self.plan.drifted}
        kept = {} if self.plan.narrowed else {oid: known for oid, known in self.known.grants.items() if oid not in out}
        return replace(self.known, grants=kept)


def find(config: CapturePipeline) -> Changes:
    """Look at database, slot and stored position. Raises PycdcError."""
    with Catalog(config.source.postgres.dsn.get_secret_value()) as catalog, closing(build_offsets(config)) as offsets:
        return changes_of(config, catalog, catalog.slot(config.slot), offsets.load())


def changes_of(
    config: CapturePipeline, catalog: Catalog, slot: SlotMetadata | None, checkpoint: Checkpoint | None
) -> Changes:
    source = config.source.postgres
    observation = observe(catalog, config.publication, source.tables, source.exclude_tables)
    known = None if checkpoint is None else CapturedTables.of_state(checkpoint.membership)
    todo = plan(observation, known, source, config.publication, wanted_operations(config))
    signals = config.signals.schema_and_table
    todo = replace(todo, withdraw=tuple(ref for ref in todo.withdraw if (ref.schema, ref.name) != signals))
    return Changes(config, observation, slot, checkpoint, known, todo)


def carry_out(changes: Changes) -> Iterator[str]:
    """Do it; tell what was done. Raises PycdcError, before anything is changed where that is possible."""
    _refuse(changes)
    config = changes.config
    dsn = config.source.postgres.dsn.get_secret_value()
    if not changes.running:
        _record(changes)
    for statement in changes.statements:
        run(dsn, statement)
        yield statement
    if changes.slot is None:
        yield f"{config.name} begins with `pycdc run`"
    elif changes.plan.joining or changes.plan.drift or changes.plan.narrowed:
        send(dsn, config.slot, key_of(config, stored_source(config)), [Signal("apply")])
        yield _when(changes)


def _when(changes: Changes) -> str:
    if changes.restart_needed:
        return "the pipeline runs with another configuration: restart it with this one"
    return "asked the pipeline to take them in" if changes.running else "the pipeline takes them in when it is started"


def _refuse(changes: Changes) -> None:
    config = changes.config
    for drift in changes.plan.drift:
        if not drift.repairable:
            raise PositionGap(drift.fact, hint=START_OVER)
    if changes.for_the_owner:
        raise EnvironmentNotReady(
            f"publication {config.publication} and its tables are not this role's to change",
            hint="let their owner run: " + "; ".join(changes.for_the_owner) + ";",
        )
    if changes.running and (changes.plan.drift or changes.plan.narrowed):
        raise EnvironmentNotReady(
            "a pipeline that runs cannot be told to forget what it captures",
            hint="stop it first; it stops by itself within source.postgres.publication_check seconds",
        )
    if changes.running and changes.checkpoint is not None and changes.known is None:
        raise EnvironmentNotReady(
            "the running pipeline has not stored yet which tables it captures",
            hint="start it with this version of pycdc, and try again in a moment",
        )


def _record(changes: Changes) -> None:
    made = changes.record
    if made is not None and changes.checkpoint is not None:
        with closing(build_offsets(changes.config)) as offsets:
            offsets.store(replace(changes.checkpoint, membership=made.state))


def as_dict(changes: Changes, *, applied: bool) -> dict[str, Any]:
    """Return it as JSON values."""
    found = changes.plan
    return {
        "pending": changes.pending and not applied,
        "applied": applied,
        "running": changes.running,
        "restart_needed": changes.restart_needed,
        "drift": [drift.fact for drift in found.drift] + [narrowed.fact for narrowed in found.narrowed],
        "sql": changes.statements if changes.pending else [],
        "sql_for_owner": changes.for_the_owner,
        "publish": [str(table) for table in found.publish],
        "withdraw": [str(ref) for ref in found.withdraw],
        "read": [
            {
                "table": str(table),
                "rows_estimated": table.ref.rows_estimate,
                "again": again,
                "topics": topics(changes, table),
            }
            for table, again in changes.to_read
        ],
        "left_out": [_left_out(left) for left in found.left_out],
    }


def topics(changes: Changes, table: CandidateTable) -> list[str]:
    return sorted(topics_of(changes.config, [table.ref]))


def _left_out(found: ExcludedTables) -> dict[str, str]:
    return {"table": str(found.table), "reason": found.reason, "sql": found.remedy}
