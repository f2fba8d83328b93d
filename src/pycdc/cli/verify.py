"""`pycdc verify`: whether a pipeline's tables are as its source says. 0: equal, 1: differences, 2: not verified."""

from __future__ import annotations

import json
import logging
import re
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import click

from pycdc.cli.app import print_error
from pycdc.cli.arguments import load_config, print_json
from pycdc.config.pipeline import PipelineConfig, require_apply, require_capture
from pycdc.config.runtime import HttpConfig
from pycdc.errors import ConfigError, PycdcError
from pycdc.observability import logs
from pycdc.observability.progress import Progress
from pycdc.operations.humanize import duration, number
from pycdc.operations.verify.capture_search import capture_beside
from pycdc.operations.verify.options import VerifyOptions
from pycdc.operations.verify.reports.json_report import document, read
from pycdc.operations.verify.result import Difference, TableResult, Verification
from pycdc.operations.verify.verification import verify as run_verification
from pycdc.operations.verify.watch import WatchSchedule, watch
from pycdc.printable import printable

_NOT_VERIFIED: Final = 2
_OF_RUN: Final = ("report", "as_json", "watching", "interval", "full_every", "http_port")
"""Options that say nothing of what is verified."""
_SHOWN: Final = 20
"""Differences of a table that are printed."""


class Share(click.ParamType[float]):
    """``1%``, ``0.5%``."""

    name = "percent"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        found = re.fullmatch(r"(\d+(?:\.\d+)?)%", value)
        if found is None or not 0 < float(found[1]) <= 100:
            self.fail(f"{value!r} is no percentage: write 1% or 0.5%", param, ctx)
        return float(found[1]) / 100


