"""Each option of Debezium's Postgres connector 3.7 has an answer in docs/debezium.md."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[1] / "docs" / "debezium.md"
OPTIONS = """
binary.handling.mode column.exclude.list column.include.list column.mask.hash.<algorithm>.with.salt.<salt>
column.mask.hash.v2.<algorithm>.with.salt.<salt> column.mask.with.<n>.chars column.propagate.source.type
column.truncate.to.<n>.chars converters custom.metric.tags custom.sanitize.pattern database.connection.factory.class
database.dbname database.hostname database.initial.statements database.password database.port
database.query.timeout.ms database.sslcert database.sslfactory database.sslkey database.sslmode database.sslpassword
database.sslrootcert database.tcpKeepAlive database.user datatype.propagate.source.type decimal.handling.mode driver.*
errors.max.retries event.converting.failure.handling.mode event.processing.failure.handling.mode
extended.headers.enabled field.name.adjustment.mode flush.lsn.source guardrail.collections.limit.action
guardrail.collections.max heartbeat.action.query heartbeat.interval.ms hstore.handling.mode
include.unknown.datatypes incremental.snapshot.allow.schema.changes incremental.snapshot.chunk.size
incremental.snapshot.watermarking.strategy internal.create.slot.command.timeout interval.handling.mode
large.message.s3.* legacy.snapshot.max.threads lsn.flush.mode lsn.flush.timeout.action lsn.flush.timeout.ms
max.batch.size max.queue.size max.queue.size.in.bytes message.key.columns message.prefix.exclude.list
message.prefix.include.list money.fraction.digits notification.enabled.channels notification.http.*
notification.sink.topic.name offset.mismatch.strategy openlineage.* plugin.name poll.dispatch.interval.ms
poll.interval.ms post.processors provide.transaction.metadata publication.autocreate.mode publication.name
publish.via.partition.root queue.provider.type read.only replica.identity.autoset.values reselect.*
retriable.restart.connector.wait.ms schema.exclude.list schema.include.list schema.name.adjustment.mode
schema.refresh.mode signal.consumer.* signal.data.collection signal.emit.failure.backoff.ms
signal.emit.failure.max.retries signal.enabled.channels signal.file signal.kafka.bootstrap.servers
signal.kafka.groupId signal.kafka.poll.timeout.ms signal.kafka.topic signal.poll.interval.ms
skip.messages.without.change skipped.operations slot.drop.on.stop slot.failover slot.max.retries slot.name
slot.retry.delay.ms slot.stream.params snapshot.delay.ms snapshot.fetch.size snapshot.include.collection.list
snapshot.isolation.mode snapshot.lock.timeout.ms snapshot.locking.mode snapshot.locking.mode.custom.name
snapshot.max.threads snapshot.max.threads.multiplier snapshot.mode snapshot.mode.configuration.based.*
snapshot.mode.custom.name snapshot.query.mode snapshot.query.mode.custom.name
snapshot.select.statement.overrides snapshot.tables.order.by.row.count statistics.metrics.enabled
status.update.interval.ms streaming.delay.ms table.exclude.list table.ignore.builtin table.include.list tasks.max
time.precision.mode tombstones.on.delete topic.cache.size topic.delimiter topic.heartbeat.name
topic.heartbeat.prefix topic.naming.strategy topic.prefix topic.transaction transaction.metadata.factory
unavailable.value.placeholder xmin.fetch.interval.ms
""".split()  # noqa: SIM905


def answers() -> dict[str, list[str]]:
    """What the tables say of each name in their first column: the cells behind it."""
    out: dict[str, list[str]] = {}
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith("|") and len(cells) >= 2:
            for name in re.findall(r"`([^`]+)`", cells[0]):
                out.setdefault(name, []).extend(cells[1:])
    return out


@pytest.mark.parametrize("option", OPTIONS)
def test_the_option_has_an_answer(option: str) -> None:
    assert any(answers().get(option, []))
