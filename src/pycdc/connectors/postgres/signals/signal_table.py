"""The table whose inserted rows are signals: what it must be, and how to make it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pycdc.clients.quoting import quoted
from pycdc.config.pipeline import CapturePipeline
from pycdc.connectors.postgres.catalog.catalog import Catalog
from pycdc.connectors.postgres.catalog.metadata import TableMetadata, TableRef
from pycdc.errors import EnvironmentNotReady

_TEXTS: Final = {"varchar", "text", "bpchar"}


def create_table_sql(schema: str, name: str) -> str:
    return f"CREATE TABLE {quoted(schema, name)} (id varchar(64) PRIMARY KEY, type varchar(32), data varchar(2048))"


def with_signal_table(config: CapturePipeline, catalog: Catalog, tables: Sequence[TableRef]) -> list[TableRef]:
    """Return what is published: the captured tables and that of the signals. Raises EnvironmentNotReady without it."""
    named = config.signals.schema_and_table
    if named is None or any((ref.schema, ref.name) == named for ref in tables):
        return list(tables)
    found = signal_table(config, catalog)
    if found is None:
        raise EnvironmentNotReady(
            f"signal table {'.'.join(named)} does not exist",
            hint=f"let its owner run: {create_table_sql(*named)}; or remove signals.table",
        )
    return [*tables, found]


def signal_table(config: CapturePipeline, catalog: Catalog) -> TableRef | None:
    named = config.signals.schema_and_table
    found = [] if named is None else catalog.tables([".".join(named)])
    return next((ref for ref in found if (ref.schema, ref.name) == named), None)


def misfit(metadata: TableMetadata) -> str:
    """Why a table cannot take signals; "" where it can."""
    if metadata.kind == "p":
        return "it is partitioned"
    first = list(metadata.columns.values())[:3]
    if len(first) < 3 or any(column.type.name not in _TEXTS for column in first):
        return "its first three columns are not the texts id, type and data"
    return ""
