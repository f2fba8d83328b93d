"""What happens to each column of one table version, decided once: which fields, which codecs, which key.

Table rules (include, exclude, mask, hash, truncate, rename, key) are folded into the codecs and the field list here;
nothing of them is left to do per row.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from pycdc.config.values import CompatibilityConfig, TableRule, ValuesConfig
from pycdc.errors import ConfigError
from pycdc.model.change import Column, PgType, Table
from pycdc.model.patterns import matches_any, names_any
from pycdc.rows.avro import null_branch, value_branch, writer
from pycdc.rows.codecs import codec_for, default_datum
from pycdc.rows.codecs.codec import Codec, codec
from pycdc.rows.schema import NO_DEFAULT, Datum, Schema
from pycdc.rows.source_types import source_type, type_name


@dataclass(frozen=True, slots=True)
class PlannedField:
    """One field of a record: where its text comes from and what becomes of it.

    `schema` includes optional and default. `branch` stands before a present value. `null` and `unavailable` are the
    Avro bytes for NULL (or a value that the old row does not tell) and for a TOASTed value that was not sent;
    `null_datum` and `unavailable_datum` the same as Connect values.
    """

    index: int
    name: str
    column: Column
    codec: Codec
    schema: Schema
    branch: bytes
    null: bytes
    null_datum: Datum
    unavailable: bytes
    unavailable_datum: Datum

    @property
    def required(self) -> bool:
        """Whole rows hold a value."""
        return not (self.column.nullable or self.codec.always_null)


@dataclass(frozen=True, slots=True, eq=False)
class TablePlan:
    """`fields` in column order, `key` in the key's order. `table` is the version that this plan was made for."""

    table: Table
    fields: tuple[PlannedField, ...]
    key: tuple[PlannedField, ...]
    compatibility: CompatibilityConfig
    topic: str | None = None

    @property
    def unknown_when_old(self) -> bool:
        """Old rows lack the value of a NOT NULL field: the replica identity does not cover it."""
        return self.table.identity != "f" and any(
            not field.column.nullable and not field.column.identity for field in self.fields
        )


def plan_table(
    table: Table,
    rules: Sequence[TableRule],
    values: ValuesConfig,
    compatibility: CompatibilityConfig,
    *,
    snapshot: bool = False,
) -> TablePlan:
    """Plan a table version under the rules that match it. Raises ConfigError where they cannot be met.

    `snapshot` makes the plan for rows read by a snapshot, which differ from streamed ones only in what `compatibility`
    says that Debezium does differently.
    """
    rule = merged_rule(table, rules)
    key_names = _key_names(table, rule)
    fields: list[PlannedField] = []
    keys: dict[str, PlannedField] = {}
    for index, column in enumerate(table.columns):
        base = codec_for(column.type, values, compatibility, dimensions=column.dimensions, snapshot=snapshot)
        if base is None:
            continue
        called = _streamed(column.name, compatibility, snapshot)
        if _selected(column, rule, key_names):
            name, treated = rule.rename.get(column.name) or called, _treated(table, column, base, rule)
            field = _field(index, name, column, treated, compatibility)
            if column.name in key_names:
                keys[column.name] = field
            if _names_type(column, rule, compatibility, snapshot=snapshot):
                declared = source_type(column, called, compatibility, snapshot=snapshot)
                field = replace(field, schema=replace(field.schema, parameters=(*field.schema.parameters, *declared)))
            fields.append(field)
    missing = [name for name in key_names if name not in keys]
    if missing:
        raise ConfigError(
            f"key column {missing[0]!r} of table {table} does not exist, is not sent (generated, or not in the "
            "publication's column list) or has no representation",
            hint="name columns that tell rows apart and are sent under rules[].key, or an empty list for null keys; "
            "from Postgres 18 on a publication may send stored generated columns (publish_generated_columns = stored)",
        )
    return TablePlan(table, tuple(fields), tuple(keys[name] for name in key_names), compatibility, rule.topic)


Treatment = Callable[[bytes], bytes]
"""What becomes of a column's text under its mask, hash or truncation."""


def treatments(
    table: Table, rule: TableRule, values: ValuesConfig, compatibility: CompatibilityConfig
) -> list[tuple[int, str, Treatment | None]]:
    """Return the columns that stay under the table's rule: place, name, and what becomes of the text."""
    key_names, all_types = _key_names(table, rule), values.model_copy(update={"unknown_types": "text"})
    chosen: list[tuple[int, str, Treatment | None]] = []
    for index, column in enumerate(table.columns):
        if not _selected(column, rule, key_names):
            continue
        base = codec_for(column.type, all_types, compatibility, dimensions=column.dimensions)
        treated = base and _treated(table, column, base, rule)
        hide = None if treated is None or treated is base else partial(_hidden, treated)
        chosen.append((index, rule.rename.get(column.name, column.name), hide))
    return chosen


def _hidden(treated: Codec, text: bytes) -> bytes:
    value: str = treated.value(text)
    return value.encode()


def _streamed(name: str, compatibility: CompatibilityConfig, snapshot: bool) -> str:
    """Return a column's name as Debezium 3.6 has it in streamed rows: it takes quotes at both ends for those of SQL."""
    if compatibility.quoted_names == "kept" or snapshot or len(name) < 2 or name[0] != '"' or name[-1] != '"':
        return name
    return name[1:-1]


def _names_type(column: Column, rule: TableRule, compatibility: CompatibilityConfig, *, snapshot: bool) -> bool:
    if names_any(rule.tell_types, column.name):
        return True
    return names_any(rule.tell_types_of, type_name(column, compatibility, snapshot=snapshot))


