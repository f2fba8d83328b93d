"""Checks of users' functions: whether they are there, and what they do to the tables' columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pycdc.config.pipeline import CapturePipeline, PipelineConfig
from pycdc.connectors.postgres.catalog.metadata import TableRef
from pycdc.errors import ConfigError
from pycdc.model.patterns import matches_any
from pycdc.operations.doctor.finding import Finding, failed, from_error, ok, warning
from pycdc.transforms.capture import declared_columns
from pycdc.transforms.functions import find


def function_findings(config: PipelineConfig) -> Iterator[Finding]:
    """Each function is imported, as a start would do."""
    for where, path in config.functions.items():
        try:
            find(path, where)
        except ConfigError as error:
            yield from_error(error, where)
        else:
            yield ok(f"function {path}")
    for index, transform in enumerate(config.transforms if isinstance(config, CapturePipeline) else ()):
        try:
            declared_columns(transform, f"transforms[{index}]")
        except ConfigError as error:
            yield from_error(error, f"transforms[{index}].columns")


def pattern_findings(config: CapturePipeline, tables: Iterable[TableRef]) -> Iterator[Finding]:
    """Yield patterns that no captured table has: each is a typing mistake, or a table to come."""
    names = [(table.schema, table.name) for table in tables]
    for index, transform in enumerate(config.transforms):
        for pattern in transform.tables:
            if any(matches_any([pattern], *name) for name in names):
                continue
            path = f"transforms[{index}].tables"
            if "*" in pattern:
                yield warning(f"no captured table matches {pattern} yet", path=path)
            else:
                yield failed(f"table {pattern} is not captured", path=path, fix="correct the name, or remove it")
