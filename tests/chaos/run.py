"""One round: random tables in two databases, a capture from the first, an apply pipeline into the second.

Judges by what the databases say. An outcome is one of: equal, refused (a pipeline stopped, or parked, by name), or
different, which nothing excuses.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import psycopg
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

import pycdc
from tests.chaos.random_tables import RARELY, Schema, Table, random_schema
from tests.chaos.random_transactions import Application

PATIENCE = 150.0
"""Seconds in which all that was written must arrive, or a pipeline must stop."""
WAIT = 30.0
"""Seconds that an event waits for what others bring, before it is refused."""
SHOWN = 6
"""Differences that are printed of a table."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where a round runs: two empty databases of one server, brokers and registry, and a name of its own."""

    source: str
    target: str
    brokers: str
    registry: str
    name: str
    version: int
    features: tuple[str, ...]


@dataclass(slots=True)
class Outcome:
    """What became of a round. `refusal` is the error's text; `differences` are rows of one side only, by table."""

    kind: Literal["equal", "refused", "different"]
    options: str
    transactions: int = 0
    rows: int = 0
    refusal: str = ""
    differences: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"{self.kind}: {self.transactions} transactions, {self.rows} rows, {self.options}"]
        return "\n      ".join([*lines, *([self.refusal] if self.refusal else []), *self.differences])


