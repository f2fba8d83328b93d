"""A pipeline that the brokers deny what it asks for ends with exit code 3 and a remedy, in mid-run and at its start."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
)

from tests.faults.chain import Chain, is_final
from tests.reading import PATIENCE
from tests.services import kafka as kafka_service
from tests.services.availability import Unavailable
from tests.services.kafka import Kafka
from tests.services.postgres import PostgresServer
from tests.services.registry import RegistryAddress

pytestmark = pytest.mark.pg("newest")

EVERYBODY = ("User:ANONYMOUS", "*")


@pytest.fixture(scope="module")
def broker() -> Iterator[Kafka]:
    """It allows all that no ACL denies."""
    made = kafka_service.launch(
        **{
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "allow.everyone.if.no.acl.found": "true",
        }
    )
    if not isinstance(made, Kafka):
        raise Unavailable("the broker is not ours to configure")
    yield made
    made.close()


@pytest.fixture
def chain(
    tmp_path: Path, postgres: PostgresServer, broker: Kafka, registry: RegistryAddress, topic_prefix: str
) -> Iterator[Chain]:
    made = Chain("capture", tmp_path, postgres, broker, registry.url, topic_prefix)
    yield made
    made.close()
    for dsn in made.dsns:
        postgres.drop_database(dsn)


def deny(broker: Kafka, kind: ResourceType, name: str, *operations: AclOperation) -> None:
    """And allow all else, which is denied where a resource has any ACL."""
    rules = [(AclOperation.ALL, AclPermissionType.ALLOW), *((one, AclPermissionType.DENY) for one in operations)]
    bindings = [AclBinding(kind, name, ResourcePatternType.LITERAL, *EVERYBODY, *rule) for rule in rules]
    admin = broker.admin()
    for future in admin.create_acls(bindings).values():
        future.result(PATIENCE)


def deny_nothing(broker: Kafka) -> None:
    every = AclBindingFilter(
        ResourceType.ANY, None, ResourcePatternType.ANY, None, None, AclOperation.ANY, AclPermissionType.ANY
    )
    admin = broker.admin()
    for future in admin.delete_acls([every]).values():
        future.result(PATIENCE)


def test_a_topic_that_may_not_be_written_or_read_any_more_ends_both_ways_until_it_may(
    chain: Chain, broker: Kafka
) -> None:
    topic = f"{chain.name}.public.items"
    with chain.running("capture") as forward, chain.running("apply") as back:
        chain.write()
        forward.until(lambda: chain.arrived == [1])
        deny(broker, ResourceType.TOPIC, topic, AclOperation.WRITE, AclOperation.READ)
        chain.write()
        said = [(is_final(forward), is_final(back))]
    with chain.running("capture") as forward, chain.running("apply") as back:
        said.append((is_final(forward), is_final(back)))
    for written, read in said:
        assert topic in written["fact"]
        assert "ACLs Describe and Write" in written["hint"]
        assert topic in read["fact"]
        assert "ACLs Describe and Read" in read["hint"]
    deny_nothing(broker)
    with chain.running("capture") as forward, chain.running("apply") as back:
        forward.until(chain.is_complete)
        forward.until(forward.is_well)
        assert (forward.program.stop(), back.program.stop()) == (0, 0)


def test_a_topic_that_is_missing_and_may_not_be_created_ends_it_with_what_to_do(chain: Chain, broker: Kafka) -> None:
    missing = f"{chain.name}2.public.items"
    chain.document["capture"]["name"], chain.document["apply"]["name"] = f"{chain.name}2", f"{chain.name}2b"
    chain.document["apply"]["source"]["kafka"]["topics"] = [missing]
    chain.document["apply"]["sink"]["postgres"]["routes"][0]["topic"] = missing
    deny(broker, ResourceType.TOPIC, missing, AclOperation.CREATE)
    deny(broker, ResourceType.BROKER, "kafka-cluster", AclOperation.CREATE)
    chain.sql(chain.dsns[0], "INSERT INTO items (id) VALUES (1)")
    with chain.running("capture") as forward, chain.running("apply") as back:
        said = (is_final(forward), is_final(back))
    for one in said:
        assert missing in one["fact"]
        assert "kafka-topics --bootstrap-server" in one["hint"]
    deny_nothing(broker)
    broker.create_topic(missing)
    chain.rows = 1
    with chain.running("capture") as forward, chain.running("apply") as back:
        forward.until(lambda: chain.arrived == [1])
        assert (forward.program.stop(), back.program.stop()) == (0, 0)


def test_parking_needs_its_topics_rights_before_any_row_is_parked(chain: Chain, broker: Kafka) -> None:
    topic = broker.create_topic(f"{chain.name}.parked", config={"cleanup.policy": "compact"})
    chain.document["capture"]["rules"] = [{"tables": "public.items", "on_error": "park"}]
    deny(broker, ResourceType.TOPIC, topic, AclOperation.WRITE)
    chain.write()
    with chain.running("capture") as forward:
        said = is_final(forward)
    assert said["fact"] == f"the user lacks the ACLs Write on the topic of parked rows {topic}"
    assert "--operation Write" in said["hint"]
    deny_nothing(broker)
    with chain.running("capture") as forward:
        forward.until(forward.is_well)
        assert forward.program.stop() == 0
