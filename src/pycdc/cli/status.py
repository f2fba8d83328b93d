"""`pycdc status`: where a pipeline is, asked from outside."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import click

from pycdc.cli import apply_status
from pycdc.cli.arguments import config_argument, json_option, load_config, print_json
from pycdc.cli.snapshot import paused, still_to_read
from pycdc.config.pipeline import Config
from pycdc.connectors.postgres.catalog.catalog import Catalog
from pycdc.connectors.postgres.catalog.metadata import ReplicationLag, ServerFacts, SlotFacts
from pycdc.errors import PycdcError
from pycdc.interfaces import Checkpoint
from pycdc.observability import logs
from pycdc.operations.humanize import number, size
from pycdc.operations.stored_position import compared, shown, stored_position
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
    if config.source.kafka is not None:
        ctx.exit(_apply_status(config, as_json=as_json))
    found = inspect(config)
    if as_json:
        print_json(as_dict(config, found))
    else:
        _show(config, found)


def _apply_status(config: Config, *, as_json: bool) -> int:
    """Show it; return the exit code: that of a server's failure, if one does not answer."""
    found = apply_status.inspect(config)
    if as_json:
        print_json(apply_status.as_dict(config, found))
    else:
        apply_status.show(config, found)
    return max((failure.exit_code for failure in found.failures.values()), default=0)


@dataclass(frozen=True, slots=True)
class Found:
    """`problem` is why the pipeline would refuse to go on."""

    server: ServerFacts
    slot: SlotFacts | None
    lag: ReplicationLag | None
    checkpoint: Checkpoint | None
    problem: PycdcError | None


def inspect(config: Config) -> Found:
    """Ask server and offset store. Raises PycdcError where one does not answer."""
    with Catalog(config.capture.dsn.get_secret_value()) as catalog:
        server, slot = catalog.server(), catalog.slot(config.slot)
        lag = catalog.replication_lag(config.slot)
        checkpoint = stored_position(config)
        outcome = compared(config, catalog, server, slot, checkpoint)
    return Found(server, slot, lag, checkpoint, outcome if isinstance(outcome, PycdcError) else None)


def as_dict(config: Config, found: Found) -> dict[str, Any]:
    slot, lag, checkpoint = found.slot, found.lag, found.checkpoint
    return {
        "name": config.name,
        "running": slot is not None and slot.active_pid is not None,
        "pid": None if slot is None else slot.active_pid,
        "position": None if checkpoint is None else shown(checkpoint.position),
        "snapshot": _snapshot(config, checkpoint),
        "slot": None
        if slot is None
        else {
            "name": slot.name,
            "confirmed": _text(slot.confirmed_flush),
            "restart": _text(slot.restart_lsn),
            "wal_status": slot.wal_status,
            "invalidation": slot.invalidation,
            "retained_bytes": slot.retained_bytes,
        },
        "server_lsn": str(found.server.current_lsn),
        "lag_bytes": None if lag is None else lag.bytes,
        "problem": None if found.problem is None else {"fact": found.problem.fact, "hint": found.problem.hint},
    }


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _snapshot(config: Config, checkpoint: Checkpoint | None) -> str:
    if checkpoint is not None and checkpoint.snapshot:
        return _still_to_read(checkpoint)
    if config.capture.snapshot == "never":
        return "none wanted"
    if checkpoint is None:
        return "not done"
    return "done" if checkpoint.snapshot_done else "not finished"


def _still_to_read(checkpoint: Checkpoint | None) -> str:
    tables = still_to_read(checkpoint)
    rest = f", {len(tables) - 1} more behind it" if len(tables) > 1 else ""
    rows = f"{number(tables[0]['rows'])} rows of {tables[0]['table']} read{rest}"
    return f"paused: {rows}" if paused(checkpoint) else rows


def _show(config: Config, found: Found) -> None:
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
