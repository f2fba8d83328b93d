"""Checks of an apply pipeline: topics that are read, tables that are written."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence

from pycdc.clients.kafka_inspection import matching_topics
from pycdc.clients.quoting import quoted
from pycdc.config.kafka import KafkaSourceConfig
from pycdc.config.postgres_sink import PostgresSinkConfig
from pycdc.model.patterns import names_any
from pycdc.operations.doctor.finding import Finding, failed, ok, warning
from pycdc.operations.doctor.transport import superuser_finding
from pycdc.sinks.postgres.conflicts.preflight import ConflictInspection
from pycdc.sinks.postgres.preflight import RouteInspection, TargetInspection
from pycdc.sinks.postgres.routing.key_reuse import REMEDY, identifies_row


def source_findings(source: KafkaSourceConfig, sink: PostgresSinkConfig) -> Iterator[Finding]:
    """Yield findings about the topics. Raises PycdcError where the brokers do not answer."""
    for index, (pattern, found) in enumerate(matching_topics(source).items()):
        path = f"source.kafka.topics[{index}]"
        if not found and "*" in pattern:
            yield warning(f"no topic matches {pattern} yet", "those made later are found", path=path)
        elif not found:
            yield failed(f"topic {pattern} does not exist", path=path, fix="create it, or correct the name")
        else:
            yield ok(f"{pattern}", f"{len(found)} topic{'s' * (len(found) > 1)}")
        for topic in found:
            if not names_any([route.topic for route in sink.routes], topic):
                yield failed(f"no route takes topic {topic}", path="sink.postgres.routes", fix="add one, or read less")


def key_findings(
    partitions: Mapping[str, int], routes: Sequence[RouteInspection], latest: Callable[[str], str | None]
) -> Iterator[Finding]:
    """Yield routes whose key the message keys of Debezium's topics do not hold.

    `partitions` are each topic's, `latest` returns a subject's newest schema.
    """
    for topic, count in partitions.items():
        key, value = (_fields(latest(f"{topic}-{part}")) for part in ("key", "value"))
        if key is None or value is None or not {"before", "after", "op"} <= value:
            continue
        for route in (one for one in routes if names_any([one.topic], topic)):
            path = f"sink.postgres.routes[{route.index}]"
            lacking = sorted(set(route.asked) - key)
            if lacking:
                yield warning(
                    f"the message keys of {topic} do not tell {', '.join(lacking)}, which the route into {route.table} "
                    "asks for: deletes and updates are refused where their old rows do not tell it either, and rows "
                    "that `when` takes no more stay",
                    path=path,
                    fix="set REPLICA IDENTITY FULL for the source's table, and `replica_identity: full` in the route; "
                    "or ask for fields of the message key",
                )
            if count > 1 and route.reused and not identifies_row(key, route.key):
                yield failed(
                    f"{topic} has {count} partitions, and its message key is not the key of the route into "
                    f"{route.table}: where a value of that key passes from one row of the source to another, their "
                    "records have no order, and a row may be lost",
                    path=path,
                    fix=REMEDY,
                )


def _fields(text: str | None) -> set[str] | None:
    """Return the fields of a record's schema in Avro."""
    try:
        return None if text is None else {field["name"] for field in json.loads(text)["fields"]}
    except (ValueError, LookupError, TypeError):
        return None


def target_findings(target: TargetInspection, bookkeeping: str) -> Iterator[Finding]:
    yield ok(f"Postgres {target.version // 10_000}", f"role {target.role}")
    for route in target.routes:
        yield from _route(route, target.role)
    if target.superuser:
        yield superuser_finding(target.role, "sink.postgres.dsn", "rights on the tables of the routes")
    if target.read_only is not None:
        fact, remedy = target.read_only
        yield failed(fact, path="sink.postgres.dsn", fix=remedy)
    for problem in target.path:
        yield failed(problem.fact, path="sink.postgres.search_path", fix=problem.remedy)
    for sequence, column in target.lagging:
        yield warning(
            f"sequence {sequence} is behind {column}: a row that takes its value from it will collide",
            path="sink.postgres.routes",
            fix="pycdc sequences … --apply",
        )
    if target.bookkeeping_sql is not None:
        yield failed(
            f"tables of pycdc's own are not in schema {bookkeeping}, and the role may not make them",
            path="sink.postgres.bookkeeping",
            fix=target.bookkeeping_sql,
        )
    for fact, remedy in target.untenable:
        yield failed(fact, path="sink.postgres.routes", fix=remedy)
    for fact, remedy in target.waiting:
        yield warning(fact, path="sink.postgres.routes", fix=remedy)
    yield from conflict_findings(target.conflicts)


def conflict_findings(target: ConflictInspection) -> Iterator[Finding]:
    for index, fact, remedy in target.wrong:
        yield failed(fact, path=f"sink.postgres.routes[{index}].conflict", fix=remedy)
    if target.crowded is not None:
        fact, remedy = target.crowded
        yield warning(fact, path="sink.postgres.dsn", fix=remedy)
    if target.lacking is not None and target.by_origin and not target.wrong:
        fact, remedy = target.lacking
        title = f"{fact}: what others write into {', '.join(target.by_origin)} is overwritten unseen"
        yield warning(title, path="sink.postgres.routes", fix=remedy)
    elif target.by_origin and not target.wrong:
        yield ok("conflicts are seen by the last writer of a row", f"{', '.join(target.by_origin)}")


def _route(route: RouteInspection, role: str) -> Iterator[Finding]:
    path = f"sink.postgres.routes[{route.index}]"
    for fact, remedy in route.wrong:
        yield failed(fact, path=path, fix=remedy)
    if route.lacking:
        rights = ", ".join(route.lacking)
        fix = f"GRANT {rights} ON {route.table} TO {quoted(role)};"
        yield failed(f"role {role} lacks {rights} on {route.table}", path=path, fix=fix)
    for fact, remedy in route.cautions:
        yield warning(fact, path=path, fix=remedy)
    if not route.wrong and not route.lacking:
        yield ok(f"{route.topic} to {route.table}")
