"""`pycdc run`: run a pipeline until it is told to stop.

What only some pipelines need is imported where it is needed: imports are most of what a start takes.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec

import click

from pycdc.api import Pipeline
from pycdc.cli import gc_tuning as collector
from pycdc.cli.app import error_report
from pycdc.cli.arguments import load_config
from pycdc.cli.pipeline_runner import View, execute
from pycdc.cli.progress_log import ProgressLog
from pycdc.config import validate_capture
from pycdc.config.pipeline import ApplyPipeline, CapturePipeline, PipelineConfig
from pycdc.connectors.postgres.catalog.catalog import Catalog
from pycdc.connectors.postgres.publication.published_identity import failing_parts
from pycdc.connectors.postgres.publication.writability import failing
from pycdc.errors import EnvironmentNotReady
from pycdc.observability import logs
from pycdc.observability.logger import get_logger
from pycdc.observability.progress import Progress
from pycdc.observability.server import StatusServer
from pycdc.operations.humanize import plural
from pycdc.operations.parked_monitor import ParkedMonitor
from pycdc.operations.slot_monitor import SlotMonitor
from pycdc.operations.stored_position import shown

if TYPE_CHECKING:
    from pycdc.cli.dry_run import StartOption

log = get_logger()

P = ParamSpec("P")


def _errors_as_lines(command: Callable[P, None]) -> Callable[P, None]:
    """Write what ends the command as a line of JSON as well, with ``--log-format json``."""

    @wraps(command)
    def wrapped(*args: P.args, **options: P.kwargs) -> None:
        if options["log_format"] != "json" or options["dry_run"]:
            command(*args, **options)
            return
        logs.configure("json")
        try:
            command(*args, **options)
        except click.exceptions.Exit:
            raise
        except Exception as error:
            found = error_report(error)
            traced = found.kind == "unexpected" and bool(click.get_current_context().find_root().params.get("debug"))
            (log.exception if traced else log.error)("failed", error=found.kind, fact=found.fact, hint=found.hint)
            click.get_current_context().exit(found.code)

    return wrapped


@click.command()
@click.argument("path", metavar="[CONFIG]", required=False)
@click.option("--dsn", envvar="PYCDC_DSN", help="Without CONFIG: the source's connection string.  [env: PYCDC_DSN]")
@click.option("--table", "tables", multiple=True, help="Without CONFIG: a table or pattern; may be repeated.")
@click.option("--sink", type=click.Choice(["console", "null"]), help="Without CONFIG: where to.  [default: console]")
@click.option("--snapshot", type=click.Choice(["initial", "never", "only"]), help="Without CONFIG.  [default: initial]")
@click.option("--name", help="Without CONFIG: slot and publication are called pycdc_NAME.  [default: try]")
@click.option("--keep", is_flag=True, help="Without CONFIG: leave slot and publication at the end.")
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("--live/--no-live", default=None, help="Show a live view.  [default: on a terminal]")
@click.option("--dry-run", is_flag=True, help="Print the SQL that would be executed (from Kafka only).")
@click.option("--from", "start", type=click.Choice(["stored", "earliest"]), help="With --dry-run.  [default: stored]")
@click.option("--limit", type=click.IntRange(min=1), help="With --dry-run: records.  [default: all there are]")
@click.option("--no-values", is_flag=True, help="With --dry-run: leave the values out.")
@click.option("--json", "as_json", is_flag=True, help="With --dry-run: a line of JSON for each record.")
@click.pass_context
@_errors_as_lines
def run(
    ctx: click.Context,
    path: str | None,
    dsn: str | None,
    tables: tuple[str, ...],
    sink: str | None,
    snapshot: str | None,
    name: str | None,
    keep: bool,
    log_format: logs.Format,
    live: bool | None,
    dry_run: bool,
    start: StartOption | None,
    limit: int | None,
    no_values: bool,
    as_json: bool,
) -> None:
    """Run a pipeline.

    That of CONFIG, or one without a file: `--dsn … --table public.users` prints changes until Ctrl-C, and leaves
    nothing behind.

    SIGTERM, SIGINT (Ctrl-C) and SIGHUP deliver what was read, store the position and end it; a second SIGTERM or SIGINT
    ends it at once. Nothing is loaded again: restart it for another configuration.

    With --dry-run, a pipeline that reads Kafka reads what it would read next up to the end of the topics, and prints
    the SQL of each record, for psql: it writes nothing, joins no group and takes nothing over. What only the database
    would refuse (a constraint, a trigger) is not found. The exit code is 1 if a record would stop the pipeline.
    """
    at_hand = {"--table": tables, "--sink": sink, "--snapshot": snapshot, "--name": name, "--keep": keep}
    if not dry_run:
        _refuse(ctx, {"--from": start, "--limit": limit, "--no-values": no_values, "--json": as_json}, "for --dry-run")
    passing: CapturePipeline | None = None
    config: PipelineConfig
    if path is not None:
        _refuse(ctx, at_hand, "for running without CONFIG")
        config = load_config(path)
    else:
        config = trial = _without_file(ctx, dsn, tables, sink, snapshot, name)
        passing = None if keep else trial
    if dry_run:
        from pycdc.cli.dry_run import dry_run as preview

        logs.configure(level=logging.ERROR)
        ctx.exit(preview(config, start=start or "stored", limit=limit, values=not no_values, as_json=as_json))
    shown = _shows_live(config, live)
    debug = bool(ctx.find_root().params.get("debug"))
    quiet = shown or _console_on_terminal(config)
    logs.configure(log_format, logging.DEBUG if debug else logging.WARNING if quiet else logging.INFO)
    with ExitStack() if passing is None else _leaving_nothing_behind(passing):
        _run(config, live=shown)


def _refuse(ctx: click.Context, options: dict[str, Any], purpose: str) -> None:
    given = [name for name, value in options.items() if value]
    if given:
        raise click.UsageError(f"{given[0]} is {purpose}", ctx)


def _without_file(
    ctx: click.Context,
    dsn: str | None,
    tables: tuple[str, ...],
    sink: str | None,
    snapshot: str | None,
    name: str | None,
) -> CapturePipeline:
    if not dsn or not tables:
        raise click.UsageError("give CONFIG, or --dsn and --table", ctx)
    return validate_capture(
        {
            "name": name or "try",
            "source": {"postgres": {"dsn": dsn, "tables": list(tables), "snapshot": snapshot or "initial"}},
            "sink": {sink or "console": {}},
            "http": {"enabled": False},
        }
    )


def _console_on_terminal(config: PipelineConfig) -> bool:
    return isinstance(config, CapturePipeline) and config.sink.console is not None and sys.stdout.isatty()


def _shows_live(config: PipelineConfig, wanted: bool | None) -> bool:
    """Rows and a live view on the same terminal would paint over each other."""
    return (sys.stderr.isatty() if wanted is None else wanted) and not _console_on_terminal(config)


def _run(config: PipelineConfig, *, live: bool) -> None:
    pipeline = Pipeline(config)
    collector.reduce_gc()
    progress = pipeline.progress
    with ExitStack() as stack:
        url = _served(config, progress, stack) if config.http.enabled else None
        if url is not None:
            log.info("serving metrics and health", url=url)
        if isinstance(config, CapturePipeline):
            stack.enter_context(SlotMonitor(config, progress))
            stack.enter_context(ParkedMonitor(config, progress))
        execute(pipeline, _view(config, progress, url, live=live))
    _say_where(progress, config)


def _served(config: PipelineConfig, progress: Progress, stack: ExitStack) -> str:
    """Serve the status until the stack ends; return where."""
    migration = None
    if config.http.migration is not None:
        from pycdc.operations.migration.service import MigrationService

        migration = stack.enter_context(MigrationService(config.http.migration))
    return stack.enter_context(StatusServer(config.http, progress, config.name, migration)).url


def _view(config: PipelineConfig, progress: Progress, url: str | None, *, live: bool) -> View:
    slot = config.slot if isinstance(config, CapturePipeline) else None
    if not live:
        return ProgressLog(progress)
    from pycdc.cli.live import LiveView

    return LiveView(config.name, slot, progress, url)


def _say_where(progress: Progress, config: PipelineConfig) -> None:
    position = shown(progress.position)
    log.info("stopped", position=position, events=progress.events)
    if sys.stderr.isatty():
        stored = f"position {position} is stored" if position and _keeps_position(config) else "no position is stored"
        click.echo(f"stopped: {plural(progress.events, 'event')} delivered, {stored}", err=True)


def _keeps_position(config: PipelineConfig) -> bool:
    return isinstance(config, ApplyPipeline) or any((config.offsets, config.sink.kafka))


@contextmanager
def _leaving_nothing_behind(config: CapturePipeline) -> Iterator[None]:
    """Drop slot and publication at the end, unless they were there before: a forgotten slot fills the server's disk."""
    from pycdc.operations.teardown import remove

    with Catalog(config.source.postgres.dsn.get_secret_value()) as catalog:
        found = catalog.slot(config.slot) is not None or catalog.publication(config.publication) is not None
        _refuse_to_do_harm(config, catalog)
    try:
        yield
    finally:
        if not found:
            for line in remove(config, force=True):
                log.info(line)


def _refuse_to_do_harm(config: CapturePipeline, catalog: Catalog) -> None:
    """Refuse a trial that breaks the application: UPDATE and DELETE fail on some tables once they are published."""
    options = config.source.postgres
    published = catalog.publication(config.publication)
    generated = published is not None and published.generated_columns
    tables = catalog.tables(options.tables, options.exclude_tables)
    fails = failing(catalog, tables, publishes_generated=generated)
    for found in fails + failing_parts(catalog, config.publication, tables):
        raise EnvironmentNotReady(
            f"{found.table} {found.fact}: while it is published, UPDATE and DELETE on it fail",
            hint=f"{found.remedy}; or leave it out of --table",
        )
