"""Spans of traced transactions and records, by OpenTelemetry: a sink around the sink. Imported where tracing is on.

A capture's span is the child of the application's, and begins with the commit; its traceparent goes with the records,
so that the span of the apply is its child. A batch that has traced parts has a span of its own, which links them.
Spans end when what they are of is durable, or with an error where it may not be.
"""

from __future__ import annotations

import math
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from pycdc.config.runtime import TracingConfig
from pycdc.model.change import Batch, Lsn, Run, Transaction
from pycdc.model.event import Event, EventBatch
from pycdc.model.trace_context import of_headers
from pycdc.version import __version__

_EXPORT_SECONDS: Final = 3
"""That the collector may take for an answer, and so a pipeline to end that has none."""
_EVERY_MS: Final = 2000
"""Between two requests to the collector, each of which costs some milliseconds of CPU."""
_SCOPE: Final = InstrumentationScope("pycdc", __version__)
_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
_UNSET: Final = Status()

_MOST_A_SECOND: Final = 100
"""Traces that a capture begins by itself: a traced transaction interrupts what goes by compiled loops, which costs some
0.2 ms."""
_UNFINISHED: Final = Status(StatusCode.ERROR, "was not finished, and comes again")


class Span:
    """A span that has begun. The SDK's own takes four times as long: it may be changed by any thread until it ends."""

    __slots__ = ("_attributes", "_kind", "_links", "_name", "_parent", "_start", "_tracer", "context")

    def __init__(
        self,
        tracer: Tracer,
        name: str,
        kind: SpanKind,
        parent: SpanContext | None,
        attributes: dict[str, Any],
        start: int | None,
        links: Sequence[SpanContext],
    ) -> None:
        ids = tracer.ids
        trace_id = ids.generate_trace_id() if parent is None else parent.trace_id
        self.context = SpanContext(trace_id, ids.generate_span_id(), is_remote=False, trace_flags=_SAMPLED)
        self._tracer, self._name, self._kind, self._parent = tracer, name, kind, parent
        self._attributes, self._links = attributes, links
        self._start = time.time_ns() if start is None else start

    def end(self, status: Status = _UNSET) -> None:
        """Hand it over to be sent. What went well says nothing, as OpenTelemetry wants it."""
        self._tracer.processor.on_end(
            ReadableSpan(
                self._name,
                self.context,
                self._parent,
                self._tracer.resource,
                self._attributes,
                links=[Link(one) for one in self._links],
                kind=self._kind,
                status=status,
                start_time=self._start,
                end_time=time.time_ns(),
                instrumentation_scope=_SCOPE,
            )
        )


class TracedPart(NamedTuple):
    """A span, and the event that it is of, where it is of one."""

    span: Span
    event: Event | None = None


class Tracer:
    """Makes spans and sends them, on a thread of its own."""

    def __init__(self, settings: TracingConfig, pipeline: str) -> None:
        name = {"service.name": settings.service or pipeline, "service.version": __version__}
        self.resource = Resource.create(name)
        self.ids = RandomIdGenerator()
        exporter = OTLPSpanExporter(endpoint=f"{settings.endpoint}/v1/traces", timeout=_EXPORT_SECONDS)
        self.processor = BatchSpanProcessor(
            exporter, schedule_delay_millis=_EVERY_MS, export_timeout_millis=1000 * _EXPORT_SECONDS
        )

    def begin(
        self,
        name: str,
        kind: SpanKind,
        parent: bytes | None,
        attributes: dict[str, Any],
        start: int | None = None,
        links: Sequence[SpanContext] = (),
    ) -> Span:
        """Begin a span; without a parent, a trace. `start` is in nanoseconds since the Unix epoch."""
        return Span(self, name, kind, None if parent is None else context_of(parent), attributes, start, links)

    def close(self) -> None:
        """Send what is left. Idempotent."""
        self.processor.shutdown()  # type: ignore[no-untyped-call]


def context_of(traceparent: bytes) -> SpanContext:
    _, trace_id, span_id, _ = traceparent.decode().split("-")
    return SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=_SAMPLED)


def traceparent(span: Span) -> bytes:
    return b"00-%032x-%016x-01" % (span.context.trace_id, span.context.span_id)


