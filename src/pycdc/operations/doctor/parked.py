"""Whether rows can be parked, and are kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

from pycdc.config.pipeline import CapturePipeline
from pycdc.errors import PycdcError
from pycdc.operations.doctor.durability import PARKED, durability_findings
from pycdc.operations.doctor.finding import Finding, from_error, ok, warning
from pycdc.parking.build import parked_topic


def parked_findings(config: CapturePipeline) -> Iterator[Finding]:
    """Check the topic of parked rows, of a pipeline that parks. Nothing is made."""
    if not config.parks or config.sink.kafka is None:
        return
    with closing(parked_topic(config)) as topic:
        try:
            found = topic.durability()
            if found is None:
                topic.require_room()
                yield ok("the topic of parked rows can be created", topic.topic)
                return
            topic.require_keeping()
        except PycdcError as error:
            yield from_error(error, PARKED.path)
            return
    yield ok("the topic of parked rows keeps them", topic.topic)
    if found.partitions > 1:
        yield warning(
            f"the topic of parked rows {topic.topic} has {found.partitions} partitions",
            "one is enough, and whoever reads it finds rows in the order in which they were parked",
            path=PARKED.path,
            fix="where nothing is parked: delete the topic, it is made anew",
        )
    yield from durability_findings(topic.topic, found, PARKED)
