"""What to verify, and how."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Literal

from pycdc.config.pipeline import ApplyPipeline, CapturePipeline
from pycdc.errors import ConfigError
from pycdc.operations.verify.cut import VerifiedEnds


@dataclass(frozen=True, slots=True)
class VerifyOptions:
    """What is compared, and how.

    `tables` and `columns` are patterns and names of the target, empty for all. `digest` None: the fastest that both
    servers agree on.

    `capture` is the configuration of the pipeline that writes the topics; without it `source_dsn`, a secret, and `slot`
    name the source and the slot of whatever capture it has, whose topics are called as Debezium calls them.
    `sample` is the share of ranges that are compared, chosen by chance; a table of one range is compared whole.
    `max_rate` limits the rows that are read in a second. `max_differences` are kept with their keys, for each table,
    and with their values only if `values`. `timeout` is how many seconds a step may make no progress,
    `max_snapshot_age` how many a snapshot may be kept.
    """

    capture: CapturePipeline | None = None
    source_dsn: str | None = None
    slot: str | None = None
    other_apply: ApplyPipeline | None = None
    other_capture: CapturePipeline | None = None
    """The pipeline of the other direction, and its capture, where both databases are written."""
    tables: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    where: str | None = None
    """SQL over the target's columns: only rows for which it is true, on either side. Keys in flight are compared all
    the same."""
    two_passes: float | None = None
    """Compare twice with so many seconds between, in place of a consistent cut: neither slot nor offsets are needed,
    and the result is not exact."""
    digest: Literal["hashtext", "md5", "sha256"] | None = None
    sample: float = 1.0
    max_rate: float | None = None
    values: bool = False
    workers: int = 1
    """Processes that add up ranges of large tables, each by two sessions of its own."""
    executor: Callable[[], Executor] | None = field(default=None, repr=False)
    """What makes the executor that does it in place of processes, a cluster's for instance; functions and arguments
    are pickled, the DSNs among them."""
    max_differences: int = 1000
    timeout: float = 60.0
    max_snapshot_age: float = 600.0
    command: tuple[str, ...] = ()
    """The arguments of the command line, for the report; no secrets."""


def ends_of(config: ApplyPipeline, options: VerifyOptions) -> VerifiedEnds:
    """Return where both ends are reached. Raises ConfigError where the source is not named."""
    sink, capture = config.sink.postgres, options.capture
    dsn = options.source_dsn or (None if capture is None else capture.source.postgres.dsn.get_secret_value())
    slot = options.slot or ("" if options.two_passes is not None else None if capture is None else capture.slot)
    if dsn is None or slot is None:
        raise ConfigError(
            f"nothing says where the events of pipeline {config.name} come from",
            hint="name the capture's configuration with --capture, or --source-dsn and --slot",
        )
    target = sink.dsn.get_secret_value()
    return VerifiedEnds(dsn, target, slot, config.name, sink.bookkeeping, options.timeout)
