"""Fixtures of Kafka and the schema registry, started when a test first asks for them.

``kafka``           the broker; a test marked ``kafka_mock_ok`` gets librdkafka's mock cluster where there is none
``kafka_proxy``     a proxy in front of it, and the address to start from: ``kafka_proxy.address``
``registry``        the schema registry: ``registry.url``
``registry_proxy``  a proxy in front of it
``topic_prefix``    a prefix for topics, groups and subjects that no other test has

The workers of a parallel run use one Kafka and one registry. A test marked ``exclusive``, and one that uses
``kafka_proxy``, gets those of its worker alone. It may stop, kill or pause them: they are put right afterwards.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.fix_workers import portion, shared_portion
from tests.proxy import Proxy
from tests.services import kafka as kafka_service
from tests.services import kafka_cluster
from tests.services import registry as registry_service
from tests.services.availability import Unavailable
from tests.services.kafka import KafkaAddress
from tests.services.kafka_mock import MockKafka
from tests.services.registry import RegistryAddress
from tests.services.shared import Lazy, SharedKafka, SharedRegistry, SharedServers, address_of

BROKERS = "PYCDC_TEST_BROKERS"
"""3: the brokers that tests use are a cluster of three, as far as they are ours."""


def launch_kafka() -> KafkaAddress:
    three = os.environ.get(BROKERS) == "3" and not os.environ.get(kafka_service.VARIABLE)
    return kafka_cluster.launch() if three else kafka_service.launch()


@dataclass(slots=True)
class Servers:
    """A Kafka and a registry."""

    kafka: Lazy[KafkaAddress] = field(default_factory=lambda: Lazy(launch_kafka))
    registry: Lazy[RegistryAddress] = field(default_factory=lambda: Lazy(registry_service.launch))

    def heal(self) -> None:
        self.kafka.heal()
        self.registry.heal()

    def close(self) -> None:
        self.kafka.close()
        self.registry.close()


OWN = pytest.StashKey[Servers]()
"""Those that this process started. In a worker: for the tests that disturb them."""
USUAL = pytest.StashKey[Servers]()
"""Those that most tests use. In a worker: those that the process of all workers started."""
SHARED = pytest.StashKey[SharedServers]()


def pytest_configure(config: pytest.Config) -> None:
    own = config.stash[OWN] = config.stash[USUAL] = Servers()
    config.add_cleanup(own.close)
    shared = getattr(config, "workerinput", {}).get("shared_servers")
    if shared is not None:
        config.stash[USUAL] = Servers(
            Lazy(lambda: SharedKafka(address_of("kafka", shared))),
            Lazy(lambda: SharedRegistry(address_of("registry", shared))),
        )


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker, before it starts, where to ask for the servers of all."""
    config = node.config
    if SHARED not in config.stash:
        own = config.stash[OWN]
        config.stash[SHARED] = SharedServers(
            {"kafka": lambda: own.kafka.get().bootstrap, "registry": lambda: own.registry.get().url}
        )
        config.add_cleanup(config.stash[SHARED].close)  # the last that is added is called first
    node.workerinput["shared_servers"] = config.stash[SHARED].address


def pytest_report_header() -> list[str]:
    return [f"kafka: {kafka_service.describe()}", f"registry: {registry_service.describe()}"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        fixtures = {"kafka", "kafka_proxy", "registry"} & set(getattr(item, "fixturenames", ()))
        if fixtures and is_exclusive(item) and shared_portion(item.nodeid) is None:
            raise pytest.UsageError(
                f"{item.nodeid} starts servers for itself: name its file in tests/fix_workers.py, TOGETHER"
            )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None, object, object]:
    try:
        return (yield)
    finally:
        own, usual = item.config.stash[OWN], item.config.stash[USUAL]
        own.heal()
        if own is not usual and (nextitem is None or portion(nextitem.nodeid) != portion(item.nodeid)):
            own.close()


def is_exclusive(item: pytest.Item) -> bool:
    fixtures = getattr(item, "fixturenames", ())
    return item.get_closest_marker("exclusive") is not None or "kafka_proxy" in fixtures


def servers(request: pytest.FixtureRequest) -> Servers:
    return request.config.stash[OWN if is_exclusive(request.node) else USUAL]


@pytest.fixture
def kafka(request: pytest.FixtureRequest) -> KafkaAddress:
    try:
        return servers(request).kafka.get()
    except Unavailable:
        if request.node.get_closest_marker("kafka_mock_ok") is None:
            raise
        return MockKafka()


@pytest.fixture
def kafka_proxy(request: pytest.FixtureRequest) -> Iterator[Proxy]:
    with servers(request).kafka.get().proxy() as proxy:
        yield proxy


@pytest.fixture
def registry(request: pytest.FixtureRequest) -> RegistryAddress:
    return servers(request).registry.get()


@pytest.fixture
def registry_proxy(registry: RegistryAddress) -> Iterator[Proxy]:
    with registry.proxy() as proxy:
        yield proxy


@pytest.fixture
def topic_prefix() -> str:
    return f"t{uuid.uuid4().hex[:10]}"
