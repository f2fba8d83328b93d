"""Whether what a topic keeps survives a broker, and can be written at all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from pycdc.clients.kafka_topics import TopicDurability
from pycdc.operations.doctor.finding import Finding, failed, warning


@dataclass(frozen=True, slots=True)
class KeptThing:
    """What the topic of an option keeps: in words, and what it means to lose it."""

    path: str
    one: str
    all: str
    loss: str


POSITION: Final = KeptThing("offsets", "position", "the position is", "without it the pipeline has to start over")
PARKED: Final = KeptThing("parking", "parked row", "parked rows are", "they are nowhere else")


def durability_findings(topic: str, found: TopicDurability, kept: KeptThing) -> Iterator[Finding]:
    """Check that a lost broker takes nothing with it, and that the topic takes records."""
    alter = f"kafka-configs --alter --entity-type topics --entity-name {topic} --add-config min.insync.replicas="
    if found.in_sync is not None and found.in_sync > found.replicas:
        yield failed(
            f"no {kept.one} can be stored: {found.in_sync} brokers must confirm one, and {topic} is on "
            f"{found.replicas}",
            "min.insync.replicas is more than the topic has replicas",
            path=kept.path,
            fix=f"{alter}{max(1, found.replicas - 1)}, or give the topic more replicas: kafka-reassign-partitions",
        )
        return
    if found.replicas < min(3, found.brokers):
        yield warning(
            f"{kept.all} on {found.replicas} of {found.brokers} brokers",
            f"{kept.loss}; the topic is {topic}",
            path=kept.path,
            fix=f"give partition 0 of {topic} three replicas: kafka-reassign-partitions",
        )
    if found.in_sync is not None and found.in_sync < 2 <= found.brokers:
        yield warning(
            f"a {kept.one} counts as stored once a single broker has it",
            f"a broker that is lost then could take it along; {kept.loss}",
            path=kept.path,
            fix=f"{alter}2",
        )
