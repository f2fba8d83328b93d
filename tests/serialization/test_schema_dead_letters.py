"""Rows whose schema the registry refuses are set apart, whole and told apart, until it takes the schema."""

from __future__ import annotations

import gc
import io
import json
import logging
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Any

import fastavro
import pytest
import urllib3

from pycdc.clients.schema_registry import SchemaRegistry
from pycdc.config.kafka import RegistryConfig
from pycdc.demo.registry import EmbeddedRegistry
from pycdc.errors import SchemaIncompatible
from pycdc.model.change import Op, Routing, Run, Table
from pycdc.observability.health import judge
from pycdc.observability.metrics import exposition, registry
from pycdc.observability.progress import Progress
from pycdc.observability.report import report
from pycdc.rows.encoder import RowEncoder
from pycdc.serialization import schema_dead_letters as parking
from pycdc.serialization.avro_format import AvroFormat, registered
from pycdc.serialization.schema_dead_letters import SchemaDeadLetters
from pycdc.serialization.serializer import Serializer
from tests.connectors.postgres import frames
from tests.serialization.runs import COMMIT, ID, batch, column, configured, inserts, run

ITEMS = Table(1, "public", "items", (ID, column("n", "int4")), ("id",))
RETYPED = Table(1, "public", "items", (ID, column("n", "text")), ("id",))
AGAIN = Table(1, "public", "items", (ID, column("n", "bool")), ("id",))
OTHER = Table(2, "public", "other", (ID,), ("id",))
LETTERS = "shop.dead-letter"


@dataclass
class Rig:
    embedded: EmbeddedRegistry
    schemas: SchemaRegistry
    progress: Progress
    options: dict[str, Any]
    now: float = 0.0

    def serializer(self) -> Serializer:
        park = SchemaDeadLetters(LETTERS, self.schemas.id_for, self.progress, lambda: self.now)
        form = AvroFormat(registered(self.schemas.id_for, self.schemas.subject))
        return Serializer(configured(**self.options), "db", form, lambda *where: None, park)

    def level(self, subject: str, level: str) -> None:
        url = f"{self.embedded.url}/config/{subject}"
        assert urllib3.request("PUT", url, json={"compatibility": level}).status == 200

    def decoded(self, data: bytes | None) -> Any:
        if data is None:
            return None
        text = self.embedded.subjects.schema(None, str(int.from_bytes(data[1:5], "big")))["schema"]
        stream = io.BytesIO(data[5:])
        value = fastavro.schemaless_reader(stream, fastavro.parse_schema(json.loads(text)))
        assert not stream.read()
        return value

    def made(self, serializer: Serializer, *runs: Run) -> list[tuple[str, Any]]:
        """Topic and new row of each record that is no tombstone."""
        groups = serializer.serialize(batch(*runs))
        values = [(topic, self.decoded(record["value"])) for topic, records in groups for record in records]
        return [(topic, value["after"]) for topic, value in values if value is not None]


@pytest.fixture
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    options = getattr(request, "param", {})
    subjects = options.pop("subjects", "topic")
    with EmbeddedRegistry() as embedded:
        settings = RegistryConfig(url=embedded.url, timeout=1.0, subjects=subjects, on_incompatible="park")
        with closing(SchemaRegistry(settings)) as schemas:
            yield Rig(embedded, schemas, Progress(), options)


def rows(table: Table, *values: bytes) -> Run:
    return inserts(table, *([b"%d" % number, value] for number, value in enumerate(values, 1)))


def test_rows_under_a_refused_schema_go_to_the_dead_letters_and_all_others_go_on(rig: Rig) -> None:
    made = rig.made(
        rig.serializer(), rows(ITEMS, b"1"), rows(RETYPED, b"x", b"y"), inserts(OTHER, [b"7"]), rows(RETYPED, b"z")
    )
    assert sorted(made, key=itemgetter(0)) == [
        (LETTERS, {"id": 1, "n": "x"}),
        (LETTERS, {"id": 2, "n": "y"}),
        (LETTERS, {"id": 1, "n": "z"}),
        ("shop.public.items", {"id": 1, "n": 1}),
        ("shop.public.other", {"id": 7}),
    ]


