"""What spans say of batches that were delivered, failed, or came again; and that nothing happens without tracing."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

import pytest

from pycdc.config.runtime import TracingConfig
from pycdc.errors import ConfigError, ConnectionLost
from pycdc.model.change import Batch, LogicalMessage, Lsn, Op, Run
from pycdc.model.event import Applied, Event, EventBatch, Load, Partition, PartitionOffsets
from pycdc.model.trace_context import of_headers, sampled
from pycdc.observability.tracing import traced_apply, traced_capture
from tests.reading import wait_for
from tests.serialization.runs import USERS, configured, inserts, transaction
from tests.serialization.streams import avro
from tests.services.zipkin import Collector

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01".encode()


class Sink:
    """Fails as it is told; `done` is what its commit returns."""

    def __init__(self, failure: Exception | None = None, done: Any = None) -> None:
        self.failure, self.done = failure, done
        self.taken: list[Any] = []

    def write(self, batch: Any) -> None:
        self.taken.append(batch)

    def commit(self, checkpoint: Any) -> Any:
        if self.failure is not None:
            raise self.failure
        if self.done is not None:
            del self.taken[-1].events[1:]
        return self.done


@pytest.fixture
def collector() -> Iterator[Collector]:
    with closing(Collector()) as collector:
        yield collector


def sent(collector: Collector, count: int) -> dict[str, dict[str, Any]]:
    """The spans by their names and, of several, their numbers."""
    wait_for(lambda: len(collector.spans) >= count)
    named: dict[str, dict[str, Any]] = {}
    for span in sorted(collector.spans, key=lambda span: str(span["tags"].get("messaging.kafka.offset"))):
        number = sum(name.startswith(span["name"]) for name in named)
        named[f"{span['name']} {number}" if number else span["name"]] = span
    assert len(named) == count
    return named


def traced_run() -> Run:
    of = transaction()
    of.trace = TRACEPARENT
    run = inserts(USERS, [b"1", b"a", b"2"])
    run.transaction = of
    return run


def event(offset: int, header: bytes | None = TRACEPARENT) -> Event:
    return Event(Partition("t", 0), offset, 0, headers=(("traceparent", header),))


def test_a_captured_transaction_is_the_applications_child_and_its_records_say_so(collector: Collector) -> None:
    sink = traced_capture(Sink(), TracingConfig(endpoint=collector.url), "shop")
    run, plain = traced_run(), inserts(USERS, [b"2", b"b", b"3"])
    with closing(sink):
        sink.write(Batch([run, plain], size=2))
        sink.commit(None)
    spans = sent(collector, 2)
    span = spans["shop capture"]
    assert (span["traceId"], span["parentId"], span["tags"]["status"]) == (TRACE, PARENT, "0")
    assert spans["shop batch"]["tags"]["links"] == span["id"]
    assert "parentId" not in spans["shop batch"]
    (first,), (second,) = ([record["headers"]] if "headers" in record else [None] for _, record in records(run, plain))
    assert (first, second) == ([("traceparent", f"00-{TRACE}-{span['id']}-01".encode())], None)


def records(*runs: Run) -> list[Any]:
    return avro(configured(), *runs)


def test_a_share_of_transactions_begins_a_trace(collector: Collector) -> None:
    sink = traced_capture(Sink(), TracingConfig(endpoint=collector.url, sample=1.0), "shop")
    run = inserts(USERS, [b"1", b"a", b"2"])
    with closing(sink):
        sink.write(Batch([run], size=1))
        sink.commit(None)
    span = sent(collector, 2)["shop capture"]
    assert "parentId" not in span
    assert run.transaction.trace == f"00-{span['traceId']}-{span['id']}-01".encode()


def test_a_transaction_of_several_runs_and_batches_has_one_span(collector: Collector) -> None:
    sink = traced_capture(Sink(), TracingConfig(endpoint=collector.url, sample=1.0), "shop")
    first, second, third = (inserts(USERS, [b"1", b"a", b"2"]) for _ in range(3))
    second.transaction = third.transaction = traced_run().transaction
    with closing(sink):
        sink.write(Batch([second, first, second], size=3))
        sink.write(Batch([third], size=1))
        sink.commit(None)
    assert {span.get("parentId") for span in sent(collector, 3).values()} == {PARENT, None}


def test_a_capture_begins_a_hundred_traces_a_second_at_most() -> None:
    sink = traced_capture(Sink(), TracingConfig(endpoint="http://127.0.0.1:1", sample=1.0), "shop")
    runs = [inserts(USERS, [b"1", b"a", b"2"]) for _ in range(1000)]
    began = time.monotonic()
    sink.write(Batch(runs, size=1000))
    traced = sum(run.transaction.trace is not None for run in runs)
    assert 100 <= traced <= 101 + 100 * (time.monotonic() - began)


def test_a_batch_that_failed_says_so(collector: Collector) -> None:
    sink = traced_capture(Sink(ConnectionLost("gone")), TracingConfig(endpoint=collector.url), "shop")
    with closing(sink):
        sink.write(Batch([traced_run()], size=1))
        with pytest.raises(ConnectionLost):
            sink.commit(None)
    assert {span["tags"]["status"] for span in sent(collector, 2).values()} == {"2"}


def test_events_that_were_not_applied_yet_are_told_from_those_that_were(collector: Collector) -> None:
    sink = traced_apply(Sink(done=Applied(PartitionOffsets({}))), TracingConfig(endpoint=collector.url), "back")
    with closing(sink):
        sink.write(EventBatch([event(1), event(2), event(3, b"no trace")]))
        sink.commit(None)
    spans = sent(collector, 3)
    assert {span["parentId"] for span in spans.values() if "apply" in span["name"]} == {PARENT}
    statuses = [spans[name]["tags"]["status"] for name in ("back apply", "back apply 1", "back batch")]
    assert statuses == ["0", "2", "0"]
    assert spans["back apply"]["tags"]["messaging.destination.name"] == "t"


def test_records_that_go_by_columns_are_traced_too(collector: Collector) -> None:
    sink = traced_apply(Sink(), TracingConfig(endpoint=collector.url), "back")
    headers: list[Sequence[tuple[str, bytes | None]] | None] = [
        None,
        (("traceparent", TRACEPARENT),),
        [("other", b"x")],
    ]
    load = Load([], 3, {"t": 3}, {}, {}, list, lambda: headers)
    with closing(sink):
        sink.write(EventBatch(load=load))
        sink.commit(None)
    assert sent(collector, 2)["back apply"]["parentId"] == PARENT


@pytest.mark.parametrize(
    ("content", "read"),
    [
        (TRACEPARENT, TRACEPARENT),
        (TRACEPARENT[:-1] + b"0", None),
        (TRACEPARENT + b"\n", TRACEPARENT),
        (b"cc" + TRACEPARENT[2:] + b"-what the future brings", TRACEPARENT),
        (b"ff" + TRACEPARENT[2:], None),
        (TRACEPARENT.replace(TRACE.encode(), b"0" * 32), None),
        (TRACEPARENT.replace(PARENT.encode(), b"0" * 16), None),
        (TRACEPARENT.upper(), None),
        (b"\xff" * 55, None),
        (b"", None),
        (b" " * 1_000_000, None),
    ],
)
def test_only_a_sampled_trace_is_carried(content: bytes, read: bytes | None) -> None:
    assert sampled(content) == read
    assert of_headers([("traceparent", b"x"), ("traceparent", content)]) == read


def test_an_outbox_event_of_a_traced_transaction_has_one_traceparent() -> None:
    own = b'{"aggregatetype": "Order", "aggregateid": "1", "traceparent": "00-1"}'
    run = Run(Op.MESSAGE, None, transaction(), 0, [b""], message=LogicalMessage("outbox", own, True, Lsn(7)))
    config = configured(outbox={"messages": "outbox"})
    assert dict(avro(config, run)[0][1]["headers"])["traceparent"] == b"00-1"
    run.transaction.trace = TRACEPARENT
    headers = avro(config, run)[0][1]["headers"]
    assert [value for name, value in headers if name == "traceparent"] == [TRACEPARENT]


def test_nothing_of_opentelemetry_is_imported_where_tracing_is_off() -> None:
    found = "sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    code = f"import sys, pycdc.build.capture, pycdc.build.apply; {found}"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    sink = Sink()
    assert traced_capture(sink, None, "shop") is sink
    assert traced_apply(sink, None, "shop") is sink


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import pycdc.observability

    monkeypatch.delattr(pycdc.observability, "spans", raising=False)
    monkeypatch.delitem(sys.modules, "pycdc.observability.spans", raising=False)
    for name in [name for name in sys.modules if name.startswith("opentelemetry.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(ConfigError, match="needs opentelemetry") as refused:
        traced_capture(Sink(), TracingConfig(), "shop")
    assert "pycdc-postgres[tracing]" in refused.value.hint
