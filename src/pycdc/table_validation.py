"""What must hold of a table before its rows are delivered, asked by doctor, at the start and when a table joins."""

from __future__ import annotations

from collections.abc import Iterable, Set
from dataclasses import dataclass
from string import Formatter
from typing import Final

from pycdc.config.pipeline import CapturePipeline
from pycdc.errors import ConfigError
from pycdc.model.change import Table
from pycdc.model.patterns import matches_any
from pycdc.observability.progress import Progress
from pycdc.rows.plan import TablePlan, hash_length, merged_rule, plan_table
from pycdc.rows.truncation import require_truncatable
from pycdc.serialization import envelope
from pycdc.serialization.names import DEFAULT_TOPIC, routed
from pycdc.transforms.capture import CaptureTransforms

_LEAST_HASH: Final = 16
"""Digits of a hash, below which different keys become the same too often."""
_PLACES: Final = ("schema", "table")


@dataclass(frozen=True, slots=True)
class _Owner:
    """Whose a topic or a subject is. `given` is what its name was made of: the pattern's placeholders, filled in."""

    oid: int
    schema: str
    table: str
    given: frozenset[tuple[str, str]]

    def __str__(self) -> str:
        return f"{self.schema}.{self.table}"

    def shares(self, other: _Owner) -> bool:
        """Whether both were sent there on purpose: by the same names, or by a topic that names no table."""
        same = self.oid == other.oid or (self.schema, self.table) == (other.schema, other.table)
        return same or self.given == other.given or not self.given or not other.given


class TableValidation:
    """Refuses tables whose rows would be mixed up with others', or whose rules cannot be met.

    Keeps the owner of each topic and subject.
    """

    def __init__(self, config: CapturePipeline) -> None:
        self._config = config
        self._transforms = CaptureTransforms(config, Progress()) if config.transforms else None
        self._owners: dict[str, _Owner] = {}

    def __call__(self, table: Table) -> None:
        """Raise ConfigError, with a remedy, for a table that cannot be delivered as it is configured."""
        config = self._config
        if self._transforms is not None:
            table = self._transforms.table(table)
        plan = plan_table(table, config.rules, config.values, config.compatibility)
        if config.sink.kafka is None and config.sink.null is None:
            return
        self._refuse_hidden_keys(table, plan)
        require_truncatable(table, [one.column.name for one in plan.key], merged_rule(table, config.rules).truncatable)
        if config.outbox is not None and matches_any([config.outbox.table], table.schema, table.name):
            return
        adjust = config.envelope.adjust_names
        pattern = plan.topic or DEFAULT_TOPIC
        topic = routed(pattern, name=config.name, schema=table.schema, table=table.name)
        record = envelope.row_schema(plan, config.name, adjust=adjust).name
        envelope.key_schema(plan, config.name, adjust=adjust)
        self._own(f"topic {topic}", _owner(table, _given(pattern, table)))
        if self._by_record:
            self._own(f"record {record}", _owner(table, _given(DEFAULT_TOPIC, table)))

    @property
    def topics(self) -> int:
        """How many topics and subjects have an owner."""
        return len(self._owners)

    def forget(self, oids: Set[int]) -> None:
        """Forget these tables, of which nothing more comes: what they owned is free."""
        self._owners = {what: owner for what, owner in self._owners.items() if owner.oid not in oids}

    def _refuse_hidden_keys(self, table: Table, plan: TablePlan) -> None:
        """Refuse a masked or cut key: it is that of many rows, which would take each other's place."""
        rule = merged_rule(table, self._config.rules)
        hashed = {name for item in rule.hash for name in item.columns}
        for field in plan.key:
            name, length = field.column.name, hash_length(field.column.type)
            short = length is not None and length < _LEAST_HASH
            if name in rule.mask or name in rule.truncate or (name in hashed and short):
                raise ConfigError(
                    f"column {name!r} of table {table} is part of the message key, and a rule hides what tells rows "
                    "apart in it",
                    hint="hash it (rules[].hash; not in columns shorter than 16 characters), or name other columns "
                    "under rules[].key",
                )

    @property
    def _by_record(self) -> bool:
        kafka = self._config.sink.kafka
        return kafka is not None and kafka.registry is not None and kafka.registry.subjects == "record"

    def _own(self, what: str, claimant: _Owner) -> None:
        owner = self._owners.get(what)
        if owner is None or owner.shares(claimant):
            self._owners[what] = claimant
            return
        raise ConfigError(
            f"tables {owner} and {claimant} would both have the {what}, once characters that it cannot "
            "have are replaced",
            hint=f"give one of them another topic (rules[].topic){_RENAME if what.startswith('record') else ''}, or "
            "leave it out (source.postgres.exclude_tables)",
        )


_RENAME: Final = " and set sink.kafka.registry.subjects: topic"


def _owner(table: Table, given: Iterable[tuple[str, str]]) -> _Owner:
    return _Owner(table.oid, table.schema, table.name, frozenset(given))


def _given(pattern: str, table: Table) -> list[tuple[str, str]]:
    filled = {"schema": table.schema, "table": table.name}
    return [(name, filled[name]) for _, name, _, _ in Formatter().parse(pattern) if name in _PLACES]
