"""Random tables with random constraints, and the SQL that makes them. Knows Postgres only, nothing of the product."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.chaos.random_values import COLLATION, DOMAINS, ENUM, TYPES, ColumnType, quoted

ONLY = os.environ.get("PYCDC_CHAOS_TYPES")
"""Types to narrow a fault down to, with commas between."""
ACTIONS = ("NO ACTION", "RESTRICT", "CASCADE", "SET NULL", "SET DEFAULT")
TOASTED_COLUMNS = 0.5
RARELY = 0.01
"""What is refused by name, for each table that may have it: enough to see that it is."""
FREE = ("smallint", "int", "bigint", "text", "uuid")
"""Types of which there is a value that no row has: rows exchange keys of no others."""
LOOSE = ("citext", "numeric")
"""Types whose values are equal in several texts: as keys they need an order of all records."""
INT = next(one for one in TYPES if one.sql == "int")
TEXT = next(one for one in TYPES if one.sql == "text")


@dataclass(frozen=True, slots=True)
class Column:
    """`extra` is SQL behind the type: a collation, GENERATED. `written` columns take values from applications."""

    name: str
    type: ColumnType
    nullable: bool = True
    extra: str = ""
    written: bool = True
    unique: bool = False

    @property
    def sql(self) -> str:
        return f'"{self.name}" {self.type.sql} {self.extra}{"" if self.nullable else " NOT NULL"}'


@dataclass(frozen=True, slots=True)
class Reference:
    """A foreign key: `columns` to the key of `parent`."""

    columns: tuple[str, ...]
    parent: Table
    action: str
    on_update: str
    deferrable: bool


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """`identity` is DEFAULT, FULL or INDEX; `identity_columns` are in every old row: a route's key."""

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    identity: str
    references: tuple[Reference, ...] = ()
    partitioned: bool = False
    deferrable_unique: bool = False
    trigger: bool = False
    storage: str = "EXTERNAL"
    keyed_otherwise: bool = False
    deferrable_key: bool = False

    def column(self, name: str) -> Column:
        return next(column for column in self.columns if column.name == name)

    @property
    def route_key(self) -> tuple[str, ...]:
        return ("sku",) if self.identity == "INDEX" or self.keyed_otherwise else self.key

    @property
    def message_key(self) -> tuple[str, ...]:
        return ("sku",) if self.identity == "INDEX" else self.key

    @property
    def unique(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns if column.unique)

    def ddl(self, *, source: bool) -> Iterator[str]:
        """What makes the table; triggers and the identity of old rows are the source's own."""
        lines = [column.sql for column in self.columns]
        late_key = " DEFERRABLE INITIALLY DEFERRED" if self.deferrable_key and source else ""
        lines.append(f"PRIMARY KEY ({_names(self.key)}){late_key}")
        wait = " DEFERRABLE INITIALLY DEFERRED" if self.deferrable_unique else ""
        lines += [f'UNIQUE ("{name}"){wait if name != "sku" else ""}' for name in self.unique]
        for one in self.references:
            late = " DEFERRABLE INITIALLY DEFERRED" if one.deferrable else ""
            lines.append(
                f'FOREIGN KEY ({_names(one.columns)}) REFERENCES "{one.parent.name}" '
                f"ON DELETE {one.action} ON UPDATE {one.on_update}{late}"
            )
        by = f" PARTITION BY HASH ({_names(self.key)})" if self.partitioned else ""
        yield f'CREATE TABLE "{self.name}" ({", ".join(lines)}){by}'
        parts = [f"{self.name}_{number}" for number in range(2)] if self.partitioned else []
        for number, part in enumerate(parts):
            yield f'CREATE TABLE "{part}" PARTITION OF "{self.name}" FOR VALUES WITH (MODULUS 2, REMAINDER {number})'
        for column in self.columns:
            if column.type.toast is not None:
                for name in (self.name, *parts):
                    yield f'ALTER TABLE "{name}" ALTER "{column.name}" SET STORAGE {self.storage}'
        if source:
            yield from self._identity(parts)
            yield from self._trigger()

    def _identity(self, parts: Sequence[str]) -> Iterator[str]:
        for name in (self.name, *parts):
            if self.identity == "FULL":
                yield f'ALTER TABLE "{name}" REPLICA IDENTITY FULL'
            elif self.identity == "INDEX":
                yield f'ALTER TABLE "{name}" REPLICA IDENTITY USING INDEX "{name}_sku_key"'

    def _trigger(self) -> Iterator[str]:
        if self.trigger:
            yield (
                f'CREATE FUNCTION "{self.name}_changed"() RETURNS trigger LANGUAGE plpgsql AS '
                "$$BEGIN NEW.touched := coalesce(NEW.touched, 0) + 1; RETURN NEW; END$$"
            )
            yield (
                f'CREATE TRIGGER changed BEFORE INSERT OR UPDATE ON "{self.name}" '
                f'FOR EACH ROW EXECUTE FUNCTION "{self.name}_changed"()'
            )

    @property
    def comparison(self) -> str:
        """One text a row; the same for two rows exactly where the database holds them to be the same."""
        parts = (f"coalesce({column.type.compare.format(c=_quoted(column.name))}, '<NULL>')" for column in self.columns)
        return f"SELECT concat_ws(' | ', {', '.join(parts)}) FROM \"{self.name}\""

    @property
    def keys(self) -> str:
        """The literals of a row's key, with its columns' types."""
        return ", ".join(f"quote_literal(\"{name}\") || '::{self.column(name).type.sql}'" for name in self.key)


