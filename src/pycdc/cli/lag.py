"""`pycdc lag`: how late a running pipeline is, measured as its users see it."""

from __future__ import annotations

import logging
import re
from typing import Any

import click

from pycdc.cli.arguments import config_argument, json_option, load_config, print_json
from pycdc.config.pipeline import ApplyPipeline
from pycdc.observability import logs
from pycdc.operations.humanize import number, size
from pycdc.operations.lag.capture import measure_capture
from pycdc.operations.lag.delays import DelaySummary, LagMeasurement
from pycdc.operations.lag.reverse import measure_reverse

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "": 1.0}
_MEANING = {
    "probe": "commit to Kafka, probes",
    "applied": "to the other database",
    "delivered": "commit to Kafka",
    "stored": "to the stored position",
}


class Duration(click.ParamType[float]):
    """``250ms``, ``1s``, ``1.5``, ``2m``."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float | int):
            return float(value)
        found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ms|s|m|)", value)
        if found is None or not float(found[1]):
            self.fail(f"{value!r} is no duration: write 250ms, 1s or 2m", param, ctx)
        return float(found[1]) * _UNITS[found[2]]


@click.command()
@config_argument
@click.option("--seconds", type=Duration(), default="10s", show_default=True, help="How long to watch.")
@click.option("--probe", is_flag=True, help="Commit logical messages and time their way: needs no other traffic.")
@click.option("--follow", metavar="CONFIG", help="With --probe: the pipeline that applies them to another database.")
@click.option("--fail-above", type=Duration(), help="Exit with 1 if the p99 is above it, or nothing was measured.")
@json_option
@click.pass_context
def lag(
    ctx: click.Context,
    path: str,
    seconds: float,
    probe: bool,
    follow: str | None,
    fail_above: float | None,
    as_json: bool,
) -> None:
    """Measure how late a running pipeline is.

    From a commit to its arrival in Kafka, or for an apply pipeline from a record to its row. Writes nothing
    without --probe.
    """
    config = load_config(path)
    other = None if follow is None else load_config(follow)
    logs.configure(level=logging.ERROR)
    if isinstance(config, ApplyPipeline) and (probe or follow):
        raise click.UsageError("an apply pipeline is measured by its own traffic, without --probe", ctx)
    click.echo(f"watching {config.name} for {seconds:g} s …", err=True)
    found = (
        measure_reverse(config, seconds=seconds)
        if isinstance(config, ApplyPipeline)
        else measure_capture(config, seconds=seconds, probe=probe, follow=other)
    )
    print_json(found.as_dict()) if as_json else _show(found)
    if fail_above is not None:
        _judge(ctx, found, fail_above)


def _show(found: LagMeasurement) -> None:
    state = {True: click.style("running", fg="green"), False: click.style("not running", fg="yellow"), None: ""}
    click.echo(f"{click.style(found.name, bold=True)}: {state[found.running]}".rstrip(": "))
    if found.delays:
        click.echo(f"  {'':<26}{'p50':>10}{'p90':>10}{'p99':>10}{'max':>10}{'samples':>10}")
    for name, summary in found.delays.items():
        click.echo(f"  {_MEANING[name]:<26}{_row(summary)}")
    show = size if found.unit == "bytes" else number
    suffix = "" if found.unit == "bytes" else " records"
    click.echo(f"  {'behind':<26}{show(found.behind)}{suffix} now, {show(found.most_behind)}{suffix} at most")
    if found.unanswered:
        click.secho(f"  {number(found.unanswered)} did not arrive, and count for as long as they waited", fg="red")
    if found.decisive in (None, "stored"):
        click.echo("  no record came that tells its commit's time: --probe makes some")


def _row(summary: DelaySummary) -> str:
    times = "".join(f"{_time(one):>10}" for one in (summary.p50, summary.p90, summary.p99, summary.max))
    return f"{times}{number(summary.samples):>10}"


def _time(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"


def _judge(ctx: click.Context, found: LagMeasurement, limit: float) -> None:
    decisive = found.decisive
    if decisive is None:
        click.echo("nothing was measured: no proof that the pipeline keeps up", err=True)
        ctx.exit(1)
    p99 = found.delays[decisive].p99
    if p99 > limit:
        click.echo(f"p99 {_time(p99)} ({_MEANING[decisive]}) is above {_time(limit)}", err=True)
        ctx.exit(1)