class Pipeline:
    """A pipeline on a thread. `error` is what ended it, `end` the LSN that a capture has to reach."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.pipeline = pycdc.Pipeline(document)
        self.error: BaseException | None = None
        self.end: str | None = None
        self._thread = threading.Thread(target=self._run, name=document["name"], daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.pipeline.run()
        except BaseException as error:
            self.error = error

    def stop(self) -> None:
        self.pipeline.stop()
        self._thread.join(60)
        assert not self._thread.is_alive(), "the pipeline does not stop"


@dataclass(frozen=True, slots=True)
class Options:
    """How records are written and applied."""

    format: str
    values: dict[str, str]
    flatten: bool
    batch: int
    on_error: str
    headers: bool
    partitions: int
    added: tuple[str, ...]

    @property
    def exact(self) -> frozenset[str]:
        """The options of `values` that some types need to arrive whole."""
        return frozenset(f"{name}: {word}" for name, word in self.values.items())

    def __str__(self) -> str:
        words = [self.format, *sorted(self.exact), f"batches of {self.batch}", self.on_error]
        return ", ".join([*words, *(["flattened"] if self.flatten else []), f"{self.partitions} partitions"])


def random_options(chance: random.Random) -> Options:
    values = {
        "decimal": chance.choice(("precise", "precise", "string")),
        "time": chance.choice(
            ("adaptive", "adaptive", "adaptive_microseconds", "microseconds", "nanoseconds", "isostring")
        ),
        "interval": chance.choice(("numeric", "string")),
        "binary": chance.choice(("bytes", "bytes", "base64", "base64-url-safe", "hex")),
        "hstore": chance.choice(("json", "map")),
    }
    return Options(
        chance.choice(("avro", "avro", "avro", "json_schema", "json")),
        values,
        chance.random() < 0.3,
        chance.choice((1, 7, 100, 2000, 2000, 2000)),
        chance.choice(("stop", "stop", "park")),
        chance.random() < 0.2,
        chance.choice((1, 1, 3)),
        () if chance.random() < RARELY else ("lsn", "source.sequence"),
    )


def run_round(places: Places, seed: int, transactions: int) -> Outcome:
    """Write that many transactions while both pipelines run, wait until all has arrived, and compare."""
    chance = random.Random(seed)
    options = random_options(chance)
    tied = chance.random() < 0.8
    toast = chance.random() < 0.6
    schema = random_schema(
        chance, places.features, options.exact, tied=tied, toast=toast, ordered=options.partitions == 1
    )
    for dsn, source in ((places.source, True), (places.target, False)):
        with psycopg.connect(dsn, autocommit=True) as connection:
            for statement in schema.ddl(source=source):
                connection.execute(statement.encode())
    topics = {table.name: f"{places.name}.public.{table.name}" for table in schema.tables}
    create_topics(places.brokers, list(topics.values()), options.partitions)
    application = Application(places.source, schema, chance)
    pipelines: list[Pipeline] = []
    try:
        before = transactions // 5
        for _ in range(before):
            application.transaction()
        pipelines.append(Pipeline(capture(places, options, schema)))
        refusal = until(lambda: pipelines[0].pipeline.progress.state == "streaming", pipelines)
        early = chance.random() < 0.5
        if early:
            pipelines.append(Pipeline(apply(places, options, schema, topics)))
        for _ in range(transactions - before):
            application.transaction()
        if not early:
            pipelines.append(Pipeline(apply(places, options, schema, topics)))
        refusal = refusal or until(lambda: drained(places, pipelines[0]), pipelines)
        ends = {} if refusal else ends_of(places, list(topics.values()))
        refusal = refusal or until(lambda: applied(places, ends), pipelines)
    finally:
        application.close()
        for pipeline in pipelines:
            pipeline.stop()
        delete_topics(places.brokers, list(topics.values()))
    refusal = refusal or parked(places)
    outcome = Outcome("equal", f"seed {seed}: {options}", transactions, refusal=refusal)
    if refusal:
        outcome.kind = "refused"
        return outcome
    for table in schema.tables:
        outcome.rows += compare(places, table, outcome.differences)
    if outcome.differences:
        outcome.kind = "different"
        outcome.differences += list(schema.ddl(source=True))[len(schema.prelude) + len(schema.extensions) :]
    return outcome


def capture(places: Places, options: Options, schema: Schema) -> dict[str, Any]:
    tables = [f"public.{table.name}" for table in schema.tables]
    return {
        "name": places.name,
        "source": {"postgres": {"dsn": places.source, "tables": tables, "via_partition_root": True}},
        "sink": {"kafka": {"brokers": places.brokers, "registry": places.registry, "format": options.format}},
        "values": options.values,
        "rules": [{"tables": f"public.{one.name}", "key": ["sku"]} for one in schema.tables if one.identity == "INDEX"],
        "envelope": {"context_headers": options.headers},
        **({"flatten": {"deletes": "rewrite", "add_fields": options.added}} if options.flatten else {}),
        "checkpoint": {"interval": 0.2},
        "http": {"enabled": False},
    }


def apply(places: Places, options: Options, schema: Schema, topics: dict[str, str]) -> dict[str, Any]:
    routes = [
        {
            "topic": topics[table.name],
            "table": f"public.{table.name}",
            **({} if table.route_key == table.key else {"key": {name: name for name in table.route_key}}),
        }
        for table in schema.tables
    ]
    source = {
        "brokers": places.brokers,
        "registry": places.registry,
        "topics": list(topics.values()),
        "max_batch_events": options.batch,
        # Nothing else tells bytes from text, and JSON without a schema not even a date from a number.
        **(
            {"values": {**options.values, "money_fraction_digits": 2}}
            if options.format == "json" or options.values["binary"] != "bytes"
            else {}
        ),
    }
    sink = {"dsn": places.target, "routes": routes, "on_error": options.on_error, "wait_for_parents": WAIT}
    return {
        "name": f"{places.name}-apply",
        "source": {"kafka": source},
        "sink": {"postgres": sink},
        "http": {"enabled": False},
        "retries": {"max_delay": 0.5, "give_up_after": 60},
    }


def until(condition: Callable[[], bool], pipelines: list[Pipeline]) -> str:
    """Wait until it holds; "" then, else what ended a pipeline. TimeoutError where neither happens."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        for pipeline in pipelines:
            if isinstance(pipeline.error, pycdc.PycdcError):
                return f"{type(pipeline.error).__name__}: {pipeline.error}"
            if pipeline.error is not None:
                raise pipeline.error
        if time.monotonic() > deadline:
            facts = [f"{one.pipeline.progress.state}, {one.pipeline.progress.last_error}" for one in pipelines]
            raise TimeoutError(f"nothing happened for {PATIENCE:.0f} s: {facts}")
        time.sleep(0.1)
    return ""


