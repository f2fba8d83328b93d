"""The brokers and the registry."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pycdc.clients.kafka_topics import Cluster
from pycdc.config.kafka import KafkaSinkConfig
from pycdc.errors import PycdcError
from pycdc.operations.doctor.finding import Finding, failed, from_error, ok
from pycdc.operations.humanize import plural
from pycdc.printable import lines

TOPICS = "sink.kafka.topics"


def topic_findings(
    sink: KafkaSinkConfig,
    cluster: Cluster,
    topics: Sequence[str],
    refusals: Mapping[str, PycdcError],
    commands: Mapping[str, str],
) -> Iterator[Finding]:
    """`refusals` are why missing topics cannot be made, `commands` how to make them by hand."""
    yield ok(f"Kafka answers at {sink.brokers}", plural(cluster.brokers, "broker"))
    missing = [topic for topic in topics if topic not in cluster.topics]
    there = len(topics) - len(missing)
    if there:
        yield ok(f"{plural(there, 'topic')} exist" + ("s" if there == 1 else ""))
    if not missing:
        return
    if not sink.topics.create:
        yield failed(
            f"{plural(len(missing), 'topic')} missing, and topics.create is off",
            path=f"{TOPICS}.create",
            fix=lines(*(commands[topic] for topic in missing)),
        )
        return
    for error in {error.fact: error for error in refusals.values()}.values():
        yield from_error(error, TOPICS)
    makable = len(missing) - len(refusals)
    if makable:
        yield ok(f"{plural(makable, 'topic')} can be created")
