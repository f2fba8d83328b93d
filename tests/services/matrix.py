"""Which versions of Postgres the tests run on: all that the first place to have any has."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import psycopg

from . import docker
from .installations import CONTRIB, Installation, installations
from .postgres import SETTINGS, VARIABLE, Postgres, PostgresServer, launch_installed, started
from .process import free_port

IMAGES = {"15": "postgres:15", "16": "postgres:16", "17": "postgres:17", "18": "postgres:18"}


@dataclass(frozen=True, slots=True)
class PostgresSource:
    """A version that can be had, not started yet."""

    id: str
    version: str
    contrib: bool
    origin: str
    launch: Callable[[], PostgresServer]
    features: frozenset[str] = frozenset()
    """The extensions that can be made in it, and ``tls`` where it can encrypt."""

    @property
    def numbers(self) -> tuple[int, ...]:
        return tuple(int(number) for number in re.findall(r"\d+", self.version))

    def __str__(self) -> str:
        return f"{self.version} ({self.origin}{', contrib' if self.contrib else ''})"


@cache
def sources() -> tuple[PostgresSource, ...]:
    """Every version, oldest first, from the first place that has any. Ids are ``pg15``, ``pg16`` and so on."""
    address = os.environ.get(VARIABLE)
    if address:
        return (_external(address),)
    if docker.engine_answers():
        return tuple(_containerised(version, image) for version, image in IMAGES.items())
    found = installations()
    majors = [installation.numbers[0] for installation in found]
    return tuple(_installed(one, unique=majors.count(one.numbers[0]) == 1) for one in found)


def _external(address: str) -> PostgresSource:
    with psycopg.connect(address, autocommit=True) as connection:
        version = str(connection.execute("SHOW server_version").fetchone()[0]).split()[0]  # type: ignore[index]
        known = connection.execute("SELECT name FROM pg_available_extensions").fetchall()
        library = connection.execute("SHOW ssl_library").fetchone()
    features = frozenset(name for (name,) in known) | ({"tls"} if library != ("",) else set())
    contrib = features.issuperset(CONTRIB)
    return PostgresSource(
        f"pg{version.partition('.')[0]}",
        version,
        contrib,
        VARIABLE,
        lambda: PostgresServer(address, version, contrib=contrib),
        features,
    )


def _containerised(version: str, image: str) -> PostgresSource:
    def launch() -> Postgres:
        port = free_port()
        options = " ".join(f"-c {name}={value}" for name, value in SETTINGS.items() if " " not in value)
        control = docker.Container(
            image, ports={5432: port}, environment={"POSTGRES_HOST_AUTH_METHOD": "trust"}, command=f"postgres {options}"
        )
        return started(Postgres(control, port=port, version=version, contrib=True))

    return PostgresSource(f"pg{version}", version, True, "docker", launch, frozenset({*CONTRIB, "tls"}))


def _installed(installation: Installation, *, unique: bool) -> PostgresSource:
    version = installation.version
    return PostgresSource(
        f"pg{installation.numbers[0] if unique else version}",
        version,
        installation.contrib,
        installation.origin,
        lambda: launch_installed(installation),
        installation.features,
    )