def drained(places: Places, pipeline: Pipeline) -> bool:
    """Whether Kafka has confirmed all that the source wrote."""
    slot = f"pycdc_{places.name}"
    with psycopg.connect(places.source, autocommit=True) as connection:
        if pipeline.end is None:
            row = connection.execute("SELECT pg_current_wal_insert_lsn()").fetchone()
            pipeline.end = None if row is None else row[0]
        found = connection.execute(
            "SELECT confirmed_flush_lsn >= %s::pg_lsn FROM pg_replication_slots WHERE slot_name = %s",
            (pipeline.end, slot),
        ).fetchone()
        return bool(found and found[0])


def ends_of(places: Places, topics: list[str]) -> dict[str, int]:
    """The sums of the topics' ends."""
    consumer = Consumer({"bootstrap.servers": places.brokers, "group.id": f"{places.name}-ends", "log_level": 3})
    try:
        ends: Counter[str] = Counter()
        for topic in topics:
            for number in consumer.list_topics(topic, timeout=60).topics[topic].partitions:
                ends[topic] += consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=60)[1]
    finally:
        consumer.close()
    return dict(+ends)


def applied(places: Places, ends: dict[str, int]) -> bool:
    """Whether the target's own offsets are there."""
    with psycopg.connect(places.target, autocommit=True) as connection:
        if connection.execute("SELECT to_regclass('pycdc.apply_offsets')").fetchone() == (None,):
            return not ends
        query = "SELECT topic, sum(next_offset) FROM pycdc.apply_offsets GROUP BY topic"
        return dict(connection.execute(query).fetchall()) == ends


def parked(places: Places) -> str:
    """The first reason why something was parked."""
    with psycopg.connect(places.target, autocommit=True) as connection:
        if connection.execute("SELECT to_regclass('pycdc.parked')").fetchone() == (None,):
            return ""
        found = connection.execute(
            """SELECT topic, error || ': ' || coalesce(detail, '') FROM pycdc.parked WHERE error <> 'Follower'
            ORDER BY parked_at, "offset" LIMIT 1"""
        ).fetchone()
        return "" if found is None else f"parked {found[0]}: {found[1]}"


def compare(places: Places, table: Table, differences: list[str]) -> int:
    """Compare all rows of a table; the number of the source's. Rows of one side only go to `differences`."""
    sides = []
    for dsn in (places.source, places.target):
        with psycopg.connect(dsn, options="-c timezone=UTC -c extra_float_digits=3") as connection:
            sides.append(Counter(text for (text,) in connection.execute(table.comparison.encode())))
    for side, rows in (("source", sides[0] - sides[1]), ("target", sides[1] - sides[0])):
        differences += [f"{table.name}, only in {side}: {_short(text)}" for text in list(rows)[:SHOWN]]
    return sides[0].total()


def _short(text: str) -> str:
    return " | ".join(part if len(part) < 60 else f"{part[:40]}… ({len(part)})" for part in text.split(" | "))


def create_topics(brokers: str, topics: list[str], partitions: int) -> None:
    admin = AdminClient({"bootstrap.servers": brokers, "log_level": 3})
    for made in admin.create_topics([NewTopic(topic, partitions, 1) for topic in topics]).values():
        made.result(PATIENCE)


def delete_topics(brokers: str, topics: list[str]) -> None:
    """Leave a broker that many rounds share as it was."""
    admin = AdminClient({"bootstrap.servers": brokers, "log_level": 3})
    for deleted in admin.delete_topics(topics).values():
        deleted.result(PATIENCE)
