"""What a verification found: typed, immutable, and without values unless they were asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

Key = tuple[str, ...]
"""The texts of a row's key columns in the target, as `canonical` writes them."""


def shown_key(texts: Sequence[str | None]) -> Key:
    """Return a key as it is reported: a column may be NULL where the table has no primary key."""
    return tuple("NULL" if text is None else text for text in texts)


class DifferenceKind(StrEnum):
    """What is wrong with a row of the target."""

    MISSING = "missing"
    """The source says that the row is there, and it is not."""
    EXTRA = "extra"
    """The row is there, and the source says that it is not."""
    CHANGED = "changed"
    """The row is there with other values."""


class ComparisonMethod(StrEnum):
    """How the rows of a table were compared."""

    HASHED = "hashed"
    """Each server computed digests of ranges, and rows were read only where those differ."""
    ROUTED = "routed"
    """Each row of the source went through the capture's encoding and the route's own code."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A row that is not as the source says.

    `columns` are those that differ, for `CHANGED` only. `in_flight`: an event predicted the row; else the source's
    snapshot did. `source` and `target` hold the texts of the differing columns, and only where values were asked for.
    `explanation` names the conflict, the parked record or the owner that explains the difference, where one is known.
    """

    table: str
    kind: DifferenceKind
    key: Mapping[str, str]
    columns: tuple[str, ...] = ()
    in_flight: bool = False
    source: Mapping[str, str | None] | None = field(default=None, repr=False)
    target: Mapping[str, str | None] | None = field(default=None, repr=False)
    explanation: str | None = None


@dataclass(slots=True)
class TableResult:
    """One table of the target.

    `sources` are the tables that its rows come from. `why_routed` says why the servers could not compute digests.
    `key_fields` are
    the columns of the sources that the key is made from, empty where they are not the same in all of them.
    `not_compared` maps each column of the target that was not compared to the reason. `differing` counts all
    differences by kind; `differences` holds the first of them, as many as `max_differences` allows. `problem` says why
    the table could not be compared, or not to its end.
    """

    table: str
    sources: tuple[str, ...]
    method: ComparisonMethod = ComparisonMethod.HASHED
    why_routed: str | None = None
    key: tuple[str, ...] = ()
    key_fields: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    not_compared: dict[str, str] = field(default_factory=dict)
    source_rows: int = 0
    target_rows: int = 0
    in_flight: int = 0
    ranges: int = 0
    differing_ranges: int = 0
    differences: list[Difference] = field(default_factory=list)
    differing: Counter[DifferenceKind] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    problem: str | None = None
    seconds: float = 0.0

    @property
    def equal(self) -> bool:
        """Whether all of it was compared, and nothing differs."""
        return not self.differing and self.problem is None


@dataclass(frozen=True, slots=True)
class PointInTime:
    """Where a comparison stands: the source's WAL position, and the offsets by partition (`topic[number]`).

    `low` are the offsets before the source's snapshot, `high` those behind everything that the snapshot sees, `vector`
    those that the target's snapshot has applied.
    """

    lsn: str
    low: Mapping[str, int]
    high: Mapping[str, int]
    vector: Mapping[str, int]
    waited_for_capture: float
    waited_for_apply: float


@dataclass(slots=True)
class Verification:
    """The outcome of one verification.

    `command` are the arguments that `pycdc verify` was called with, without secrets, empty where it was not. `started`
    is ISO 8601 in UTC, `seconds` the time that it took.

    `source` and `target` identify the databases (system identifier and database, without any credential), `digest` is
    the hash that both servers computed. `exact` is False where the databases had no common point.
    """

    pipeline: str
    command: tuple[str, ...]
    started: str
    source: str
    target: str
    digest: str
    configuration: str
    seconds: float = 0.0
    exact: bool = True
    points: list[PointInTime] = field(default_factory=list)
    tables: list[TableResult] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    """Tables that were not compared, and why: those of the source that no route takes, those not asked for."""

    @property
    def differs(self) -> bool:
        """Whether a difference was found."""
        return any(table.differing for table in self.tables)

    @property
    def equal(self) -> bool:
        """Whether all tables are equal."""
        return all(table.equal for table in self.tables)

    def without_values(self) -> Verification:
        """Return the same without the values of columns."""
        tables = [
            replace(table, differences=[replace(one, source=None, target=None) for one in table.differences])
            for table in self.tables
        ]
        return replace(self, tables=tables)

    @property
    def differences(self) -> list[Difference]:
        """The differences of all tables that are kept with their keys."""
        return [difference for table in self.tables for difference in table.differences]
