"""Logical messages as outbox events: the same records as a table's rows make."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycdc.config import InvalidConfig
from pycdc.model.change import Batch, LogicalMessage, Lsn, Op, Run
from pycdc.serialization.json_format import JsonFormat
from pycdc.serialization.outbox_messages import members
from pycdc.serialization.serializer import Serializer
from tests.serialization.runs import configured, transaction
from tests.serialization.streams import as_json, avro
from tests.serialization.test_outbox import inserted, only

EVENT = {"id": "0b1c", "aggregatetype": "Order", "aggregateid": "o-1", "type": "OrderPlaced", "payload": {"id": 1}}
CANARY = "canary-4711"


def said(content: Any, *, prefix: str = "outbox", transactional: bool = True) -> Run:
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    message = LogicalMessage(prefix, text, transactional, Lsn(0x16_0000_0042))
    return Run(Op.MESSAGE, None, transaction(), 0, [b""], message=message)


def settings(**options: Any) -> Any:
    return configured(outbox={"messages": "outbox", **options})


def test_a_message_makes_the_record_that_a_row_makes() -> None:
    told = settings(additional=[{"column": "type", "to": "header", "name": "eventType"}])
    assert avro(told, said(EVENT)) == avro(told, inserted())


def test_type_and_ids_of_correlation_and_causation_are_headers() -> None:
    event = {**EVENT, "correlation_id": "saga-1", "causation_id": None, "headers": {"tenant": "a", "hops": 3}}
    _, record = only(as_json(settings(), said(event)))
    told = [("id", b"0b1c"), ("type", b"OrderPlaced"), ("correlation_id", b"saga-1"), ("causation_id", None)]
    assert record["headers"] == [*told, ("tenant", b"a"), ("hops", b"3")]


def test_the_payload_is_the_json_as_it_is_written() -> None:
    text = b' {"aggregatetype":"Order", "aggregateid" : "1","payload": {"total": 12.50, "n": 12345678901234567890}}\n'
    _, record = only(as_json(settings(), said(text)))
    assert record["value"] == '{"total": 12.50, "n": 12345678901234567890}'


def test_a_message_without_an_id_has_its_place_in_the_log_for_it() -> None:
    event = {name: value for name, value in EVENT.items() if name != "id"}
    _, record = only(as_json(settings(), said(event)))
    assert ("id", b"16/42") in record["headers"]


def test_columns_may_be_called_otherwise_and_topics_too() -> None:
    told = settings(
        key="orderId", route="kind", topic="{route}s", payload="data", timestamp="at", expand_json_payload=True
    )
    event = {"orderId": "o-9", "kind": "order", "data": {"id": 7}, "at": "2026-11-30T12:00:00.5+01:00"}
    topic, record = only(as_json(told, said(event)))
    assert (topic, record["key"], record["value"], record["timestamp"]) == ("orders", "o-9", {"id": 7}, 1796036400500)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\xff", "its content is not UTF-8"),
        (b"[1]", "its content, or its member `headers`, is no JSON object"),
        (b"{", "its content, or its member `headers`, is no JSON object"),
        (b"[" * 100_000, "its content, or its member `headers`, is no JSON object"),
        ({**EVENT, "aggregateid": None}, "it has no member 'aggregateid'"),
        ({**EVENT, "aggregatetype": f"{CANARY}/"}, "holds a value that makes no topic name"),
        ({**EVENT, "headers": {"__pycdc.origin": CANARY}}, "a header that begins with __"),
        ({**EVENT, "headers": [CANARY]}, "no JSON object"),
    ],
)
def test_what_is_no_event_is_set_apart_as_it_came(content: Any, reason: str, caplog: pytest.LogCaptureFixture) -> None:
    counted: list[str] = []
    config = settings()
    serializer = Serializer(config, "db", JsonFormat(schemas=False), lambda table, column: None, None, counted.append)
    run = said(content)
    (topic, (record,)) = only(serializer.serialize(Batch([run])))
    assert run.message is not None
    assert (topic, record["key"], record["value"]) == ("shop.dead-letter", b"outbox", run.message.content)
    headers = dict(record["headers"])
    assert reason in headers["__pycdc.reason"].decode()
    assert counted == ["message"]
    assert CANARY not in caplog.text + str(headers)


def test_other_messages_go_where_messages_go() -> None:
    runs = [said(EVENT, prefix="outbox.x"), said(EVENT, transactional=False)]
    assert [topic for topic, _ in as_json(settings(), *runs)] == ["shop.message"] * 2
    assert only(as_json(configured(outbox={}), said(EVENT)))[0] == "shop.message"


def test_an_outbox_of_messages_needs_messages() -> None:
    source = {"postgres": {"dsn": "postgresql://x", "messages": False}}
    with pytest.raises(InvalidConfig, match="does not read logical messages"):
        configured(outbox={"messages": "outbox"}, source=source)
    with pytest.raises(InvalidConfig, match="no prefix of an application"):
        settings(messages="pycdc.snapshot")


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=6,
)


@given(st.dictionaries(st.text(), _JSON), st.sampled_from([None, 0, 2]), st.booleans())
def test_members_are_the_texts_of_the_values(document: dict[str, Any], indent: int | None, ascii_only: bool) -> None:
    found = members(json.dumps(document, indent=indent, ensure_ascii=ascii_only))
    assert {name: json.loads(text) for name, text in found.items()} == document
