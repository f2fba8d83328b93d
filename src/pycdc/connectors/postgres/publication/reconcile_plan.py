"""Who belongs to a pipeline: configuration, database and publication compared with what was captured so far. No I/O.

The record of what was captured is part of each checkpoint. It says by which grants (see `observation`) each table was
published. From it a table that is new is told from one that somebody took out of the publication, and a pipeline that
was stopped sees both when it starts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field, replace
from typing import Any, Final

from pycdc.clients.quoting import OPERATIONS, quoted
from pycdc.config.pipeline import CapturePipeline
from pycdc.config.postgres_source import PostgresSourceConfig
from pycdc.connectors.postgres.catalog.metadata import TableRef
from pycdc.connectors.postgres.publication.alter_publication import publish_sql
from pycdc.connectors.postgres.publication.published_state import CandidateTable, Published, PublishedState
from pycdc.model.patterns import qualified

START_OVER: Final = "what was written meanwhile is lost to the slot: start over with `pycdc teardown`, then `pycdc run`"


@dataclass(frozen=True, slots=True)
class CapturedTables:
    """How tables were published.

    `grants` by the OIDs of tables; `parts` of those that are published in part; `patterns` are tables and
    exclude_tables of the configuration. `burdened` are those that are published although the application cannot update
    them. `partitions` are captured for the sake of a table that they are partitions of; `former` were, until they were
    dropped or detached, and the WAL was that far when it was noticed: until there, rows of theirs may still come.
    """

    publication: int
    operations: frozenset[str]
    via_root: bool
    grants: Mapping[int, frozenset[int]]
    parts: Mapping[int, str] = field(default_factory=dict)
    patterns: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
    burdened: frozenset[int] = frozenset()
    partitions: frozenset[int] = frozenset()
    former: Mapping[int, int] = field(default_factory=dict)

    @classmethod
    def of_state(cls, state: Mapping[str, Any]) -> CapturedTables | None:
        """Read the record of a checkpoint; None where it has none yet."""
        if not state:
            return None
        tables, exclude = state["patterns"]
        return cls(
            state["publication"],
            frozenset(state["operations"]),
            state["via_root"],
            {int(oid): frozenset(grants) for oid, grants in state["tables"].items()},
            {int(oid): part for oid, part in state.get("parts", {}).items()},
            (tuple(tables), tuple(exclude)),
            frozenset(state["burdened"]) if "burdened" in state else frozenset(map(int, state["tables"])),
            frozenset(state.get("partitions", ())),
            {int(oid): lsn for oid, lsn in state.get("former", {}).items()},
        )

    def with_those_of(self, other: CapturedTables) -> CapturedTables:
        """Return the tables of both."""
        return replace(
            self,
            grants={**self.grants, **other.grants},
            parts={**self.parts, **other.parts},
            burdened=self.burdened | other.burdened,
            partitions=self.partitions | other.partitions,
        )

    @property
    def state(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "publication": self.publication,
            "operations": "".join(sorted(self.operations)),
            "via_root": self.via_root,
            "tables": {str(oid): sorted(grants) for oid, grants in sorted(self.grants.items())},
            "parts": {str(oid): part for oid, part in sorted(self.parts.items())},
            "patterns": [list(patterns) for patterns in self.patterns],
            "burdened": sorted(self.burdened),
            "partitions": sorted(self.partitions),
            "former": {str(oid): lsn for oid, lsn in sorted(self.former.items())},
        }


def record(observation: PublishedState, oids: Iterable[int], source: PostgresSourceConfig) -> CapturedTables:
    """Return what is captured as of `observation`, as far as it is among `oids`."""
    published = observation.publication
    assert published is not None
    chosen = set(oids)
    members = [found for oid, found in observation.captured.items() if oid in chosen and found.grants]
    return CapturedTables(
        published.oid,
        published.operations,
        published.via_root,
        {member.ref.oid: member.grants for member in members},
        {member.ref.oid: member.part for member in members if member.part},
        patterns(source),
        frozenset(m.ref.oid for m in members if m.writes.fails(publishes_generated=published.generated)),
        frozenset(member.ref.oid for member in members if member.ref.root is not None),
    )


def patterns(source: PostgresSourceConfig) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return tuple(source.tables), tuple(source.exclude_tables)


def wanted_operations(config: CapturePipeline) -> frozenset[str]:
    """First letters of the operations to publish. TRUNCATE always: it keeps nobody from writing."""
    skipped = {"c": "i"}
    wanted = frozenset("iud") - {skipped.get(letter, letter) for letter in config.envelope.skip}
    return wanted | {"t"} | ({"i"} if config.signals.table else set())


@dataclass(frozen=True, slots=True)
class ExcludedTables:
    """A table that matches and cannot be captured yet, and the SQL that helps.

    `by_owner`: it is for the owner of publication or table to run, and would be run here if this role were that.
    """

    table: CandidateTable
    reason: str
    remedy: str
    by_owner: bool = False

    def __str__(self) -> str:
        return f"{self.table} {self.reason}"


@dataclass(frozen=True, slots=True)
class Drift:
    """Captured tables whose changes the publication left out for a while, or leaves out now.

    `repairable`: reading them again helps. What was written while there was no publication at all cannot be decoded any
    more.
    """

    fact: str
    tables: tuple[CandidateTable, ...]
    repairable: bool = True


@dataclass(frozen=True, slots=True)
class ReconcilePlan:
    """What to do so that exactly the configured tables are captured.

    `publish` are to be added to the publication; `joining` are new to the pipeline: those and what was published by
    others. `withdraw` stand in the publication and are not captured. `narrowed` is a fact about the publication as a
    whole that only its owner can undo. `failing` are captured, and the application cannot update them.
    """

    publish: tuple[CandidateTable, ...] = ()
    joining: tuple[CandidateTable, ...] = ()
    left_out: tuple[ExcludedTables, ...] = ()
    withdraw: tuple[TableRef, ...] = ()
    drift: tuple[Drift, ...] = ()
    narrowed: tuple[Narrowed, ...] = ()
    failing: tuple[ExcludedTables, ...] = ()

    @property
    def drifted(self) -> tuple[CandidateTable, ...]:
        return tuple(table for drift in self.drift for table in drift.tables)

    def __bool__(self) -> bool:
        return any((self.publish, self.joining, self.withdraw, self.drift, self.narrowed))


@dataclass(frozen=True, slots=True)
class Narrowed:
    """An option of the publication that changed for the worse, and the SQL that changes it back."""

    fact: str
    remedy: str


def plan(
    observation: PublishedState,
    known: CapturedTables | None,
    source: PostgresSourceConfig,
    name: str,
    wanted: Set[str] = frozenset("iudt"),
) -> ReconcilePlan:
    """Compare what is published with what was, and with the configuration.

    Without a record (`known`) what is published counts as captured, because nothing shows otherwise. `wanted` are the
    first letters of the operations that are delivered.
    """
    captured, published = observation.captured, observation.publication
    failing = _failing(observation, wanted)
    # Somebody who writes a table's whole name means that table.
    fails = {oid: why for oid, why in failing.items() if not named_in_full(captured[oid].ref, source)}
    drift = _drift(observation, known, name, fails.keys())
    drifted = {table.ref.oid for found in drift for table in found.tables}
    members = _members(captured, known, published) - drifted
    burden = members & _removable(observation, known, source) & fails.keys()
    members -= burden | {oid for oid in members if captured[oid].ref.root in burden}
    uncaptured = [found for oid, found in captured.items() if oid not in members]
    left_out = [*_unlogged(observation), *_hindered(uncaptured, captured, published, source, name, fails, burden)]
    out = {found.table.ref.oid for found in left_out}
    joining = [found for found in uncaptured if found.ref.oid not in out and _root_comes(found, captured, out)]
    return ReconcilePlan(
        tuple(found for found in joining if not found.grants and found.ref.root not in captured),
        tuple(joining),
        tuple(left_out),
        (*_surplus(observation), *(captured[oid].ref for oid in sorted(burden))) if source.manage_publication else (),
        tuple(drift),
        _narrowed(published, known, wanted, name),
        tuple(ExcludedTables(captured[oid], *failing[oid]) for oid in sorted(members & failing.keys())),
    )


def _members(
    captured: Mapping[int, CandidateTable], known: CapturedTables | None, published: Published | None
) -> set[int]:
    if known is None:
        return {oid for oid, found in captured.items() if found.grants}
    return {oid for oid in known.grants if oid in captured and not _starts_again(captured[oid], known, captured)}


def _starts_again(found: CandidateTable, known: CapturedTables, captured: Mapping[int, CandidateTable]) -> bool:
    """Return whether a table is no longer published by what published it, though that is still there.

    It is a partition that was detached, a table that left a published schema, or one that became a partition whose rows
    now come under its root's name.
    """
    before = known.grants[found.ref.oid]
    if not found.grants & before:
        return True
    root = captured.get(found.ref.root or 0)
    return known.via_root and root is not None and not before & root.grants


def _drift(observation: PublishedState, known: CapturedTables | None, name: str, fails: Set[int]) -> list[Drift]:
    if known is None:
        return []
    captured, published = observation.captured, observation.publication
    members = [captured[oid] for oid in known.grants if oid in captured]
    if published is None:
        return [Drift(f"publication {name} was dropped", tuple(members), repairable=False)]
    if published.oid != known.publication:
        return [Drift(f"publication {name} was dropped and made anew", tuple(members), repairable=False)]
    still = published.grants
    cut = [found for found in members if not known.grants[found.ref.oid] & (found.grants | still)]
    # What fails was taken out by ourselves, just before a crash perhaps, and stays out.
    cut = [found for found in cut if found.grants or not {found.ref.oid, found.ref.root} & fails]
    gone = [found for found in cut if not found.grants]
    back = [found for found in cut if found.grants]
    other = [
        found
        for found in members
        if found.grants & known.grants[found.ref.oid] and found.part != known.parts.get(found.ref.oid, "")
    ]
    facts = (
        (f"publication {name} no longer publishes", gone),
        (f"somebody took out of publication {name} and put back", back),
        (f"publication {name} publishes other rows or columns than before of", other),
    )
    return [Drift(f"{fact} {_named(tables)}", tuple(tables)) for fact, tables in facts if tables]


def _narrowed(
    published: Published | None, known: CapturedTables | None, wanted: Set[str], name: str
) -> tuple[Narrowed, ...]:
    if published is None or known is None:
        return ()
    found = []
    lost = (known.operations - published.operations) & wanted
    if lost:
        words = " and ".join(OPERATIONS[letter] for letter in "iudt" if letter in lost)
        remedy = publish_sql(name, known.operations | published.operations)
        found.append(Narrowed(f"publication {name} no longer publishes {words}", remedy))
    if published.via_root != known.via_root:
        before = str(known.via_root).lower()
        remedy = f"ALTER PUBLICATION {quoted(name)} SET (publish_via_partition_root = {before})"
        found.append(Narrowed(f"publication {name} publishes partitions under other names than before", remedy))
    return tuple(found)


def _unlogged(observation: PublishedState) -> list[ExcludedTables]:
    return [
        ExcludedTables(found, "is unlogged: its changes are not in the WAL", _alter(found, "SET LOGGED"))
        for found in observation.candidates
        if not found.logged
    ]


def _hindered(
    uncaptured: Iterable[CandidateTable],
    captured: Mapping[int, CandidateTable],
    published: Published | None,
    source: PostgresSourceConfig,
    name: str,
    fails: Mapping[int, tuple[str, str]],
    burden: Set[int],
) -> list[ExcludedTables]:
    out = []
    for found in uncaptured:
        below = found.ref.root in captured
        if not below and not found.grants and (reason := _belongs_to_others(found, published, source, name)):
            statement = f"ALTER PUBLICATION {quoted(name)} ADD TABLE {_only(found)}"
            out.append(ExcludedTables(found, reason, statement, by_owner=True))
            continue
        if found.ref.oid in fails and (not found.grants or found.ref.oid in burden):
            out.append(ExcludedTables(found, *fails[found.ref.oid]))
            continue
        if source.snapshot != "never" and (hindrance := _cannot_be_read(found)) is not None:
            out.append(ExcludedTables(found, *hindrance))
    return out


def _belongs_to_others(
    found: CandidateTable, published: Published | None, source: PostgresSourceConfig, name: str
) -> str:
    if not source.manage_publication:
        return "is not published, and manage_publication is off"
    if published is not None and not published.owned:
        return f"is not published, and publication {name} belongs to {published.owner}"
    return "" if found.owned else "is not published, and only its owner may do that"


def _failing(observation: PublishedState, wanted: Set[str]) -> dict[int, tuple[str, str]]:
    """Return the tables whose publication makes the application's UPDATE and DELETE fail; why, and what helps."""
    published = observation.publication
    if not (wanted if published is None else published.operations) & {"u", "d"}:
        return {}
    generated = published is not None and published.generated
    out = {}
    for oid, found in observation.captured.items():
        why = found.writes.hindrance(_table(found), publishes_generated=generated)
        if why is not None and found.ref.root not in observation.captured:
            out[oid] = why
    return out


