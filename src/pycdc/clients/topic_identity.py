"""A topic's identity: the id that brokers since 2.8 give it (KIP-516), which one that is made anew does not have."""

from __future__ import annotations

from pycdc.errors import PositionGap


def another_topic(topic: str, known: str, now: str) -> PositionGap:
    """Offsets of one topic mean nothing in another."""
    return PositionGap(
        f"topic {topic} is another one than the stored offsets are of (its id is {now}, and was {known}): it was "
        "deleted and made anew",
        hint="what it held before and was not applied is lost; to read the new one from its first record, stop the "
        "pipeline, delete the topic's rows in the table apply_offsets, and start again",
    )
