"""`pycdc doctor`: show what would keep a pipeline from running."""

from __future__ import annotations

import logging

import click

from pycdc.cli.arguments import config_argument, json_option, load_config, print_json
from pycdc.cli.findings import show
from pycdc.observability import logs
from pycdc.operations.doctor.diagnosis import diagnose
from pycdc.operations.doctor.finding import FindingStatus


@click.command()
@config_argument
@json_option
@click.pass_context
def doctor(ctx: click.Context, path: str, as_json: bool) -> None:
    """Check that a pipeline can run.

    Looks at servers, rights, tables, publication, slot, topics and registry; changes nothing. Each failure comes with
    the option it stems from and the SQL or command that mends it. The exit code is 3 if something would keep the
    pipeline from running.
    """
    config = load_config(path)
    # What the engine would warn about is found here anyway, and shown with its remedy.
    logs.configure(level=logging.ERROR)
    findings = list(diagnose(config) if as_json else show(diagnose(config)))
    count = {status: sum(finding.status is status for finding in findings) for status in FindingStatus}
    if as_json:
        print_json({"ready": not count[FindingStatus.FAILED], "findings": [finding.as_json() for finding in findings]})
    else:
        click.echo(_summary(count))
    ctx.exit(3 if count[FindingStatus.FAILED] else 0)


def _summary(count: dict[FindingStatus, int]) -> str:
    if count[FindingStatus.FAILED]:
        return click.style(f"not ready: {count[FindingStatus.FAILED]} of {sum(count.values())} checks failed", fg="red")
    warnings = count[FindingStatus.WARNING]
    return click.style("ready" + (f", with {warnings} warning{'s' * (warnings > 1)}" if warnings else ""), fg="green")
