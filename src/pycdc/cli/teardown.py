"""`pycdc teardown`: remove what a pipeline left on the servers. Topics and schemas stay: others read them."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import closing

import click

from pycdc.build import build_offsets
from pycdc.cli.arguments import config_argument, load_config
from pycdc.config.pipeline import Config
from pycdc.connectors.postgres.catalog.catalog import Catalog
from pycdc.connectors.postgres.catalog.privileges import Survey
from pycdc.connectors.postgres.catalog.slots_and_publications import Admin, drop_publication_sql
from pycdc.errors import EnvironmentNotReady, PycdcError, SlotActive
from pycdc.observability import logs
from pycdc.operations import apply_teardown
from pycdc.printable import printable

_END_SECONDS = 15.0
_PAUSE = 0.1


@click.command()
@config_argument
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--force", is_flag=True, help="End the session that reads the slot: one whose pipeline is gone.")
def teardown(path: str, yes: bool, force: bool) -> None:
    """Drop slot, publication and position.

    Changes since then are not captured; a pipeline started again takes a new snapshot, and so does one that is still
    running: stop it first. Topics and schemas stay.

    Of a pipeline that reads Kafka: its rows in the bookkeeping tables, and these once no pipeline has rows in them, its
    replication origins and its consumer group. Started again, it begins where source.kafka.start says. What it wrote
    stays.
    """
    config = load_config(path)
    logs.configure(level=logging.ERROR)
    if config.source.kafka is not None:
        _of_reverse(config, yes=yes, force=force)
        return
    if not yes:
        _ask(f"Drop slot {config.slot}, publication {config.publication} and the stored position of {config.name}?")
    for line in remove(config, force=force):
        click.echo(printable(line))


def _of_reverse(config: Config, *, yes: bool, force: bool) -> None:
    if force:
        raise click.UsageError("--force is about slots, and this pipeline has none", click.get_current_context())
    for line in apply_teardown.plan(config):
        click.echo(printable(f"to be removed: {line}"), err=True)
    if not yes:
        _ask(f"Remove all that {config.name} keeps?")
    for line in apply_teardown.remove(config):
        click.echo(printable(line))


def _ask(question: str) -> None:
    if not _on_terminal():
        raise click.UsageError("there is no terminal to ask on: give --yes", click.get_current_context())
    click.confirm(question, abort=True, err=True)


def _on_terminal() -> bool:
    return sys.stdin.isatty()


def remove(config: Config, *, force: bool = False) -> Iterator[str]:
    """Do it; tell what was done. Raises SlotActive where the slot is read and `force` is not given."""
    dsn = config.capture.dsn.get_secret_value()
    with Catalog(dsn) as catalog:
        slot, publication = catalog.slot(config.slot), catalog.publication(config.publication)
        # The slot first: without its publication it could never be read again, and would hold back WAL.
        if slot is None:
            yield f"slot {config.slot} did not exist"
        else:
            _drop_slot(dsn, catalog, config.slot, force=force)
            yield f"dropped slot {config.slot}"
    if publication is None:
        yield f"publication {config.publication} did not exist"
    elif not config.capture.manage_publication:
        yield f"kept publication {config.publication}: manage_publication is off"
    elif not publication.owned:
        yield f"kept publication {config.publication}: its owner {publication.owner} can run " + drop_publication_sql(
            config.publication
        )
    else:
        Admin(dsn).drop_publication(config.publication)
        yield f"dropped publication {config.publication}"
    yield _forget(config)


def _drop_slot(dsn: str, catalog: Catalog, name: str, *, force: bool) -> None:
    try:
        Admin(dsn).drop_slot(name)
        return
    except SlotActive as active:
        if not force:
            raise EnvironmentNotReady(
                f"slot {name} is being read: {active.fact}",
                hint="stop the pipeline first; give --force if it is gone and its session hangs",
            ) from None
    _drop_by_force(dsn, catalog, name)


def _drop_by_force(dsn: str, catalog: Catalog, name: str) -> None:
    """End the reader and drop the slot before it comes back."""
    deadline = time.monotonic() + _END_SECONDS
    while True:
        slot = catalog.slot(name)
        if slot is not None and slot.active_pid is not None:
            Survey(dsn).end(slot.active_pid)
        try:
            Admin(dsn).drop_slot(name)
            return
        except SlotActive:
            if time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE)


def _forget(config: Config) -> str:
    try:
        with closing(build_offsets(config)) as offsets:
            if offsets.load() is None:
                return "no position was stored"
            offsets.clear()
    except PycdcError as error:
        raise type(error)(f"the stored position was not removed: {error.fact}", hint=error.hint) from None
    return "removed the stored position"
