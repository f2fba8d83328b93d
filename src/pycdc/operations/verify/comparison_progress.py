"""What the cuts of one verification have compared so far, table by table."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from pycdc.errors import PycdcError
from pycdc.operations.verify.feeds import Unit
from pycdc.operations.verify.readers import TableRewritten
from pycdc.operations.verify.result import ComparisonMethod, Key, TableResult

ATTEMPTS: Final = 5
"""Cuts that changes of one table's schema may spoil."""

UnitName = tuple[str, tuple[str, ...], tuple[str, ...]]


@dataclass(slots=True)
class ComparisonProgress:
    """`after` is where a table that is not `done` goes on."""

    results: dict[UnitName, TableResult] = field(default_factory=dict)
    done: set[UnitName] = field(default_factory=set)
    after: dict[UnitName, Key] = field(default_factory=dict)
    rewritten: Counter[UnitName] = field(default_factory=Counter)

    def failed(self, unit: Unit, error: PycdcError) -> None:
        """Note what keeps one table from being compared; raise what concerns all of them, or asks for a new cut."""
        name = unit_name(unit)
        if isinstance(error, TableRewritten):
            self.results[name] = result_of(unit)
            self.after.pop(name, None)
            self.rewritten[name] += 1
            if self.rewritten[name] < ATTEMPTS:
                raise error
        elif error.retry:
            raise error
        self.results[name].problem = f"{error.fact}; {error.hint}" if error.hint else error.fact
        self.done.add(name)


def unit_name(unit: Unit) -> UnitName:
    """Return what a unit is called in all cuts: a schema change may bring others."""
    return str(unit.target), unit.key, unit.columns


def result_of(unit: Unit) -> TableResult:
    """Return an empty result."""
    return TableResult(
        str(unit.target),
        tuple(dict.fromkeys(str(feed.source) for feed in unit.feeds)),
        ComparisonMethod.HASHED if unit.obstacle is None else ComparisonMethod.ROUTED,
        unit.obstacle,
        unit.key,
        _key_fields(unit),
        unit.columns,
        dict(unit.not_compared),
    )


def _key_fields(unit: Unit) -> tuple[str, ...]:
    """Return the source's columns that the key is made from; none where the feeds differ, or fields are no columns."""
    found = set()
    for feed in unit.feeds:
        paths = [feed.route.key.get(name, name).removeprefix("$key.") for name in unit.key]
        found.add(tuple(feed.source.fields.get(path, "") for path in paths))
    (first, *others) = found
    return () if others or "" in first else first