@dataclass(frozen=True, slots=True)
class Schema:
    """`toast` says whether values are written that are TOASTed, `ordered` whether topics have one partition."""

    toast: bool
    ordered: bool
    tables: tuple[Table, ...]
    extensions: tuple[str, ...]
    prelude: tuple[str, ...]

    def ddl(self, *, source: bool) -> Iterator[str]:
        for name in self.extensions:
            yield f"CREATE EXTENSION IF NOT EXISTS {name}"
        yield from self.prelude
        for table in self.tables:
            yield from table.ddl(source=source)


def random_schema(
    chance: random.Random, features: Sequence[str], exact: frozenset[str], *, tied: bool, toast: bool, ordered: bool
) -> Schema:
    """Three to five tables. With `tied` some refer to earlier ones, and columns beside the key are unique.

    `features` are extensions, and `icu`; `exact` has the options that types may need. `toast`: values are TOASTed.
    `ordered`: topics have one partition.
    """
    # A few types a round, so that one that is refused does not hide what happens to the others.
    known = [one for one in TYPES if not one.needs or one.needs in features or one.needs in exact]
    if ONLY:
        known = [one for one in known if one.sql in ONLY.split(",")]
    types = chance.sample(known, min(len(known), chance.choice((3, 6, 12))))
    tables: list[Table] = []
    for number in range(chance.randint(3, 5)):
        parents = [table for table in tables if not (table.partitioned or table.deferrable_key)]
        loose = ordered or chance.random() < RARELY
        tables.append(_table(chance, f"t{number}", types, parents, folded="icu" in features, tied=tied, loose=loose))
    collations = (COLLATION,) if "icu" in features else ()
    extensions = tuple(name for name in features if name != "icu")
    return Schema(toast, ordered, tuple(tables), extensions, (ENUM, *DOMAINS, *collations))


