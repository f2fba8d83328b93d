"""Checks of an apply pipeline: whether what is stored of the topics still means something there."""

from __future__ import annotations

from collections.abc import Iterator

from pycdc.operations.apply_status import ApplyState
from pycdc.operations.doctor.finding import Finding, from_error, ok


def place_findings(found: ApplyState) -> Iterator[Finding]:
    """Servers that do not answer are findings of other groups."""
    problems = {str(problem.fact): problem for place in found.places if (problem := place.problem()) is not None}
    for problem in problems.values():
        yield from_error(problem)
    if found.foreign is not None:
        yield from_error(found.foreign, "source.kafka.group")
    if not problems and not found.failures:
        stored = sum(place.stored is not None for place in found.places)
        yield ok("stored offsets are in their topics", f"{stored} of {len(found.places)} partitions")
    if found.bookkeeping is not None:
        for topic, counts in found.bookkeeping.left_out.items():
            counts_text = ", ".join(f"{reason} {count}" for reason, count in counts.items())
            yield ok(f"{topic}: events that no route wrote, so far", counts_text)
