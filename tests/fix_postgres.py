"""Fixtures of Postgres: every version that is to be had, started when a test first asks for it.

``postgres``           the server, once for each version; ``@pytest.mark.pg(">=16")`` selects, as do ``newest``,
                       ``outermost`` (the oldest and the newest), ``tls`` and the name of an extension,
                       ``@pytest.mark.pg("vector")``
``database``           the DSN of a fresh database in it, dropped afterwards with its slots and connections
``contrib_postgres``,  the same, in versions that have hstore, citext and ltree
``contrib_database``
``postgres_proxy``     a proxy in front of ``postgres``: ``postgres.dsn("shop", port=postgres_proxy.port)``

A test may stop, kill or configure the server: it is put right afterwards.
"""

from __future__ import annotations

import operator
import os
import re
from collections.abc import Generator, Iterator, Mapping, Sequence

import psycopg
import pytest

from tests.proxy import Proxy
from tests.services import matrix
from tests.services.availability import Unavailable
from tests.services.matrix import PostgresSource
from tests.services.postgres import VARIABLE, PostgresServer

COMPARISONS = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}


class Fleet:
    """The servers of this session: one for each source that was asked for."""

    def __init__(self) -> None:
        self._servers: dict[str, PostgresServer] = {}

    def server(self, source: PostgresSource) -> PostgresServer:
        if source.id not in self._servers:
            self._servers[source.id] = source.launch()
        return self._servers[source.id]

    def close(self) -> None:
        for server in self._servers.values():
            server.close()
        self._servers.clear()


EVERY = os.environ.get("PYCDC_TEST_EVERY_POSTGRES") == "1"
"""Tests that ask for the newest Postgres, or the outermost ones, run on all of them: `make chaos`."""
FLEET = pytest.StashKey[Fleet]()


def pytest_configure(config: pytest.Config) -> None:
    fleet = config.stash[FLEET] = Fleet()
    config.add_cleanup(fleet.close)


def pytest_report_header() -> str:
    try:
        found = ", ".join(map(str, matrix.sources()))
    except psycopg.OperationalError as error:
        found = f"{VARIABLE} does not answer: {error}"
    return f"postgres: {found or 'none'}"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    for fixture in ("postgres", "contrib_postgres"):
        if fixture in metafunc.fixturenames:
            conditions = [mark.args[0] for mark in metafunc.definition.iter_markers("pg")]
            chosen = select(matrix.sources(), conditions, contrib=fixture == "contrib_postgres")
            ids = [source.id if isinstance(source, PostgresSource) else "none" for source in chosen]
            metafunc.parametrize(fixture, chosen, ids=ids, indirect=True, scope="session")


def select(
    sources: Sequence[PostgresSource], conditions: Sequence[str], *, contrib: bool
) -> Sequence[PostgresSource | Unavailable]:
    """The sources that a test runs on; where there are none, the one reason why."""
    chosen = [source for source in sources if source.contrib or not contrib]
    for condition in conditions:
        if condition == "newest":
            chosen = chosen if EVERY else chosen[-1:]
        elif condition == "outermost":
            chosen = chosen if EVERY else [*chosen[:1], *chosen[1:][-1:]]
        elif condition.isidentifier():
            chosen = [one for one in chosen if condition in one.features]
        else:
            chosen = [one for one in chosen if matches(one.numbers, condition)]
    if chosen:
        return chosen
    wanted = " and ".join(["Postgres", *(["hstore, citext and ltree"] if contrib else []), *conditions])
    return [Unavailable(f"{wanted} needed, found {', '.join(map(str, sources)) or 'no Postgres'}")]


def matches(version: tuple[int, ...], condition: str) -> bool:
    """Whether ``(16, 14)`` fulfils ``'>=16,<18'``: as many numbers are compared as the condition has."""
    return all(_matches_one(version, part) for part in condition.split(","))


def _matches_one(version: tuple[int, ...], part: str) -> bool:
    parsed = re.fullmatch(r"\s*([<>=!]=|[<>])\s*(\d+(?:\.\d+)*)\s*", part)
    if parsed is None:
        raise ValueError(f"not a comparison of versions: {part!r}")
    wanted = tuple(map(int, parsed[2].split(".")))
    return bool(COMPARISONS[parsed[1]](version[: len(wanted)], wanted))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, object, object]:
    try:
        return (yield)
    finally:
        _heal(getattr(item, "funcargs", {}))


def _heal(fixtures: Mapping[str, object]) -> None:
    """Put the servers of a test right, unless that was done before its database was dropped."""
    for name, database in (("postgres", "database"), ("contrib_postgres", "contrib_database")):
        server = fixtures.get(name)
        if isinstance(server, PostgresServer) and database not in fixtures:
            server.heal()


@pytest.fixture(scope="session")
def postgres(request: pytest.FixtureRequest) -> PostgresServer:
    return _server(request)


@pytest.fixture(scope="session")
def contrib_postgres(request: pytest.FixtureRequest) -> PostgresServer:
    return _server(request)


@pytest.fixture
def database(postgres: PostgresServer) -> Iterator[str]:
    yield from _database(postgres)


@pytest.fixture
def contrib_database(contrib_postgres: PostgresServer) -> Iterator[str]:
    yield from _database(contrib_postgres)


@pytest.fixture
def postgres_proxy(postgres: PostgresServer) -> Iterator[Proxy]:
    with Proxy(*postgres.address) as proxy:
        yield proxy


def _server(request: pytest.FixtureRequest) -> PostgresServer:
    if isinstance(request.param, Unavailable):
        raise request.param
    return request.config.stash[FLEET].server(request.param)


def _database(server: PostgresServer) -> Iterator[str]:
    dsn = server.create_database()
    yield dsn
    server.heal()
    server.drop_database(dsn)
