"""`pycdc run --dry-run`: the SQL that a pipeline from Kafka would execute next. Writes nothing, joins no group."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Generator
from contextlib import closing
from itertools import islice
from typing import Any, Final, Literal

import click

from pycdc.build.apply import build_preview
from pycdc.build.decoder import build_decoder
from pycdc.clients.kafka_inspection import OffsetSpan
from pycdc.config.pipeline import ApplyPipeline, PipelineConfig
from pycdc.connectors.kafka.offset_range_reader import read_events
from pycdc.errors import ConfigError
from pycdc.model.event import Event, Partition
from pycdc.operations.apply_status import ApplyState, inspect
from pycdc.operations.humanize import plural
from pycdc.printable import json_printable, printable, sql_printable
from pycdc.sinks.postgres.dry_run import Planned, PlannedStatement

StartOption = Literal["stored", "earliest"]

_HEADER: Final = "BEGIN;\nSET LOCAL TimeZone = 'UTC';\nSET LOCAL DateStyle = 'ISO';"
"""As the pipeline's own session has them."""


def dry_run(config: PipelineConfig, *, start: StartOption, limit: int | None, values: bool, as_json: bool) -> int:
    """Print what would be done; return the exit code: 1 where an event would stop the pipeline."""
    if not isinstance(config, ApplyPipeline):
        raise ConfigError(
            "a dry run is for pipelines that read Kafka, and this one captures",
            hint="to see its changes, `pycdc run --dsn … --table …` prints them and leaves nothing behind; "
            "or set `sink: {console: {}}` under another name",
        )
    printer = _Json(values) if as_json else _Sql(values)
    counts: Counter[str] = Counter()
    with build_preview(config) as plans, closing(_events(config, start)) as events:
        for event in islice(events, limit):
            planned = plans.plan(event)
            counts.update(records=1, statements=len(planned.statements), problems=planned.problem is not None)
            counts.update(waiting=planned.waits)
            printer.show(planned)
    printer.end(counts)
    return 1 if counts["problems"] and config.sink.postgres.on_error == "stop" else 0


def _events(config: ApplyPipeline, start: StartOption) -> Generator[Event]:
    source = config.source.kafka
    spans = _spans(inspect(config), start, source.start)
    with build_decoder(source) as decoder:
        yield from read_events(source, config.group, decoder, spans)


def _spans(found: ApplyState, start: StartOption, first_start: str) -> dict[Partition, OffsetSpan]:
    """Return what there is to read. Raises PycdcError where a server does not answer, or a stored offset is gone."""
    for failure in found.failures.values():
        raise failure
    spans = {}
    for place in found.places:
        problem = place.problem() if start == "stored" else None
        if problem is not None:
            raise problem
        if place.span is not None:
            from_first = start == "earliest" or (place.stored is None and first_start == "earliest")
            begin = place.span.first if from_first else place.stored.next if place.stored else place.span.end
            spans[place.partition] = OffsetSpan(begin, place.span.end)
    return spans


class _Sql:
    """For people and for psql: a statement is prepared where it is first needed, and executed for each record.

    The whole is a transaction that is rolled back, so that it may be tried.
    """

    def __init__(self, values: bool) -> None:
        self._values = values
        self._names: dict[str, str] = {}
        click.echo(_HEADER)

    def show(self, planned: Planned) -> None:
        click.echo(printable(f"-- {planned.event}{_remark(planned)}"))
        for statement in planned.statements:
            name = self._prepared(statement)
            click.echo(
                f"EXECUTE {name}({', '.join(map(sql_printable, statement.literals())) if self._values else '…'});"
            )

    def _prepared(self, statement: PlannedStatement) -> str:
        name = self._names.get(statement.text)
        if name is None:
            name = self._names[statement.text] = f"pycdc_{len(self._names) + 1}"
            click.echo(f"PREPARE {name} AS {sql_printable(statement.text)};")
        return name

    def end(self, counts: Counter[str]) -> None:
        summary = [plural(counts["records"], "record"), plural(counts["statements"], "statement")]
        summary += [plural(counts["problems"], "problem")] if counts["problems"] else []
        summary += [f"{counts['waiting']} behind parked ones"] if counts["waiting"] else []
        click.echo(f"ROLLBACK;\n-- {', '.join(summary)}; nothing was written")


def _remark(planned: Planned) -> str:
    if planned.problem is not None:
        return f": cannot be applied: {planned.problem}"
    if planned.waits:
        return ": is parked, since an earlier event of its key is"
    return "" if planned.statements else ": nothing to do"


class _Json:
    """One line a record, and one at the end."""

    def __init__(self, values: bool) -> None:
        self._values = values

    def show(self, planned: Planned) -> None:
        partition = planned.event.partition
        self._print(
            {
                "topic": partition.topic,
                "partition": partition.number,
                "offset": planned.event.offset,
                "statements": [self._statement(statement) for statement in planned.statements],
                "problem": planned.problem,
                "waits": planned.waits,
            }
        )

    def end(self, counts: Counter[str]) -> None:
        self._print({name: counts[name] for name in ("records", "statements", "problems", "waiting")})

    def _statement(self, statement: PlannedStatement) -> dict[str, Any]:
        summary = {"table": statement.table, "operation": statement.operation, "sql": statement.text}
        return {**summary, "parameters": list(statement.parameters)} if self._values else summary

    def _print(self, line: dict[str, Any]) -> None:
        click.echo(json_printable(json.dumps(line, ensure_ascii=False)))
