"""`pycdc status`: where a pipeline is, asked from outside."""

from __future__ import annotations

import logging

import click

from pycdc.cli.apply_status import show as show_apply
from pycdc.cli.arguments import config_argument, json_option, load_config, print_json
from pycdc.config.pipeline import ApplyPipeline, CapturePipeline
from pycdc.observability import logs
from pycdc.operations import apply_status
from pycdc.operations.humanize import size
from pycdc.operations.status import CaptureState, as_dict, inspect
from pycdc.printable import printable


@click.command()
@config_argument
@json_option
@click.pass_context
def status(ctx: click.Context, path: str, as_json: bool) -> None:
    """Show where a pipeline is.

    The stored position, the slot, the lag, and whether it runs, as the servers tell. Of a pipeline that reads Kafka:
    the offsets of each partition, who reads it, and what is parked.
    """
    config = load_config(path)
    logs.configure(level=logging.ERROR)
    if isinstance(config, ApplyPipeline):
        ctx.exit(_apply_status(config, as_json=as_json))
    found = inspect(config)
    if as_json:
        print_json(as_dict(config, found))
    else:
        _show(config, found)


def _apply_status(config: ApplyPipeline, *, as_json: bool) -> int:
    """Show it; return the exit code: that of a server's failure, if one does not answer."""
    found = apply_status.inspect(config)
    if as_json:
        print_json(apply_status.as_dict(config, found))
    else:
        show_apply(config, found)
    return max((failure.exit_code for failure in found.failures.values()), default=0)


def _show(config: CapturePipeline, found: CaptureState) -> None:
    values = as_dict(config, found)
    slot = found.slot
    running = click.style("running", fg="green") if values["running"] else click.style("not running", fg="yellow")
    pid = f" (pid {values['pid']})" if values["pid"] else ""
    click.echo(f"{click.style(config.name, bold=True)}: {running}{pid}")
    rows = [("stored position", values["position"] or "none"), ("snapshot", values["snapshot"])]
    if slot is None:
        rows.append(("slot", f"{config.slot} does not exist"))
    else:
        rows += [
            ("slot", f"{slot.name}, {slot.invalidation or slot.wal_status or 'unknown'}"),
            ("confirmed", values["slot"]["confirmed"] or "nothing yet"),
            ("restart", values["slot"]["restart"] or "nothing"),
            ("WAL held back", "unknown" if slot.retained_bytes is None else size(slot.retained_bytes)),
        ]
    rows.append(("server", values["server_lsn"]))
    rows.append(("lag", "unknown" if found.lag is None else size(found.lag.bytes)))
    for label, value in rows:
        click.echo(printable(f"  {label:<16} {value}"))
    if found.problem is not None:
        click.secho(f"  problem          {found.problem.fact}", fg="red")
        click.echo(f"  try              {found.problem.hint}")
