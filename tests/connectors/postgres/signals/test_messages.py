"""Snapshots that are asked for: what is read, what rests, what is given up; and who may ask."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import psycopg
import pytest
from pydantic import SecretStr

from pycdc.config.postgres_source import SignalsConfig
from pycdc.connectors.postgres.catalog.catalog import Catalog
from pycdc.connectors.postgres.catalog.metadata import SlotMetadata
from pycdc.connectors.postgres.signals import messages as signals
from pycdc.connectors.postgres.signals.debezium import DebeziumSignal
from pycdc.connectors.postgres.signals.messages import Signal, ask
from pycdc.connectors.postgres.signals.signing import KEPT, SigningKey, key_of
from pycdc.errors import ConfigError, EnvironmentNotReady
from pycdc.model.change import Op
from tests.connectors.postgres.reading import SIGNALS_KEY, Pipeline, config_for, execute, write_last

TABLES = """
CREATE TABLE finish (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY);
CREATE TABLE orders (id int PRIMARY KEY, v int NOT NULL);
CREATE TABLE bare (id int);
INSERT INTO orders SELECT i, 0 FROM generate_series(1, 200) i;
INSERT INTO bare SELECT generate_series(1, 50);
"""


@pytest.fixture
def pipeline(database: str) -> Pipeline:
    """One that streams, without having read a row; stopped."""
    execute(database, TABLES)
    pipeline = Pipeline(config_for(database, snapshot="never"))
    assert pipeline.run(lambda p: p.nothing_left)
    assert pipeline.run(write_last(database))
    pipeline.changes.clear()
    pipeline.durable = 0
    return pipeline


def read(pipeline: Pipeline) -> list[tuple[str, int]]:
    return [
        (change.table.name, change.after["id"])
        for change in pipeline.changes
        if change.op is Op.READ and change.table is not None and change.after is not None
    ]


def test_a_table_is_read_again_while_the_stream_goes_on(database: str, pipeline: Pipeline) -> None:
    assert ask(pipeline.config, Signal("snapshot", ("orders", "bare"))) is False
    execute(database, "UPDATE orders SET v = 1 WHERE id = 7")
    assert pipeline.run(write_last(database))
    assert pipeline.run(lambda p: p.nothing_left)
    assert sorted(read(pipeline)) == sorted(
        [("orders", i) for i in range(1, 201)] + [("bare", i) for i in range(1, 51)]
    )
    assert {change.run.marker for change in pipeline.changes if change.op is Op.READ} == {"incremental"}
    assert [change.after for change in pipeline.changes if change.op is Op.UPDATE] == [{"id": 7, "v": 1}]


def test_a_condition_chooses_rows(database: str, pipeline: Pipeline) -> None:
    ask(pipeline.config, Signal("snapshot", ("orders",), "id % 100 = 7 -- a comment"))
    assert pipeline.run(write_last(database))
    assert pipeline.run(lambda p: p.nothing_left)
    assert read(pipeline) == [("orders", 7), ("orders", 107)]


def test_a_snapshot_rests_and_goes_on_also_over_a_restart(database: str, pipeline: Pipeline) -> None:
    ask(pipeline.config, Signal("snapshot", ("orders",)))
    ask(pipeline.config, Signal("pause"))
    assert pipeline.run(write_last(database))
    assert pipeline.stored is not None
    assert pipeline.stored.snapshot["paused"] is True
    rows = len(read(pipeline))
    assert rows < 200
    assert pipeline.run(write_last(database))
    assert len(read(pipeline)) == rows
    ask(pipeline.config, Signal("resume"))
    assert pipeline.run(write_last(database))
    assert pipeline.run(lambda p: p.nothing_left)
    assert len(read(pipeline)) == len(set(read(pipeline))) == 200


def test_what_was_asked_for_can_be_cancelled(database: str, pipeline: Pipeline) -> None:
    ask(pipeline.config, Signal("pause"))
    ask(pipeline.config, Signal("snapshot", ("orders", "bare")))
    ask(pipeline.config, Signal("cancel", ("orders",)))
    ask(pipeline.config, Signal("resume"))
    assert pipeline.run(write_last(database))
    assert pipeline.run(lambda p: p.nothing_left)
    assert {table for table, _ in read(pipeline)} == {"bare"}


def test_a_condition_that_fails_on_a_row_gives_up_the_snapshot_and_not_the_stream(
    database: str, pipeline: Pipeline, caplog: pytest.LogCaptureFixture
) -> None:
    ask(pipeline.config, Signal("snapshot", ("orders", "bare"), "1 / (id - 7) < 2"))
    assert pipeline.run(write_last(database))
    assert pipeline.run(lambda p: p.nothing_left)
    given_up = [record for record in caplog.records if "gave up the snapshot of a table" in record.getMessage()]
    assert {record.__dict__["table"] for record in given_up} == {"public.orders", "public.bare"}


def test_who_does_not_have_the_key_is_not_heard(database: str, pipeline: Pipeline) -> None:
    key = key_of(pipeline.config, None)
    for guessed in (b"", b"postgres", SIGNALS_KEY.encode(), key[:-1]):
        signals.send(database, pipeline.config.slot, guessed, [Signal("snapshot", ("orders",))])
    signals.send(database, "another_slot", key, [Signal("snapshot", ("orders",))])
    for content in ("", "[]", "7", "{", '{"signal": 7, "hmac": "x"}', '{"signal": "{}", "hmac": "é"}'):
        execute(database, f"SELECT pg_logical_emit_message(true, 'pycdc.snapshot', '{content}')")
    assert pipeline.run(write_last(database))
    assert pipeline.nothing_left
    assert read(pipeline) == []
    assert [change.op for change in pipeline.changes] == [Op.CREATE]


def test_wishes_that_nobody_could_fulfil_are_refused_at_once(database: str, pipeline: Pipeline) -> None:
    with pytest.raises(ConfigError, match="nowhere is not a captured table"):
        ask(pipeline.config, Signal("snapshot", ("nowhere",)))
    for condition in ("no_such_column = 1", "id = ", "id) OR (true"):
        with pytest.raises(ConfigError, match="the condition does not fit"):
            ask(pipeline.config, Signal("snapshot", ("orders",), condition))
    other = config_for(database, slot="never_made")
    with pytest.raises(EnvironmentNotReady, match="slot never_made does not exist"):
        ask(other, Signal("snapshot", ("orders",)))


def test_who_asks_while_the_slot_is_being_made_is_told_so(
    database: str, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What commits before a slot's consistent point is never decoded: the wish would be lost."""
    slot = Catalog.slot

    def unfinished(self: Catalog, name: str) -> SlotMetadata | None:
        found = slot(self, name)
        return None if found is None else replace(found, confirmed_flush=None)

    monkeypatch.setattr(Catalog, "slot", unfinished)
    with pytest.raises(EnvironmentNotReady, match="still being made"):
        ask(pipeline.config, Signal("snapshot", ("orders",)))
    with pytest.raises(EnvironmentNotReady, match="still being made"):
        signals.pass_on(
            pipeline.config, SigningKey(pipeline.config), DebeziumSignal("topic-0-7", "pause-snapshot", "{}", "topic")
        )


