"""Whether the position can be stored where it never was before, and is safe there."""

from __future__ import annotations

from collections.abc import Iterator

from pycdc.build.offsets import build_offsets
from pycdc.clients.kafka_topics import TopicDurability
from pycdc.config.pipeline import CapturePipeline
from pycdc.errors import PycdcError
from pycdc.offsets.kafka import KafkaOffsetStore
from pycdc.operations.doctor.finding import Finding, failed, from_error, ok, warning


def offsets_findings(config: CapturePipeline, *, stored: bool) -> Iterator[Finding]:
    """Check that offsets can be stored, unless some are `stored` already. Nothing is made."""
    store = build_offsets(config)
    try:
        try_out = getattr(store, "require_room", None)
        if try_out is not None and not stored:
            try_out()
            yield ok("the position can be stored")
        if isinstance(store, KafkaOffsetStore) and (durability := store.durability()) is not None:
            yield from durability_findings(store.topic, durability)
    except PycdcError as error:
        yield from_error(error, "offsets")
    finally:
        store.close()


def durability_findings(topic: str, found: TopicDurability) -> Iterator[Finding]:
    """Check that a lost broker takes no position with it, and that one can be written at all."""
    alter = f"kafka-configs --alter --entity-type topics --entity-name {topic} --add-config min.insync.replicas="
    if found.in_sync is not None and found.in_sync > found.replicas:
        yield failed(
            f"no position can be stored: {found.in_sync} brokers must confirm one, and {topic} is on {found.replicas}",
            "min.insync.replicas is more than the topic has replicas",
            path="offsets",
            fix=f"{alter}{max(1, found.replicas - 1)}, or give the topic more replicas: kafka-reassign-partitions",
        )
        return
    if found.replicas < min(3, found.brokers):
        yield warning(
            f"the position is on {found.replicas} of {found.brokers} brokers",
            f"without it the pipeline has to start over; the topic is {topic}",
            path="offsets",
            fix=f"give partition 0 of {topic} three replicas: kafka-reassign-partitions",
        )
    if found.in_sync is not None and found.in_sync < 2 <= found.brokers:
        yield warning(
            "a position counts as stored once a single broker has it",
            "a broker that is lost then could take it along, and changes would be sent again",
            path="offsets",
            fix=f"{alter}2",
        )
