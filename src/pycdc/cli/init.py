"""`pycdc init`: look at a database, print a configuration for it."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass

import click

from pycdc.cli.init_reverse import print_reverse
from pycdc.cli.yaml_text import scalar
from pycdc.clients.quoting import quoted
from pycdc.connectors.postgres.catalog.catalog import Catalog
from pycdc.connectors.postgres.catalog.metadata import ServerMetadata, TableMetadata, TableRef
from pycdc.connectors.postgres.catalog.privileges import SourceInspection, TableRights
from pycdc.connectors.postgres.publication.writability import Failing, failing
from pycdc.errors import EnvironmentNotReady
from pycdc.observability import logs
from pycdc.operations.humanize import number, size
from pycdc.printable import printable

_IDENTITIES = {"f": "full row", "n": "nothing", "i": "index"}
"""Replica identities that are worth a word."""


@click.command()
@click.option("--dsn", required=True, envvar="PYCDC_DSN", help="Connection string of the database.  [env: PYCDC_DSN]")
@click.option("--name", help="Name of the pipeline and prefix of its topics.  [default: the database's name]")
@click.option("--brokers", default="localhost:9092", show_default=True, help="Kafka's addresses.")
@click.option("--registry", default="http://localhost:8081", show_default=True, help="URL of the schema registry.")
@click.option("--reverse", is_flag=True, help="From topics into the database.")
@click.option("--topic", "topics", multiple=True, help="With --reverse: a topic or pattern; may be repeated.")
@click.pass_context
def init(
    ctx: click.Context,
    dsn: str,
    name: str | None,
    brokers: str,
    registry: str,
    reverse: bool,
    topics: tuple[str, ...],
) -> None:
    """Print a configuration for a database.

    Looks at its tables and says what they need; those that capturing would do harm to are left out.
    The connection string is not written into it: the pipeline reads it from PYCDC_DSN.

    With --reverse: for a pipeline that writes what topics hold into tables. Looks at the topics' newest records and at
    the tables' columns, and proposes routes by their names. An empty --registry is for JSON without one.
    """
    logs.configure(level=logging.ERROR)
    if reverse != bool(topics):
        raise click.UsageError("--reverse and --topic go together", ctx)
    if reverse:
        print_reverse(dsn, name or "back", brokers, registry or None, topics)
        return
    with Catalog(dsn) as catalog:
        server = catalog.server()
        tables = _inspected(catalog, SourceInspection(dsn))
    if tables and all(table.failing for table in tables):
        raise EnvironmentNotReady(
            "publishing any table would make its UPDATE and DELETE fail: none has a replica identity that serves",
            hint="; ".join(table.failing.remedy for table in tables[:3] if table.failing),
        )
    for warning in _warnings(server, tables):
        click.echo(f"{click.style('warning', fg='yellow')}: {printable(warning)}", err=True)
    click.echo("\n".join(_lines(name or _slug(server.database), brokers, registry, server, tables)))


@dataclass(frozen=True, slots=True)
class Inspected:
    ref: TableRef
    metadata: TableMetadata
    rights: TableRights | None
    failing: Failing | None

    def __str__(self) -> str:
        return str(self.ref)


def _inspected(catalog: Catalog, inspection: SourceInspection) -> list[Inspected]:
    """Return all tables but partitions, which come with their root."""
    refs = [ref for ref in catalog.tables(["*.*"]) if not ref.is_partition]
    rights = inspection.tables([ref.oid for ref in refs])
    metadata = catalog.metadata_of([ref.oid for ref in refs])
    fails = {found.table.oid: found for found in failing(catalog, refs)}
    return [
        Inspected(ref, metadata[ref.oid], rights.get(ref.oid), fails.get(ref.oid))
        for ref in refs
        if ref.oid in metadata
    ]


def _slug(database: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]", "_", database)[:40] or "pipeline"


def _warnings(server: ServerMetadata, tables: list[Inspected]) -> Iterator[str]:
    if server.wal_level != "logical":
        yield f"wal_level is {server.wal_level}; run: ALTER SYSTEM SET wal_level = 'logical', then restart the server"
    if not server.role_replicates:
        yield f"role {server.role} has no REPLICATION; run: ALTER ROLE {quoted(server.role)} REPLICATION"
    if not tables:
        yield f"database {server.database} has no tables yet"
    for table in tables:
        if table.failing:
            yield (
                f"{table} is left out: it {table.failing.fact}, and publishing it would make UPDATE and DELETE "
                f"on it fail; run: {table.failing.remedy}"
            )


def _lines(name: str, brokers: str, registry: str, server: ServerMetadata, tables: list[Inspected]) -> Iterator[str]:
    version = f"{server.version // 10_000}.{server.version % 10_000}"
    yield f"# A pipeline from database {printable(server.database)} on Postgres {version} to Kafka."
    yield "#"
    yield "#   export PYCDC_DSN='host=… dbname=… user=… password=…'"
    yield f"#   pycdc doctor {name}.yaml     what is missing, and how to mend it"
    yield f"#   pycdc run {name}.yaml"
    yield "#"
    yield "# All options: docs/configuration.md, or `pycdc schema` for your editor."
    yield ""
    yield f"name: {scalar(name)}  # topics are called {name}.schema.table"
    yield ""
    yield "source:"
    yield "  postgres:"
    yield "    dsn: ${PYCDC_DSN}"
    yield from _table_lines(tables)
    if any(table.ref.kind == "p" for table in tables):
        yield "    via_partition_root: true  # partitions come under the name of their table"
    yield "    snapshot: initial  # the rows there are, then changes; `never` for changes only"
    yield ""
    yield "sink:"
    yield "  kafka:"
    yield f"    brokers: {scalar(brokers)}"
    yield f"    registry: {scalar(registry)}"
    yield "    format: avro  # json needs no registry"
    yield "    topics:"
    yield "      partitions: 1"
    yield ""
    yield "compatibility: honest  # `debezium` also repeats where Debezium loses information"


def _table_lines(tables: list[Inspected]) -> Iterator[str]:
    if not tables:
        yield '    tables: ["public.*"]'
        return
    yield "    tables:"
    entries = [(f"- {scalar(str(table))}", table) for table in tables]
    width = max(len(entry) for entry, _ in entries)
    for entry, table in entries:
        if not table.failing:
            yield f"      {entry:<{width}}  # {_described(table)}"
    left_out = [(entry, table) for entry, table in entries if table.failing]
    if left_out:
        yield "      # Their replica identity does not serve: once published, UPDATE and DELETE on these fail."
        for entry, table in left_out:
            yield f"      # {entry:<{width}}  # {_described(table)}"


def _described(table: Inspected) -> str:
    key = f"key {printable(', '.join(table.metadata.key))}" if table.metadata.key else "no key"
    rows = "never analysed" if table.ref.rows_estimate is None else f"~{number(table.ref.rows_estimate)} rows"
    parts = [key, rows]
    if table.rights is not None and table.rights.size is not None:
        parts.append(size(table.rights.size))
    if table.metadata.identity in _IDENTITIES:
        parts.append(f"replica identity {_IDENTITIES[table.metadata.identity]}")
    return ", ".join(parts)
