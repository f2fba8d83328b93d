"""Which table a topic's events fit, and which column takes which field. No I/O.

Names are compared without case and underscores: ``itemId`` is ``item_id``. A field within a field is named by its path,
and fits a column by its last part too. What then is left is guessed by words: ``newQuantity`` is a ``quantity``, an
``itemId`` the ``id`` of ``items``, and the one moment that an event tells (``occurredAt``) when the row changed
(``updated_at``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pycdc.model.event import Event, Unwritable
from pycdc.sinks.postgres.target_tables import TargetTable

_WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_CHANGED: Final = ("updated", "changed", "modified")
_FORMER: Final = ("old", "previous", "former", "before")
_LEAST: Final = 0.5
"""Of the fields, that share must have a column: else two tables with an `id` would fit everything."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What records of a topic look like. `table` is what an envelope says of its source, ``schema.table``."""

    topic: str
    records: int
    fields: tuple[str, ...]
    key_fields: tuple[str, ...]
    table: str | None
    kinds: int


@dataclass(frozen=True, slots=True)
class Proposal:
    """A table for a topic.

    `key` and `assigned` are column to field, `guessed` those of their columns that a part of the field's name fits;
    `unused` fields without a column.
    """

    sample: Sample
    table: TargetTable
    key: Mapping[str, str]
    assigned: Mapping[str, str]
    unused: tuple[str, ...]
    guessed: frozenset[str] = frozenset()

    @property
    def plain(self) -> bool:
        """Whether every field goes into the column of its name, so that the route need not say it."""
        return not self.unused and all(column == field for column, field in {**self.key, **self.assigned}.items())


def sample(topic: str, events: Sequence[Event]) -> Sample:
    """Tombstones and records that cannot be decoded say nothing."""
    rows = [row for event in events if (row := event.before if event.deleted else event.row)]
    fields = dict.fromkeys(path for row in rows for path in _paths(row))
    keys = dict.fromkeys(path for event in events if isinstance(key := _key(event), dict) for path in _paths(key))
    kinds = {tuple(sorted(row)) for row in rows}
    return Sample(topic, len(rows), tuple(fields), tuple(keys), _named_table(events), len(kinds))


def _key(event: Event) -> Any:
    try:
        return event.key
    except Unwritable:
        return None  # which a route may not need


def propose(found: Sample, tables: Iterable[TargetTable]) -> Proposal | None:
    """Return the table that fits best, None where none does."""
    fitting = [made for table in tables if (made := _fitted(found, table)) is not None]
    return max(fitting, key=_fitness, default=None)


def _paths(row: Mapping[str, Any]) -> Iterator[str]:
    for name, value in row.items():
        yield name
        if isinstance(value, dict):
            yield from (f"{name}.{inner}" for inner in value)


def _named_table(events: Sequence[Event]) -> str | None:
    for event in events:
        source = event.source or {}
        if source.get("schema") and source.get("table"):
            return f"{source['schema']}.{source['table']}"
    return None


def _fitted(found: Sample, table: TargetTable) -> Proposal | None:
    fields = (*found.fields, *found.key_fields)
    key = _matched(table.primary_key, fields)
    guessed = {}
    if len(key) < len(table.primary_key) == 1:
        guessed = _of_the_table(table, fields)
        key = {**guessed}
    if not table.primary_key or len(key) < len(table.primary_key):
        return None
    rest = [name for name, column in table.columns.items() if name not in key and not column.generated]
    assigned = _matched(rest, [field for field in found.fields if field not in key.values()])
    used = {*key.values(), *assigned.values()}
    by_words = _by_words([c for c in rest if c not in assigned], [f for f in found.fields if not _is_used(f, used)])
    assigned |= by_words
    used.update(by_words.values())
    unused = tuple(field for field in found.fields if not _is_used(field, used))
    whole = [field for field in found.fields if "." not in field]
    if sum(field not in unused for field in whole) < _LEAST * len(whole):
        return None
    return Proposal(found, table, key, assigned, unused, frozenset({*guessed, *by_words}))


def _is_used(field: str, used: set[str]) -> bool:
    """Whether a column takes it, what holds it, or something in it."""
    holder = field.rpartition(".")[0]
    return field in used or holder in used or any(one.startswith(f"{field}.") for one in used)


def _matched(columns: Iterable[str], fields: Sequence[str]) -> dict[str, str]:
    """Return for each column the field of its name, else of its name but for spelling, else the last part of a path."""
    exact = {field: field for field in fields}
    spelled = {_plain(field): field for field in reversed(fields)}
    last = {_plain(field.rpartition(".")[2]): field for field in reversed(fields)}
    out = {}
    for column in columns:
        field = exact.get(column) or spelled.get(_plain(column)) or last.get(_plain(column))
        if field is not None:
            out[column] = field
    return out


def _of_the_table(table: TargetTable, fields: Iterable[str]) -> dict[str, str]:
    """Return the field whose name makes it the key of this table: ``itemId`` of ``items``."""
    (column,) = table.primary_key
    for field in fields:
        *of, last = _words(field) or [""]
        if [last] == _words(column) and of and _plain(table.name) in ("".join(of), "".join(of) + "s"):
            return {column: field}
    return {}


def _by_words(columns: Sequence[str], fields: Sequence[str]) -> dict[str, str]:
    """Return for each column the one field of whose words it is the last, and the one moment for the row's change."""
    out: dict[str, str] = {}
    fields = [field for field in fields if not {*_words(field)[:1]} & {*_FORMER}]
    for column in columns:
        words = _words(column)
        like = [field for field in fields if words and words != ["id"] and _words(field)[-len(words) :] == words]
        if len(like) == 1 and like[0] not in out.values():
            out[column] = like[0]
    moments = [field for field in fields if field not in out.values() and _words(field)[-1:] == ["at"]]
    times = [column for column in columns if column not in out and _words(column)[-1:] == ["at"]]
    times = [column for column in times if _words(column)[0] in _CHANGED] or times
    if len(moments) == len(times) == 1:
        out[times[0]] = moments[0]
    return out


def _words(name: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(name.rpartition(".")[2])]


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _fitness(proposal: Proposal) -> tuple[bool, int, bool, int]:
    """Return how well a proposal fits; what was guessed counts half."""
    table, found = proposal.table, proposal.sample
    words = _plain(re.split(r"[.]", found.topic)[-1])
    named = _plain(table.name) in words or words in _plain(table.name)
    sure = 2 * len(proposal.assigned) - len(proposal.guessed)
    return found.table == str(table), sure, named, -len(table.columns)