def _removable(observation: PublishedState, known: CapturedTables | None, source: PostgresSourceConfig) -> set[int]:
    """Return captured tables that could be written to when they were published, and that this role may take out."""
    published = observation.publication
    if known is None or published is None or not (source.manage_publication and published.owned):
        return set()
    listed = {ref.oid for ref in published.listed.values()}
    return (known.grants.keys() & listed) - known.burdened


def _cannot_be_read(found: CandidateTable) -> tuple[str, str] | None:
    if not found.reachable:
        return "is in a schema that this role may not use", f"GRANT USAGE ON SCHEMA {quoted(found.ref.schema)} TO …"
    if not found.selectable:
        return "may not be read by this role", f"GRANT SELECT ON {_table(found)} TO …"
    if found.row_security:
        return "has row security, which hides rows from this role", "ALTER ROLE … BYPASSRLS"
    return None


def _root_comes(found: CandidateTable, captured: Mapping[int, CandidateTable], out: set[int]) -> bool:
    """Return whether the root of a partition comes: the partition follows it."""
    return bool(found.grants) or found.ref.root not in captured or found.ref.root not in out


def _surplus(observation: PublishedState) -> tuple[TableRef, ...]:
    if observation.publication is None:
        return ()
    used = {grant for found in observation.captured.values() for grant in found.grants}
    return tuple(ref for grant, ref in sorted(observation.publication.listed.items()) if grant not in used)


def named_in_full(ref: TableRef, source: PostgresSourceConfig) -> bool:
    """Return whether a table is named in full: who writes a table's whole name means that table."""
    return any(qualified(pattern) == str(ref) for pattern in source.tables)


def _named(tables: Iterable[CandidateTable]) -> str:
    return ", ".join(map(str, tables))


def _table(found: CandidateTable) -> str:
    return quoted(found.ref.schema, found.ref.name)


def _only(found: CandidateTable) -> str:
    return ("" if found.ref.kind == "p" else "ONLY ") + _table(found)


def _alter(found: CandidateTable, what: str) -> str:
    return f"ALTER TABLE {_table(found)} {what}"
