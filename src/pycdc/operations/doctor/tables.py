"""The tables: are there any, may they be read, and does publishing them do harm."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence

from pycdc.clients.quoting import quoted
from pycdc.config.pipeline import CapturePipeline
from pycdc.config.postgres_source import PostgresSourceConfig
from pycdc.connectors.postgres.catalog.metadata import TableMetadata, TableRef
from pycdc.connectors.postgres.catalog.privileges import TableRights
from pycdc.connectors.postgres.publication.writability import Failing
from pycdc.errors import PycdcError
from pycdc.operations.doctor.finding import Finding, failed, from_error, ok, warning
from pycdc.operations.humanize import plural
from pycdc.printable import lines

TABLES = "source.postgres.tables"


def match_findings(
    source: PostgresSourceConfig, captured: Sequence[TableRef], by_pattern: Sequence[int], all_tables: Iterable[str]
) -> Iterator[Finding]:
    """`by_pattern` has the number of tables for each pattern of the configuration."""
    for number, (pattern, count) in enumerate(zip(source.tables, by_pattern, strict=True)):
        if not count:
            yield (warning if captured else failed)(
                "a pattern matches no table", path=f"{TABLES}[{number}]", fix=_suggestion(pattern, all_tables)
            )
    if captured:
        names = ", ".join(map(str, captured[:3])) + (", …" if len(captured) > 3 else "")
        yield ok(f"{plural(len(captured), 'table')} to capture", names)
    elif any(by_pattern):
        yield failed("every table that matches is excluded", path="source.postgres.exclude_tables", fix="exclude fewer")


def _suggestion(pattern: str, all_tables: Iterable[str]) -> str:
    known = list(all_tables)
    wanted = pattern if "." in pattern else f"public.{pattern}"
    close = difflib.get_close_matches(wanted, known, 1)
    if close:
        return f"did you mean {close[0]}?"
    shown = ", ".join(known[:5]) + (", …" if len(known) > 5 else "")
    return f"tables there are: {shown}" if known else "create the tables first: the database has none"


def reading_findings(
    role: str, tables: Sequence[TableRef], rights: Mapping[int, TableRights], source: PostgresSourceConfig
) -> Iterator[Finding]:
    """Yield findings about rights: a snapshot selects; the stream alone needs no right to the tables."""
    if source.snapshot == "never":
        yield ok("no snapshot: no right to read the tables is needed")
        return
    known = [(table, rights[table.oid]) for table in tables if table.oid in rights]
    bad = 0
    for schema in sorted({table.schema for table, right in known if not right.reachable}):
        bad += 1
        yield failed(
            f"role {role} may not use schema {schema}",
            path=TABLES,
            fix=f"GRANT USAGE ON SCHEMA {quoted(schema)} TO {quoted(role)};",
        )
    for table, right in known:
        if not right.selectable:
            bad += 1
            yield failed(
                f"role {role} may not read {table}",
                path=TABLES,
                fix=f"GRANT SELECT ON {quoted(table.schema, table.name)} TO {quoted(role)};",
            )
        elif right.row_security:
            bad += 1
            yield failed(
                f"row security hides rows of {table} from role {role}",
                "the snapshot would miss them, the stream would not",
                path=TABLES,
                fix=f"ALTER ROLE {quoted(role)} BYPASSRLS;",
            )
    if not bad:
        yield ok(f"role {role} may read the tables")


def identity_findings(
    metadata: Iterable[TableMetadata], failing: Sequence[Failing], operations: frozenset[str]
) -> Iterator[Finding]:
    """Yield tables whose publication breaks the application, because Postgres then refuses UPDATEs: those `failing`."""
    bad = {found.table.oid: found for found in failing} if operations & {"update", "delete"} else {}
    for found in bad.values():
        yield failed(
            f"UPDATE and DELETE on {found.table} fail in the application once it is published",
            f"it {found.fact}",
            path=TABLES,
            fix=lines(f"{found.remedy};", f"-- or leave it out: source.postgres.exclude_tables: [{found.table}]"),
        )
    good = [table for table in metadata if table.oid not in bad]
    for table in good:
        if not table.key:
            name = f"{table.schema}.{table.name}"
            yield warning(
                f"{name} has no key: its records will have null keys",
                "no order by key, no compaction",
                path="rules[].key",
                fix=lines("rules:", f"  - tables: {name}", "    key: [ … ]"),
            )
    if good and not bad:
        yield ok("UPDATE and DELETE go on working: each table has a replica identity")


def rule_findings(
    config: CapturePipeline, errors: Iterable[PycdcError], unknown_types: Mapping[str, int]
) -> Iterator[Finding]:
    """`errors` are what making the tables' plans ended in."""
    reported = set()
    for error in errors:
        if error.fact not in reported:
            reported.add(error.fact)
            yield from_error(error, "rules")
    for name, count in sorted(unknown_types.items()):
        yield warning(
            f"type {name} has no codec ({plural(count, 'column')})",
            f"written as values.unknown_types says: {config.values.unknown_types}",
            path="values.unknown_types",
        )
    if config.rules and not reported:
        yield ok(f"the {plural(len(config.rules), 'rule')} fit the tables")