class TracedSink:
    """A sink whose batches are traced: of rows by `TracedCapture`, of events by `TracedApply`."""

    def __init__(self, sink: Any, tracer: Tracer, pipeline: str) -> None:
        self._sink = sink
        self.tracer = tracer
        self.pipeline = pipeline
        self._open: list[TracedPart] = []
        self._began = 0
        self._size = 0
        if hasattr(sink, "idle"):  # the loop asks whether it is there
            self.idle: Callable[[], object] = sink.idle

    def spans(self, batch: Any) -> Iterator[TracedPart]:
        """Begin the spans of a batch."""
        raise NotImplementedError

    def applied(self) -> set[int] | None:
        """Return the ids of the objects that were applied, of batches that were applied in part; None: all of them."""
        return None

    def write(self, batch: Any) -> None:
        spans = list(self.spans(batch))
        if spans and not self._open:
            self._began = time.time_ns()
            self._size = 0
        self._open += spans
        self._size += len(batch)
        with self._failing():
            self._sink.write(batch)

    def commit(self, checkpoint: Any) -> Any:
        with self._failing():
            done = self._sink.commit(checkpoint)
        # Of what could not be taken further now, the sink leaves the events out of their batches.
        kept = None if done is None or not self._open else self.applied()
        self._end(_UNSET, kept)
        return done

    @property
    def uncommitted(self) -> bool | None:
        return getattr(self._sink, "uncommitted", None)

    def close(self) -> None:
        self._end(_UNFINISHED)
        close = getattr(self._sink, "close", None)
        if close is not None:
            close()
        self.tracer.close()

    @contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            self._end(Status(StatusCode.ERROR, type(error).__name__))
            raise

    def _end(self, status: Status, kept: set[int] | None = None) -> None:
        parts, self._open = self._open, []
        if not parts:
            return
        attributes = {"messaging.batch.message_count": self._size}
        links = [span.context for span, _ in parts]
        batch = self.tracer.begin(f"{self.pipeline} batch", SpanKind.INTERNAL, None, attributes, self._began, links)
        for span, event in (*parts, TracedPart(batch)):
            whole = kept is None or event is None or id(event) in kept
            span.end(status if whole else _UNFINISHED)


class TracedCapture(TracedSink):
    """Traces transactions. `sample` is the share of those without a trace that begin one."""

    def __init__(self, sink: Any, tracer: Tracer, pipeline: str, sample: float) -> None:
        super().__init__(sink, tracer, pipeline)
        self._sample = sample
        self._last: Transaction | None = None
        self._skip = self._gap()
        self._allowed = float(_MOST_A_SECOND)
        self._looked_at = time.monotonic()

    def spans(self, batch: Batch) -> Iterator[TracedPart]:
        runs = batch.runs
        traced = [run.transaction for run in runs if run.transaction.trace is not None]
        traced += self._chosen(runs)
        # One may have several runs, and go on in the next batch.
        continued, self._last = self._last, runs[-1].transaction if runs else self._last
        for transaction in {id(one): one for one in traced if one is not continued}.values():
            span = self._span(transaction)
            transaction.trace = traceparent(span)
            yield TracedPart(span)

    def _chosen(self, runs: list[Run]) -> list[Transaction]:
        """Return transactions that begin a trace: those that are not chosen are not looked at."""
        out: list[Transaction] = []
        now = time.monotonic()
        self._allowed = min(_MOST_A_SECOND, self._allowed + (now - self._looked_at) * _MOST_A_SECOND)
        self._looked_at = now
        while self._skip < len(runs):
            run = runs[self._skip]
            if len(out) >= self._allowed:
                pass
            elif run.marker is None and run.transaction.trace is None and run.transaction is not self._last:
                out.append(run.transaction)
            self._skip += 1 + self._gap()
        self._skip -= len(runs)
        self._allowed -= len(out)
        return out

    def _gap(self) -> int:
        """Return how many runs are passed over before the next one that is chosen."""
        if self._sample in (0.0, 1.0):
            return sys.maxsize if self._sample == 0.0 else 0
        return int(math.log(1.0 - random.random()) / math.log(1.0 - self._sample))  # noqa: S311  # no secret

    def _span(self, transaction: Transaction) -> Span:
        attributes = {"messaging.system": "kafka", "pycdc.lsn": str(Lsn(transaction.commit_lsn))}
        committed = 1000 * transaction.commit_time
        return self.tracer.begin(
            f"{self.pipeline} capture", SpanKind.PRODUCER, transaction.trace, attributes, committed
        )


class TracedApply(TracedSink):
    """Traces records that have a traceparent."""

    def __init__(self, sink: Any, tracer: Tracer, pipeline: str) -> None:
        super().__init__(sink, tracer, pipeline)
        self._batches: list[EventBatch] = []

    def write(self, batch: EventBatch) -> None:
        self._batches.append(batch)
        super().write(batch)

    def commit(self, checkpoint: Any) -> Any:
        done = super().commit(checkpoint)
        self._batches.clear()
        return done

    def applied(self) -> set[int] | None:
        return {id(event) for batch in self._batches for event in batch.events}

    def spans(self, batch: EventBatch) -> Iterator[TracedPart]:
        loaded = [] if batch.load is None else batch.load.headers()
        traced: list[tuple[Event | None, bytes | None]] = [(None, of_headers(own)) for own in loaded if own]
        traced += [(event, of_headers(event.headers)) for event in batch.events if event.headers]
        for event, parent in traced:
            if parent is None:
                continue
            attributes: dict[str, Any] = {"messaging.system": "kafka", "messaging.operation.type": "process"}
            if event is not None:
                attributes |= {
                    "messaging.destination.name": event.partition.topic,
                    "messaging.destination.partition.id": str(event.partition.number),
                    "messaging.kafka.offset": event.offset,
                }
            yield TracedPart(self.tracer.begin(f"{self.pipeline} apply", SpanKind.CONSUMER, parent, attributes), event)