class _ConfigOrCommand(click.Group):
    """A group whose first argument may be a configuration, which is then verified."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.commands:
            args = ["run", *args]
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except PycdcError as error:
            print_error(error.fact, error.hint)
            return _NOT_VERIFIED


@click.group(cls=_ConfigOrCommand)
def verify() -> None:
    """Compare the tables that a pipeline writes with those that its events come from, while both are written.

    `pycdc verify CONFIG` is short for `pycdc verify run CONFIG`. Exit codes: 0 equal, 1 differences, 2 not verified.
    """
    logs.configure(level=logging.ERROR)


@verify.command()
@click.argument("path", metavar="CONFIG", type=click.Path(path_type=str))
@click.option("--capture", metavar="CONFIG", help="The capture that writes the topics. Default: the one beside CONFIG.")
@click.option("--source-dsn", envvar="PYCDC_SOURCE_DSN", help="The source, where another capture reads it.")
@click.option("--slot", help="With --source-dsn: that capture's replication slot.")
@click.option("--other", metavar="CONFIG", help="The pipeline of the other direction, where both sides are written.")
@click.option("--table", "tables", multiple=True, help="Only tables of the target that match, `schema.table`.")
@click.option("--column", "columns", multiple=True, help="Only these columns, and always those of the key.")
@click.option("--where", metavar="SQL", help="Only rows for which this is true, over the target's columns.")
@click.option(
    "--two-passes",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="Not exact: compare twice with a pause between. Needs neither slot nor offsets.",
)
@click.option("--sample", type=Share(), default="100%", metavar="PERCENT", help="Compare only a part of the ranges.")
@click.option(
    "--max-rate", type=click.FloatRange(min=1), metavar="ROWS", help="Rows that are read in a second at most."
)
@click.option(
    "--workers", type=click.IntRange(min=1), default=1, show_default=True, help="Processes that add up ranges of keys."
)
@click.option("--digest", type=click.Choice(["hashtext", "md5", "sha256"]), help="Default: the fastest that both have.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0.1),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="How long a step may make no progress.",
)
@click.option(
    "--max-snapshot-age",
    type=click.FloatRange(min=1),
    default=600.0,
    show_default=True,
    metavar="SECONDS",
    help="After that, snapshots are taken anew between ranges.",
)
@click.option("--values", is_flag=True, help="Keep and show the values of columns that differ.")
@click.option("--report", type=click.Path(path_type=Path), metavar="DIR", help="Write report.json, .html, junit.xml.")
@click.option("--json", "as_json", is_flag=True, help="Print the report's JSON; with --watch a line each.")
@click.option("--watch", "watching", is_flag=True, help="Go on, with what events touched since, until interrupted.")
@click.option(
    "--interval", type=click.FloatRange(min=0.1), default=30.0, show_default=True, help="Of --watch: seconds between."
)
@click.option(
    "--full-every",
    type=click.FloatRange(min=1),
    default=3600.0,
    show_default=True,
    help="Of --watch: seconds after which everything is verified again.",
)
@click.option(
    "--http-port", type=click.IntRange(0, 65535), help="Of --watch: serve /metrics, /status and /healthz on 127.0.0.1."
)
def run(
    path: str,
    capture: str | None,
    report: Path | None,
    as_json: bool,
    watching: bool,
    interval: float,
    full_every: float,
    http_port: int | None,
    **given: Any,
) -> int:
    """Verify a pipeline."""

    def report_result(found: Verification) -> None:
        if report is not None:
            from pycdc.operations.verify.reports.report_folder import write_reports

            for written in write_reports(found, report):
                click.echo(f"wrote {written}", err=True)
        if as_json:
            print_json(document(found)) if not watching else click.echo(json.dumps(document(found)))
        else:
            show_verification(found)

    config, options = _options(path, capture, given)
    if watching:
        _watch(config, options, WatchSchedule(interval, full_every), report_result, http_port)
        return 0
    found = run_verification(config, options, _announce)
    report_result(found)
    return _exit_code(found)


def _watch(
    config: PipelineConfig,
    options: VerifyOptions,
    schedule: WatchSchedule,
    on_result: Callable[[Verification], None],
    http_port: int | None,
) -> None:
    progress = Progress()
    with ExitStack() as stack:
        if http_port is not None:
            from pycdc.observability.server import StatusServer

            settings = HttpConfig(port=http_port)
            server = stack.enter_context(StatusServer(settings, progress, f"{config.name} verify"))
            click.echo(f"serves {server.url}", err=True)
        watch(config, options, schedule, on_result, progress=progress, stop=threading.Event(), announce=_announce)


def _exit_code(found: Verification) -> int:
    return 0 if found.equal else 1 if found.differs else _NOT_VERIFIED


def _options(path: str, capture: str | None, given: dict[str, Any]) -> tuple[PipelineConfig, VerifyOptions]:
    config = load_config(path)
    if capture is not None:
        given["capture"] = require_capture(load_config(capture))
    elif given.get("source_dsn") is None:
        given["capture"] = capture_beside(Path(path), config)
    command = [path]
    command += [] if capture is None else ["--capture", capture]
    command += [] if given["slot"] is None else ["--slot", given["slot"]]
    other = given.pop("other", None)
    if other is not None:
        command += ["--other", other]
        given["other_apply"] = require_apply(load_config(other))
        given["other_capture"] = capture_beside(Path(other), given["other_apply"])
    for name in ("where", "two_passes"):
        if given[name] is not None:
            command += [f"--{name.replace('_', '-')}", str(given[name])]
    for name in ("table", "column"):
        for value in given[f"{name}s"]:
            command += [f"--{name}", value]
    return config, VerifyOptions(**given, command=tuple(command))


@verify.command()
@click.argument("path", metavar="REPORT", type=click.Path(path_type=Path))
def show(path: Path) -> int:
    """Show a report: report.json or its folder."""
    found = read(path)
    show_verification(found)
    return _exit_code(found)


@verify.command()
@click.argument("path", metavar="REPORT", type=click.Path(path_type=Path))
@click.option("--source-dsn", envvar="PYCDC_SOURCE_DSN", help="The source, if the report's verification was given one.")
def rerun(path: Path, source_dsn: str | None) -> int:
    """Verify what a report verified once more, from the same folder; say what is left of its differences."""
    reported, found = _again(path, source_dsn)[:2]
    show_verification(found)
    before, now = ({(d.table, d.kind, *d.key.values()) for d in one.differences} for one in (reported, found))
    click.echo(f"{len(before & now)} of {len(before)} differences are still there, {len(now - before)} are new")
    return _exit_code(found)


@verify.command()
@click.argument("path", metavar="REPORT", type=click.Path(path_type=Path))
@click.option("--dry-run", is_flag=True, help="Print what would be asked for.")
def repair(path: Path, dry_run: bool) -> int:
    """Have the capture send the rows again that are missing or changed, if they still are.

    They take the way of all events: order, marks and conflict rules hold. Rows that are too many are printed as DELETE
    statements, and left to you.
    """
    from pycdc.operations.verify.repair import plan_repair, send_repair

    reported, found, options = _again(path, None)
    plan = plan_repair(reported, found)
    if options.capture is None:
        raise ConfigError(
            "another capture than pycdc's cannot be asked for rows here", hint="use its own signals to read them again"
        )
    for signal in plan.signals if dry_run else ():
        click.echo(printable(f"snapshot of {', '.join(signal.tables)} where {signal.where}"))
    running = dry_run or send_repair(plan, options.capture)
    for statement in plan.deletes:
        click.echo(printable(statement))
    asked = "would be asked for" if dry_run else "were asked for"
    click.echo(f"{plan.rows} rows {asked}, {len(plan.deletes)} are too many, {plan.left} are left alone")
    if not running:
        click.echo("the capture does not run, and obeys when it is started", err=True)
    return 0


def _again(path: Path, source_dsn: str | None) -> tuple[Verification, Verification, VerifyOptions]:
    """Return the reported verification, a new one, and its options."""
    reported = read(path)
    if not reported.command:
        raise ConfigError("the report does not say what was verified", hint="call `pycdc verify CONFIG`")
    given = run.make_context("run", list(reported.command)).params
    config, capture = given.pop("path"), given.pop("capture")
    given = {name: value for name, value in given.items() if name not in _OF_RUN}
    options = _options(config, capture, {**given, "source_dsn": source_dsn})
    return reported, run_verification(*options, _announce), options[1]


def _announce(text: str) -> None:
    click.echo(click.style(f"{printable(text)} …", dim=True), err=True)


def show_verification(found: Verification) -> None:
    """Print a verification for people."""
    outcome = "equal" if found.equal else "differences" if found.differs else "not verified"
    verdict = click.style(outcome, fg="green" if found.equal else "red")
    click.echo(f"{click.style(printable(found.pipeline), bold=True)}: {verdict}, {duration(found.seconds)}")
    if not found.exact:
        click.secho("  not exact: two passes without a common point", fg="yellow")
    for table in found.tables:
        _show_table(table)
    for name, reason in found.left_out.items():
        click.echo(printable(f"  {name} is left out: {reason}"))


def _show_table(table: TableResult) -> None:
    counts = ", ".join(f"{number(count)} {kind.value}" for kind, count in sorted(table.differing.items()))
    counted = [
        f"{number(table.source_rows)} rows",
        f"{number(table.in_flight)} keys in flight",
        counts or ("equal" if table.equal else "not compared"),
    ]
    click.echo(printable(f"  {table.table}: {', '.join(counted)}"))
    if table.problem is not None:
        click.echo(printable(f"    {table.problem}"))
    if table.why_routed is not None:
        click.echo(printable(f"    through the route's code: {table.why_routed}"))
    for note in table.notes:
        click.echo(printable(f"    {note}"))
    for one in table.differences[:_SHOWN]:
        click.echo(printable(f"    {_difference(one)}"))
    rest = sum(table.differing.values()) - min(_SHOWN, len(table.differences))
    if rest > 0:
        click.echo(f"    and {number(rest)} more")


def _difference(one: Difference) -> str:
    key = ", ".join(f"{name} {value}" for name, value in one.key.items())
    parts = [f"{one.kind.value:<8} {key}"]
    if one.source is not None and one.target is not None:
        parts += [
            f"{name}: {_value(one.source[name])} in the source, {_value(one.target.get(name))} in the target"
            for name in one.source
        ]
    elif one.columns:
        parts.append(f"columns {', '.join(one.columns)}")
    if one.explanation is not None:
        parts.append(one.explanation)
    return "; ".join(parts)


def _value(text: str | None) -> str:
    return "NULL" if text is None else repr(text)