def test_what_a_stranger_writes_under_our_prefix_stops_nothing(database: str, pipeline: Pipeline) -> None:
    for content in (
        "repeat('[', 100000)",
        """'{"signal": "{}", "hmac": "\\ud800"}'""",
        """'{"signal": "\\ud800", "hmac": ""}'""",
    ):
        execute(database, f"SELECT pg_logical_emit_message(true, 'pycdc.snapshot', {content})")
    assert pipeline.run(write_last(database))


def test_a_copy_of_a_signal_is_not_obeyed_again(
    database: str, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    emit, sent = signals.emit, []

    def kept(connection: Any, text: Any) -> Any:
        sent.append(text)
        return emit(connection, text)

    monkeypatch.setattr(signals, "emit", kept)
    ask(pipeline.config, Signal("snapshot", ("orders",)))
    assert pipeline.run(write_last(database))
    assert pipeline.run(lambda p: p.nothing_left)
    assert len(read(pipeline)) == 200
    with psycopg.connect(database, autocommit=True) as connection:
        emit(connection, sent[0])
    assert pipeline.run(write_last(database))
    assert pipeline.run(lambda p: p.nothing_left)
    assert len(read(pipeline)) == 200


def test_without_a_key_in_the_configuration_one_is_made_once_and_kept_with_the_position(database: str) -> None:
    execute(database, TABLES)
    config = config_for(database, snapshot="never").model_copy(update={"signals": SignalsConfig()})
    pipeline = Pipeline(config)
    assert pipeline.run(lambda p: p.nothing_left)
    with pytest.raises(EnvironmentNotReady, match="there is no key to sign signals"):
        ask(config, Signal("snapshot", ("orders",)))
    assert pipeline.stored is not None
    made = pipeline.stored.source[KEPT]
    assert len(bytes.fromhex(made)) == 32
    ask(config, Signal("snapshot", ("orders",)), pipeline.stored.source)
    assert pipeline.run(write_last(database))
    assert pipeline.run(lambda p: p.nothing_left)
    assert len(read(pipeline)) == 200
    assert pipeline.stored.source[KEPT] == made


def test_neither_the_dsn_nor_the_role_gives_the_key() -> None:
    one = config_for("host=db dbname=shop user=cdc", snapshot="never").model_copy(update={"signals": SignalsConfig()})
    first, second = SigningKey(one), SigningKey(one)
    first.take(None), second.take(None)
    assert first.value != second.value
    assert key_of(one.model_copy(update={"signals": SignalsConfig(key=SecretStr("x" * 16))}), None) != b"x" * 16
