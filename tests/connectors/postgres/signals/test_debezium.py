"""Debezium's signals as they are written: what they ask for, and what is refused because it cannot be meant."""

from __future__ import annotations

import contextlib
import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycdc.connectors.postgres.replication.control_message import TransactionTime
from pycdc.connectors.postgres.signals import messages as signals
from pycdc.connectors.postgres.signals.debezium import DebeziumSignal, Request, Unusable, of_message, of_row, requested
from pycdc.connectors.postgres.signals.messages import Signal

KEY = b"k" * 32
MOMENT = TransactionTime(7, 1_000.0)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


def asked(kind: str, data: object = None) -> Request:
    text = data if isinstance(data, str) else json.dumps(data) if data is not None else ""
    return requested(DebeziumSignal("1", kind, text, "table"))


def inserted(*texts: bytes | None) -> bytes:
    """A frame of pgoutput that inserts these columns."""
    columns = b"".join(b"n" if text is None else b"t" + struct.pack(">I", len(text)) + text for text in texts)
    return b"w" + bytes(24) + b"I" + bytes(4) + b"N" + struct.pack(">H", len(texts)) + columns


def test_a_snapshot_is_asked_for_by_tables_and_filters() -> None:
    data = {
        "type": "INCREMENTAL",
        "data-collections": [" public.orders ", "shop\\..*"],
        "additional-conditions": [{"data-collection": "public.orders", "filter": "id > 7"}],
    }
    assert asked("execute-snapshot", data) == Request(
        "snapshot", ("public.orders", "shop\\..*"), (("public.orders", "id > 7"),)
    )


def test_what_pycdc_does_otherwise_is_named() -> None:
    data = {"type": "blocking", "data-collections": ["a.b"], "surrogate-key": "id"}
    assert asked("execute-snapshot", data).ignored == ("surrogate-key", "blocking")
    assert asked("execute-snapshot", {"data-collections": ["a.b"], "surrogate-key": None}).ignored == ()


def test_stopping_may_name_tables_and_means_all_without() -> None:
    assert asked("stop-snapshot", {"type": "incremental", "data-collections": ["a.b"]}) == Request("cancel", ("a.b",))
    assert asked("stop-snapshot", {"data-collections": []}) == asked("stop-snapshot") == Request("cancel")


def test_pausing_and_resuming_need_no_data() -> None:
    assert asked("pause-snapshot").action == "pause"
    assert asked("resume-snapshot", "{}").action == "resume"


def test_a_line_for_the_log_is_its_message() -> None:
    assert asked("log", {"message": "at {}"}).message == "at {}"


