"""`pycdc init --reverse`: look at topics and tables, print a configuration that writes the ones into the others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import click

from pycdc.build.decoder import build_decoder
from pycdc.cli.yaml_text import scalar
from pycdc.clients.kafka_inspection import OffsetSpan, TopicInspection
from pycdc.config.kafka import KafkaSourceConfig, RegistryConfig
from pycdc.connectors.kafka.offset_range_reader import read_events
from pycdc.errors import EnvironmentNotReady
from pycdc.model.event import Event
from pycdc.operations.humanize import plural
from pycdc.operations.route_proposals import Proposal, Sample, propose, sample
from pycdc.printable import printable
from pycdc.sinks.postgres.preflight import all_tables

_NEWEST: Final = 50
"""Records of each partition that are looked at."""


def print_reverse(dsn: str, name: str, brokers: str, registry: str | None, topics: Sequence[str]) -> None:
    """Print a configuration. Raises PycdcError where a server does not answer, or a named topic is missing."""
    source = KafkaSourceConfig(
        brokers=brokers, registry=None if registry is None else RegistryConfig(url=registry), topics=list(topics)
    )
    samples = _samples(source, name)
    tables = all_tables(dsn)
    proposals = {found.topic: propose(found, tables) for found in samples}
    if not any(proposals.values()):
        raise EnvironmentNotReady(
            "no table fits the records of these topics",
            hint="a table fits whose primary key and half of whose fields are in the records; "
            "write routes by hand, see docs/reverse-reference.md",
        )
    for found in samples:
        for warning in _warnings(found, proposals[found.topic]):
            click.echo(f"{click.style('warning', fg='yellow')}: {printable(warning)}", err=True)
    click.echo("\n".join(_lines(name, brokers, registry, samples, proposals)))


def _samples(source: KafkaSourceConfig, group: str) -> list[Sample]:
    inspection = TopicInspection(source)
    for pattern, found in inspection.topics().items():
        if not found:
            raise EnvironmentNotReady(f"no topic matches {pattern}", hint="check --topic and --brokers")
    spans = {
        partition: OffsetSpan(max(span.first, span.end - _NEWEST), span.end)
        for partition, span in inspection.spans(inspection.partitions()).items()
    }
    events: dict[str, list[Event]] = {partition.topic: [] for partition in spans}
    with build_decoder(source) as decoder:
        for event in read_events(source, group, decoder, spans):
            events[event.partition.topic].append(event)
    return [sample(topic, found) for topic, found in sorted(events.items())]


def _warnings(found: Sample, proposal: Proposal | None) -> Iterator[str]:
    if not found.records:
        yield f"topic {found.topic} has no records that tell a row"
    elif proposal is None:
        yield f"no table fits topic {found.topic}, with the fields {', '.join(found.fields)}"
    elif not proposal.assigned:
        yield f"of topic {found.topic}, only the key fits table {proposal.table}"


def _lines(
    name: str,
    brokers: str,
    registry: str | None,
    samples: Sequence[Sample],
    proposals: Mapping[str, Proposal | None],
) -> Iterator[str]:
    yield "# A pipeline from Kafka into Postgres. The routes are guesses from names: read them."
    yield "#"
    yield "#   export PYCDC_DSN='host=… dbname=… user=… password=…'"
    yield f"#   pycdc doctor {name}.yaml          what is missing, and how to mend it"
    yield f"#   pycdc run {name}.yaml --dry-run   the SQL that it would execute"
    yield f"#   pycdc run {name}.yaml"
    yield ""
    yield f"name: {scalar(name)}"
    yield ""
    yield "source:"
    yield "  kafka:"
    yield f"    brokers: {scalar(brokers)}"
    if registry is not None:
        yield f"    registry: {scalar(registry)}"
    yield "    topics:"
    for found in samples:
        hidden = "" if proposals[found.topic] else "# no table fits: "
        yield f"      {hidden}- {scalar(found.topic)}"
    yield "    start: earliest  # where nothing is stored yet; `latest` for new records only"
    yield ""
    yield "sink:"
    yield "  postgres:"
    yield "    dsn: ${PYCDC_DSN}"
    yield "    on_error: stop  # `park` puts what cannot be applied aside"
    yield "    routes:  # parents first"
    for found in samples:
        proposal = proposals[found.topic]
        if proposal is not None:
            yield from _route(proposal)


def _route(proposal: Proposal) -> Iterator[str]:
    found = proposal.sample
    kinds = f", of {found.kinds} kinds: `when` can tell them apart" if found.kinds > 1 else ""
    yield f"      # {plural(found.records, 'record')} looked at{kinds}"
    yield f"      - topic: {scalar(found.topic)}"
    yield f"        table: {scalar(str(proposal.table))}"
    if proposal.plain:
        return
    yield f"        key: {_mapping(proposal.key)}"
    yield f"        set: {_mapping(proposal.assigned)}"
    if proposal.guessed:
        yield f"        # by a part of their names: {printable(', '.join(sorted(proposal.guessed)))}"
    if proposal.unused:
        yield f"        # without a column: {printable(', '.join(proposal.unused))}"


def _mapping(pairs: Mapping[str, str]) -> str:
    return "{" + ", ".join(f"{scalar(column)}: {scalar(field)}" for column, field in pairs.items()) + "}"