def _table(
    chance: random.Random,
    name: str,
    types: Sequence[ColumnType],
    parents: Sequence[Table],
    *,
    folded: bool,
    tied: bool,
    loose: bool,
) -> Table:
    key = _key_columns(chance, types, folded=folded and loose, loose=loose)
    identity = chance.choice(("DEFAULT", "DEFAULT", "FULL", "INDEX" if tied else "FULL"))
    columns = list(key)
    if identity == "INDEX" or (tied and chance.random() < 0.4):
        columns.append(Column("sku", INT, nullable=False, unique=True))
    if tied and chance.random() < 0.4:
        columns.append(Column("place", chance.choice((INT, TEXT)), unique=True))
    references = []
    if tied and parents and chance.random() < 0.7:
        reference, own = _reference(chance, chance.choice(parents))
        references.append(reference)
        columns += own
    columns += _plain_columns(chance, types)
    trigger = chance.random() < 0.2
    if trigger:
        columns.append(Column("touched", INT))
    if chance.random() < 0.2:
        columns.append(Column("made", INT, nullable=False, extra="GENERATED BY DEFAULT AS IDENTITY", written=False))
    partitioned = chance.random() < 0.15 and not any(column.unique for column in columns) and identity != "INDEX"
    # From Postgres 18 on, a table with both refuses every UPDATE once it is published.
    if identity != "FULL" and chance.random() < 0.2:
        columns.append(Column("twice", INT, extra="GENERATED ALWAYS AS (length('x')) STORED", written=False))
    keyed_otherwise = chance.random() < (0.3 if identity == "FULL" and loose else RARELY)
    # Without the whole old row, Postgres refuses changes of a published table whose only key is deferrable.
    exchanges = identity == "FULL" and not partitioned and any(column.type.sql in FREE for column in key)
    return Table(
        name,
        tuple(columns),
        tuple(column.name for column in key),
        identity,
        tuple(references),
        partitioned,
        deferrable_unique=chance.random() < 0.3,
        trigger=trigger,
        storage=chance.choice(("EXTERNAL", "EXTENDED")),
        # Only FULL tells the old value of another key than the message's, and only one partition has an order of both.
        keyed_otherwise=keyed_otherwise and any(column.name == "sku" for column in columns),
        deferrable_key=exchanges and chance.random() < 0.5,
    )


def _key_columns(chance: random.Random, types: Sequence[ColumnType], *, folded: bool, loose: bool) -> list[Column]:
    fit = [one for one in types if one.key and (loose or one.sql not in LOOSE)]
    if not fit or chance.random() < 0.4:
        fit = [INT]
    chosen = [chance.choice(fit) for _ in range(1 if chance.random() < 0.7 else 2)]
    return [
        Column(
            "id" if number == 0 else f"id{number}",
            one,
            nullable=False,
            extra=" COLLATE folded" if folded and one.sql in ("text", "varchar(10)") and chance.random() < 0.2 else "",
        )
        for number, one in enumerate(chosen)
    ]


def _reference(chance: random.Random, parent: Table) -> tuple[Reference, list[Column]]:
    action, on_update = chance.choice(ACTIONS), "NO ACTION"
    if chance.random() < RARELY:
        on_update = "CASCADE"
    columns = tuple(f"of_{name}" for name in parent.key)
    # An action that clears needs columns that may be clear.
    nullable = action.startswith("SET") or chance.random() < 0.5
    made = [
        Column(name, parent.column(of).type, nullable, parent.column(of).extra)
        for name, of in zip(columns, parent.key, strict=True)
    ]
    return Reference(columns, parent, action, on_update, chance.random() < 0.3), made


def _plain_columns(chance: random.Random, types: Sequence[ColumnType]) -> list[Column]:
    toasted = [one for one in types if one.toast is not None] or [TEXT]
    out = []
    for number in range(chance.randint(2, 7)):
        kind = chance.choice(toasted if chance.random() < TOASTED_COLUMNS else types)
        out.append(Column(f"c{number}", kind, nullable=chance.random() < 0.6))
    return out


def value(chance: random.Random, column: Column, *, small: bool = False) -> str:
    """A literal for the column, NULL among them; a third of what can be TOASTed is."""
    if column.nullable and chance.random() < 0.15:
        return "NULL"
    if column.unique or column.name.startswith("id"):
        return _key_value(chance, column)
    kind = column.type
    make = kind.toast if kind.toast is not None and not small and chance.random() < 0.35 else kind.generate
    return f"{quoted(make(chance))}::{kind.sql}"


def _key_value(chance: random.Random, column: Column) -> str:
    """Out of few values where the type is small, so that keys come again."""
    kind = column.type
    text = str(chance.randint(0, 60)) if kind.sql in ("smallint", "int", "bigint") else kind.generate(chance)
    return f"{quoted(text)}::{kind.sql}"


def _names(columns: Sequence[str]) -> str:
    return ", ".join(map(_quoted, columns))


def _quoted(name: str) -> str:
    return f'"{name}"'