def merged_rule(table: Table, rules: Sequence[TableRule]) -> TableRule:
    """Merge all matching rules into one: of two that treat the same column the later wins."""
    merged = TableRule()
    for rule in rules:
        if matches_any([rule.tables], table.schema, table.name):
            if "*" not in rule.tables:
                _require_columns(table, rule)
            merged = _followed(merged, rule)
    return merged


_LAST_WINS: Final = ("include_columns", "key", "topic", "on_error", "on_too_large")
"""Options of which the later rule's holds, where it has one."""


def _followed(earlier: TableRule, rule: TableRule) -> TableRule:
    """Both rules as one; what `rule` masks, hashes or truncates is none of the earlier's business any more."""
    hashed = {name for item in rule.hash for name in item.columns}
    treated = {*rule.mask, *rule.truncate, *hashed}
    kept = [item.model_copy(update={"columns": [n for n in item.columns if n not in treated]}) for item in earlier.hash]
    return earlier.model_copy(
        update={
            "exclude_columns": [*earlier.exclude_columns, *rule.exclude_columns],
            "mask": {**{n: size for n, size in earlier.mask.items() if n not in treated}, **rule.mask},
            "hash": [*kept, *rule.hash],
            "truncate": {**{n: size for n, size in earlier.truncate.items() if n not in treated}, **rule.truncate},
            "rename": {**earlier.rename, **rule.rename},
            "truncatable": [*earlier.truncatable, *rule.truncatable],
            "tell_types": [*earlier.tell_types, *rule.tell_types],
            "tell_types_of": [*earlier.tell_types_of, *rule.tell_types_of],
            **{n: getattr(rule, n) for n in _LAST_WINS if getattr(rule, n) is not None},
        }
    )


def _require_columns(table: Table, rule: TableRule) -> None:
    """Fail closed where a column that a rule hides has another name by now, so that it does not leak."""
    hidden = {*rule.mask, *rule.truncate, *rule.exclude_columns, *(name for item in rule.hash for name in item.columns)}
    gone = sorted(hidden - {column.name for column in table.columns})
    if gone:
        raise ConfigError(
            f"a rule hides column {gone[0]!r} of table {table}, which has no such column",
            hint="name the column as it is called now, or remove the rule, then start again",
        )


def _key_names(table: Table, rule: TableRule) -> tuple[str, ...]:
    return table.key if rule.key is None else tuple(rule.key)


def _selected(column: Column, rule: TableRule, key_names: Sequence[str]) -> bool:
    if column.name in key_names:
        return True
    if rule.include_columns is not None and column.name not in rule.include_columns:
        return False
    return column.name not in rule.exclude_columns


def _field(index: int, name: str, column: Column, base: Codec, compatibility: CompatibilityConfig) -> PlannedField:
    schema = base.schema
    default = (
        NO_DEFAULT
        if column.default is None
        else default_datum(column.default, column.type, base, compatibility.column_defaults)
    )
    if default is not NO_DEFAULT:
        schema = schema.with_default(default)
    if column.nullable or base.optional:
        schema = schema.as_optional()
    write = writer(schema)
    if not column.nullable:
        null_datum = base.zero if default is NO_DEFAULT else default
    elif default is not NO_DEFAULT and compatibility.null_with_default == "default":
        null_datum = default
    else:
        null_datum = None
    null = null_branch(schema) if null_datum is None else write(null_datum)
    # Types that are never TOASTed have no placeholder.
    unsent = null_datum if base.unavailable is None and not base.optional else base.unavailable
    return PlannedField(
        index,
        name,
        column,
        base,
        schema,
        value_branch(schema),
        null,
        null_datum,
        (null_branch(schema) if base.optional else null) if unsent is None else write(unsent),
        unsent,
    )


def _treated(table: Table, column: Column, base: Codec, rule: TableRule) -> Codec:
    """Return the column's codec behind its mask, hash or truncation."""
    hashes = [item for item in rule.hash if column.name in item.columns]
    masked, cut = column.name in rule.mask, column.name in rule.truncate
    if not (hashes or masked or cut):
        return base
    if base.schema.type != "string":
        raise ConfigError(
            f"column {column.name!r} of table {table} is of type {column.type.name}, which cannot be masked",
            hint="mask, hash and truncate take text columns; use exclude_columns for others",
        )
    if masked:
        mask = "*" * rule.mask[column.name]
        return _text_codec(base, lambda text: mask)
    if hashes:
        length = hash_length(column.type)
        item = hashes[-1]
        salted = hashlib.new(item.algorithm, item.salt.get_secret_value().encode())
        return _text_codec(base, partial(_digest, salted, length, base))
    length = rule.truncate[column.name]
    return _text_codec(base, lambda text: base.value(text)[:length])


def hash_length(pg: PgType) -> int | None:
    """To how many digits hashes in a column of the type are cut."""
    return pg.typmod - 4 if pg.name in ("varchar", "bpchar") and pg.typmod > 4 else None


def _digest(salted: hashlib._Hash, length: int | None, base: Codec, text: bytes) -> str:
    digest = salted.copy()
    digest.update(base.value(text).encode("utf-8"))
    return digest.hexdigest()[:length]


def _text_codec(base: Codec, value: object) -> Codec:
    return replace(codec(base.schema, value), zero=base.zero, unavailable=base.unavailable)  # type: ignore[arg-type]