def test_a_parked_record_says_why_where_it_stands_and_where_it_belongs(rig: Rig) -> None:
    serializer = rig.serializer()
    serializer.serialize(batch(rows(ITEMS, b"1")))
    groups = serializer.serialize(batch(rows(RETYPED, b"x", b"y")))
    assert {topic for topic, _ in groups} == {LETTERS}
    first, second = [dict(record["headers"]) for _, records in groups for record in records]
    assert first.pop("__pycdc.position") == b"16/B374D848"
    assert second.pop("__pycdc.position") == b"16/B374D848+1"
    assert first.pop("__pycdc.lsn") != second.pop("__pycdc.lsn")
    assert first == second
    assert b"before.n: optional int became optional string" in first.pop("__pycdc.reason")
    assert first == {
        "__pycdc.error": b"SchemaIncompatible",
        "__pycdc.subject": b"shop.public.items-value",
        "__pycdc.topic": b"shop.public.items",
        "__pycdc.table": b"public.items",
    }


@pytest.mark.parametrize("rig", [{}, {"flatten": {}}], indirect=True)
def test_parked_records_are_those_that_the_topic_would_have_got(rig: Rig) -> None:
    """Copied into it, they are what was lost: the same keys, values, tombstones and even schema ids."""
    delete = frames.delete(1, [b"1", None])
    runs = [rows(RETYPED, b"x"), run(Op.DELETE, RETYPED, delete)]
    serializer = rig.serializer()
    serializer.serialize(batch(rows(ITEMS, b"1")))
    parked = [record for _, records in serializer.serialize(batch(*runs)) for record in records]
    rig.level("shop.public.items-value", "NONE")
    meant = [record for _, records in rig.serializer().serialize(batch(*map(copied, runs))) for record in records]
    assert [record["key"] for record in parked] == [record["key"] for record in meant]
    assert parked[-1]["value"] is None
    assert [timeless(rig, one) for one in parked] == [timeless(rig, one) for one in meant]


def copied(of: Run) -> Run:
    return Run(of.op, of.table, of.transaction, of.index, of.frames)


def timeless(rig: Rig, record: dict[str, Any]) -> tuple[Any, Any]:
    """Schema id and value, without the time at which it was written."""
    data = record["value"]
    if data is None:
        return None, None
    return data[:5], {name: part for name, part in rig.decoded(data).items() if not name.startswith("ts_")}


def test_what_is_refused_twice_is_parked_twice(rig: Rig) -> None:
    """No parked schema is a version of another, which the registry would refuse as well."""
    made = rig.made(rig.serializer(), rows(ITEMS, b"1"), rows(RETYPED, b"x"), rows(AGAIN, b"t"))
    assert made[1:] == [(LETTERS, {"id": 1, "n": "x"}), (LETTERS, {"id": 1, "n": True})]


@pytest.mark.parametrize("rig", [{"subjects": "record"}, {"subjects": "topic_record"}], indirect=True)
def test_parking_does_not_depend_on_how_subjects_are_named(rig: Rig) -> None:
    made = rig.made(rig.serializer(), rows(ITEMS, b"1"), rows(RETYPED, b"x"))
    assert made[1:] == [(LETTERS, {"id": 1, "n": "x"})]


def test_a_key_that_is_refused_parks_its_rows(rig: Rig) -> None:
    rekeyed = replace(ITEMS, columns=(column("id", "text", identity=True, nullable=False), column("n", "int4")))
    serializer = rig.serializer()
    made = rig.made(serializer, rows(ITEMS, b"1"), inserts(rekeyed, [b"a", b"2"]))
    assert made[1:] == [(LETTERS, {"id": "a", "n": 2})]
    assert "shop.public.items-key" in rig.progress.refused["public.items"]


def test_rows_go_to_their_topic_again_once_the_registry_takes_the_schema(rig: Rig) -> None:
    serializer = rig.serializer()
    rig.made(serializer, rows(ITEMS, b"1"), rows(RETYPED, b"x"))
    rig.level("shop.public.items-value", "NONE")
    asked = len(rig.embedded.requests)
    rig.now = parking.ASK_AGAIN - 0.1
    assert rig.made(serializer, rows(RETYPED, b"y")) == [(LETTERS, {"id": 1, "n": "y"})]
    assert len(rig.embedded.requests) == asked
    rig.now = parking.ASK_AGAIN
    assert rig.made(serializer, rows(RETYPED, b"z")) == [("shop.public.items", {"id": 1, "n": "z"})]
    assert not rig.progress.refused


