"""Fixtures of Kafka and the schema registry, started when a test first asks for them.

``kafka``           the broker; a test marked ``kafka_mock_ok`` gets librdkafka's mock cluster where there is none
``kafka_server``    the same for the whole session, never the mock: for fixtures of wider scope
``kafka_proxy``     a proxy in front of it, and the address to start from: ``kafka_proxy.address``
``registry``        the schema registry: ``registry.url``
``registry_proxy``  a proxy in front of it
``topic_prefix``    a prefix for topics, groups and subjects that no other test has

A test may stop, kill or pause them: they are put right afterwards.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Generator, Iterator
from typing import Generic, Protocol, TypeVar

import pytest

from tests.proxy import Proxy
from tests.services import kafka as kafka_service
from tests.services import registry as registry_service
from tests.services.availability import Unavailable
from tests.services.kafka import KafkaAddress
from tests.services.kafka_mock import MockKafka
from tests.services.registry import RegistryAddress


class Server(Protocol):
    def heal(self) -> None: ...
    def close(self) -> None: ...


S = TypeVar("S", bound=Server)


class Lazy(Generic[S]):
    """One server of this session, launched at most once. That it cannot be had is found out once too."""

    def __init__(self, launch: Callable[[], S]) -> None:
        self._launch = launch
        self._server: S | None = None
        self._missing: Unavailable | None = None

    def get(self) -> S:
        if self._missing is not None:
            raise Unavailable(self._missing.reason, excused=self._missing.excused)
        if self._server is None:
            try:
                self._server = self._launch()
            except Unavailable as missing:
                self._missing = missing
                raise
        return self._server

    def heal(self) -> None:
        if self._server is not None:
            self._server.heal()

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None


KAFKA = pytest.StashKey[Lazy[KafkaAddress]]()
REGISTRY = pytest.StashKey[Lazy[RegistryAddress]]()


def pytest_configure(config: pytest.Config) -> None:
    broker = config.stash[KAFKA] = Lazy(kafka_service.launch)
    registry = config.stash[REGISTRY] = Lazy(registry_service.launch)
    config.add_cleanup(broker.close)
    config.add_cleanup(registry.close)


def pytest_report_header() -> list[str]:
    return [f"kafka: {kafka_service.describe()}", f"registry: {registry_service.describe()}"]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, object, object]:
    try:
        return (yield)
    finally:
        item.config.stash[KAFKA].heal()
        item.config.stash[REGISTRY].heal()


@pytest.fixture(scope="session")
def kafka_server(pytestconfig: pytest.Config) -> KafkaAddress:
    return pytestconfig.stash[KAFKA].get()


@pytest.fixture
def kafka(request: pytest.FixtureRequest) -> KafkaAddress:
    try:
        broker = request.config.stash[KAFKA].get()
    except Unavailable:
        if request.node.get_closest_marker("kafka_mock_ok") is None:
            raise
        broker = MockKafka()
    return broker


@pytest.fixture
def kafka_proxy(kafka_server: KafkaAddress) -> Iterator[Proxy]:
    with kafka_server.proxy() as proxy:
        yield proxy


@pytest.fixture(scope="session")
def registry(pytestconfig: pytest.Config) -> RegistryAddress:
    return pytestconfig.stash[REGISTRY].get()


@pytest.fixture
def registry_proxy(registry: RegistryAddress) -> Iterator[Proxy]:
    with registry.proxy() as proxy:
        yield proxy


@pytest.fixture
def topic_prefix() -> str:
    return f"t{uuid.uuid4().hex[:10]}"