@pytest.mark.parametrize(
    ("kind", "data", "fact"),
    [
        ("", {}, "type is none"),
        ("schema-changes", {}, "type is none"),
        ("execute-snapshot", "{", "no JSON object"),
        ("execute-snapshot", "[" * 60_000, "no JSON object"),
        ("execute-snapshot", "[]", "no JSON object"),
        ("execute-snapshot", " " * 70_000, "longer than"),
        ("execute-snapshot", {}, "names no table"),
        ("execute-snapshot", {"data-collections": "a.b"}, "is no list"),
        ("execute-snapshot", {"data-collections": [7]}, "missing, or no text"),
        ("execute-snapshot", {"data-collections": ["a\0b"]}, "zero byte"),
        ("execute-snapshot", {"data-collections": ["a\ud800"]}, "half a character"),
        ("execute-snapshot", {"data-collections": ["a" * 2049]}, "longer than 2048"),
        ("execute-snapshot", {"data-collections": ["a.b"], "type": "full"}, "type of snapshot"),
        ("execute-snapshot", {"data-collections": ["a.b"], "type": ["full"]}, "type of snapshot"),
        ("execute-snapshot", {"data-collections": ["a.b"], "additional-condition": "id = 1"}, "out of date"),
        ("execute-snapshot", {"data-collections": ["a.b"], "additional-conditions": ["id = 1"]}, "list of objects"),
        ("execute-snapshot", {"data-collections": ["a.b"], "additional-conditions": [{}]}, "missing"),
        ("stop-snapshot", {"data-collections": {}, "type": 7}, "type of snapshot"),
        ("log", {}, "message is missing"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_a_remedy(kind: str, data: object, fact: str) -> None:
    with pytest.raises(Unusable, match=fact) as refused:
        asked(kind, data)
    assert refused.value.remedy


@given(st.text(), st.text() | st.recursive(st.none() | st.booleans() | st.text(), st.lists).map(json.dumps))
def test_whatever_is_written_is_a_request_or_refused(kind: str, data: str) -> None:
    for name in (kind, "execute-snapshot", "stop-snapshot", "log"):
        outcome: Request | Unusable
        try:
            outcome = asked(name, data)
        except Unusable as refused:
            outcome = refused
        assert isinstance(outcome, Request) or outcome.remedy


def test_a_row_is_read_by_the_order_of_its_columns() -> None:
    signal = of_row(inserted(b"mine", b"log", b"{}", b"more"), "0/7")
    assert signal == DebeziumSignal("mine at 0/7", "log", "{}", "table")
    assert of_row(inserted(None, b"log", None), "0/7").data == ""


def test_what_goes_into_the_log_has_no_control_characters() -> None:
    signal = of_row(inserted(b"a\x1b[31m\nb", b"lo\x07g", b"{}"), "0/7")
    assert (signal.id, signal.type) == ("a?[31m?b at 0/7", "lo?g")
    assert of_message(b'{"type": "lo\\u001bg"}', "p").type == "lo?g"
    assert asked("log", {"message": "é\r\x9b"}).message == "é??"


@pytest.mark.parametrize("columns", [(b"1", b"log"), (b"\xff", b"log", b"{}")])
def test_a_row_that_is_no_signal_is_refused(columns: tuple[bytes, ...]) -> None:
    with pytest.raises(Unusable, match="of the signal table"):
        of_row(inserted(*columns), "0/7")


def test_the_data_of_a_message_is_an_object_or_its_text() -> None:
    for data in ({"message": "é"}, '{"message": "é"}'):
        signal = of_message(json.dumps({"id": "x", "type": "log", "data": data}).encode(), "topic-0-7")
        assert (signal.id, signal.channel) == ("topic-0-7", "topic")
        assert requested(signal).message == "é"
    assert of_message(b'{"type": "pause-snapshot"}', "p").type == "pause-snapshot"


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"{",
        b"\xff",
        b"7",
        b'{"data": {}}',
        b'{"type": "\\ud800"}',
        b'{"type": 7}',
        b'{"type": "log", "id": "' + b"a" * 140_000 + b'"}',
    ],
)
def test_a_message_that_is_no_signal_is_refused(value: bytes) -> None:
    with pytest.raises(Unusable):
        of_message(value, "topic-0-7")


def test_a_signal_that_is_passed_on_comes_out_as_it_went_in_and_only_with_the_key() -> None:
    signal = of_message(b'{"type": "log", "data": {"message": "\\u00e9 {}"}}', "topic-0-7")
    document = signals.content(signals.sign(signal, "slot", KEY, MOMENT).encode())
    assert signals.verified(document, "slot", KEY, MOMENT) == signal
    assert signals.verified(document, "other", KEY, MOMENT) is None
    with pytest.raises(Unusable, match="not signed with this pipeline's key"):
        signals.verified(document, "slot", b"guessed", MOMENT)


@pytest.mark.parametrize(
    "moment",
    [
        TransactionTime(8, 1_000.0),
        TransactionTime(7, 1_000.0 + 86_400),
        TransactionTime(7, 1_000.0 - 86_400),
        TransactionTime(0, 1_000.0),
    ],
    ids=["another transaction", "a day later", "a day before", "no transaction"],
)
def test_a_copy_of_a_signal_is_not_obeyed(moment: TransactionTime) -> None:
    signal = Signal("snapshot", ("public.orders",))
    document = signals.content(signals.sign(signal, "slot", KEY, MOMENT).encode())
    with pytest.raises(Unusable, match="copy"):
        signals.verified(document, "slot", KEY, moment)
    wrapped = TransactionTime((5 << 32) + MOMENT.xid, MOMENT.at)
    assert signals.verified(signals.content(signals.sign(signal, "slot", KEY, wrapped).encode()), "slot", KEY, MOMENT)


@pytest.mark.parametrize(
    "content", [b"[" * 100_000, b'{"signal": "{}", "hmac": "\\ud800"}', b'{"signal": "\\ud800", "hmac": ""}']
)
def test_a_message_that_no_json_holds_is_nobodys_and_stops_nothing(content: bytes) -> None:
    with pytest.raises(Unusable):
        signals.verified(signals.content(content), "slot", KEY, MOMENT)


@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_whatever_comes_under_our_prefix_is_refused_by_name(content: bytes) -> None:
    with contextlib.suppress(Unusable):
        assert signals.verified(signals.content(content), "slot", KEY, MOMENT) is None


@given(JSON, JSON, JSON, JSON)
def test_whatever_stands_where_a_signature_should_is_none(body: Any, digest: Any, xid: Any, at: Any) -> None:
    inner = json.dumps({"slot": "slot", "action": "pause", "xid": xid, "at": at, "id": body})
    for said in (body, inner):
        document = signals.content(json.dumps({"signal": said, "hmac": digest}).encode())
        with contextlib.suppress(Unusable):
            assert signals.verified(document, "slot", KEY, MOMENT) is None


@given(st.builds(lambda kind, data: json.dumps({"type": kind, "data": data}).encode(), st.text() | JSON, JSON))
def test_whatever_a_message_of_the_topic_says_is_a_request_or_refused(value: bytes) -> None:
    with contextlib.suppress(Unusable):
        requested(of_message(value, "topic-0-7"))


NAMES = ("type", "data-collections", "additional-conditions", "additional-condition", "surrogate-key", "message")
REQUEST = st.fixed_dictionaries({}, optional=dict.fromkeys(NAMES, JSON))


@given(st.sampled_from(["execute-snapshot", "stop-snapshot", "pause-snapshot", "resume-snapshot", "log"]), REQUEST)
def test_whatever_a_signal_s_data_hold_is_a_request_or_refused(kind: str, data: Any) -> None:
    with contextlib.suppress(Unusable):
        requested(DebeziumSignal("1", kind, json.dumps(data), "table"))