def test_the_registry_is_asked_again_and_again_but_not_for_each_batch(rig: Rig) -> None:
    serializer = rig.serializer()
    rig.made(serializer, rows(ITEMS, b"1"), rows(RETYPED, b"x"))
    asked = 0
    for second in range(int(parking.ASK_AGAIN) * 3):
        rig.now = float(second)
        before = len(rig.embedded.requests)
        rig.made(serializer, rows(RETYPED, b"y"))
        asked += len(rig.embedded.requests) > before
    assert asked == 2


def test_a_column_that_comes_back_ends_it_at_once(rig: Rig) -> None:
    serializer = rig.serializer()
    assert [topic for topic, _ in rig.made(serializer, rows(ITEMS, b"1"))] == ["shop.public.items"]
    assert [topic for topic, _ in rig.made(serializer, rows(RETYPED, b"x"))] == [LETTERS]
    assert rig.made(serializer, rows(replace(ITEMS), b"3")) == [("shop.public.items", {"id": 1, "n": 3})]
    assert not rig.progress.refused


def test_what_is_parked_is_counted_shown_and_logged_once(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        rig.made(rig.serializer(), rows(ITEMS, b"1"), rows(RETYPED, b"x", b"y"), rows(RETYPED, b"z"))
        # After a rewind, another serialiser meets the same.
        rig.made(rig.serializer(), rows(RETYPED, b"x"))
    (warned,) = [record for record in caplog.records if "parking rows" in record.getMessage()]
    assert "optional int became optional string" in str(warned.msg) + warned.getMessage()
    told = report(rig.progress)
    assert told["parked_rows"] == {"public.items": 4}
    assert "optional int became optional string" in told["refused_schemas"]["public.items"]
    rig.progress.state = "streaming"
    health = judge(rig.progress, 60).as_json()
    assert health["healthy"] is True
    assert set(health["refused_schemas"]) == {"public.items"}
    metrics = exposition(registry(rig.progress)).decode()
    assert 'pycdc_parked_rows_total{table="public.items"} 4.0' in metrics
    assert 'pycdc_schema_refused{table="public.items"} 1.0' in metrics


def test_headers_of_a_transform_stay_on_what_is_parked(rig: Rig) -> None:
    serializer = rig.serializer()
    serializer.serialize(batch(rows(ITEMS, b"1")))
    split = rows(RETYPED, b"x")
    split.routing = Routing(headers=(("__pycdc.part", b"1"),), part=1)
    [(topic, [record])] = serializer.serialize(batch(split))
    assert topic == LETTERS
    assert dict(record["headers"])["__pycdc.part"] == b"1"
    assert dict(record["headers"])["__pycdc.position"] == f"{COMMIT >> 32:X}/{COMMIT & 0xFFFFFFFF:X}".encode()


def test_a_schema_that_no_subject_takes_is_not_parked(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is no legal Avro: nothing could hold the rows."""

    def refuse(subject: str, text: str) -> int:
        raise SchemaIncompatible("invalid", subject=subject)

    monkeypatch.setattr(rig.schemas, "id_for", refuse)
    with pytest.raises(SchemaIncompatible, match="invalid"):
        rig.made(rig.serializer(), rows(ITEMS, b"1"))
    assert not rig.progress.refused


@pytest.mark.parametrize("rig", [{}, {"outbox": {"table": "public.items"}}], indirect=True, ids=["parked", "outbox"])
def test_nothing_is_kept_of_a_table_that_was_dropped(rig: Rig) -> None:
    def encoders() -> int:
        gc.collect()
        return sum(isinstance(found, RowEncoder) for found in gc.get_objects())

    outbox = "outbox" in rig.options
    names = ("id", "aggregatetype", "aggregateid", "type", "payload")
    routed = Table(1, "public", "items", tuple(column(name, "text") for name in names), ("id",))
    versions = (
        [inserts(routed, [b"1", b"a", b"k", b"t", b"{}"])] if outbox else [rows(ITEMS, b"1"), rows(RETYPED, b"x")]
    )
    serializer = rig.serializer()
    serializer.serialize(batch(inserts(OTHER, [b"7"])))
    before = encoders()
    for version in versions:
        serializer.serialize(batch(version))
    assert encoders() > before
    last = batch(versions[-1])
    last.dropped = frozenset({1})
    assert [len(records) for _, records in serializer.serialize(last)] == [1]
    serializer.serialize(batch(inserts(OTHER, [b"8"])))
    assert encoders() == before
    # A row that comes all the same is as ever.
    assert [len(records) for _, records in serializer.serialize(batch(versions[-1]))] == [1]
