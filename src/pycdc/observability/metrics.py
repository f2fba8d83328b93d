"""Prometheus metrics of one pipeline, in a registry of its own: several pipelines in a process do not meet.

Nothing is counted here. The numbers are `Progress`', which the pipeline keeps by the batch, read when somebody asks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pycdc.model.change import Position
from pycdc.observability.apply_metrics import apply_metrics
from pycdc.observability.parked_metrics import parked_metrics
from pycdc.observability.progress import Progress
from pycdc.observability.verify_metrics import verify_metrics
from pycdc.version import __version__

STATES = ("starting", "standby", "snapshot", "streaming", "retrying", "stopping", "stopped")


def registry(progress: Progress, now: Callable[[], float] = time.monotonic) -> CollectorRegistry:
    """Make a registry with the metrics of `progress`, and those of the process (memory, CPU, file handles)."""
    made = CollectorRegistry()
    made.register(PipelineCollector(progress, now))
    ProcessCollector(registry=made)
    return made


def exposition(source: CollectorRegistry) -> bytes:
    """Return the text that Prometheus reads, version 0.0.4."""
    return generate_latest(source)


class PipelineCollector(Collector):
    def __init__(self, progress: Progress, now: Callable[[], float] = time.monotonic) -> None:
        self._progress = progress
        self._now = now

    def describe(self) -> Iterable[Metric]:
        """Known without asking, and none of them is in another collector of the registry."""
        return []

    def collect(self) -> Iterator[Metric]:
        yield from self._counters()
        yield from self._labelled_counters()
        yield from self._gauges()
        yield from self._snapshot()
        yield from parked_metrics(self._progress)
        yield from apply_metrics(self._progress)
        if self._progress.verification is not None:
            yield from verify_metrics(self._progress.verification)

    def _counters(self) -> Iterator[Metric]:
        progress = self._progress
        for name, help_text, value in (
            ("pycdc_batches", "Batches that the sink took.", progress.batches),
            ("pycdc_checkpoints", "Positions stored.", progress.checkpoints),
            ("pycdc_reconnects", "Times that the pipeline rewound to the stored position.", progress.reconnects),
            (
                "pycdc_strange_marks",
                "Messages like pycdc's marks that are none.",
                progress.strange_marks,
            ),
        ):
            yield CounterMetricFamily(name, help_text, value=value)

    def _labelled_counters(self) -> Iterator[Metric]:
        events = CounterMetricFamily("pycdc_events", "Changes that the sink took.", labels=["table", "op"])
        # The copies are atomic; the pipeline adds keys while we read.
        for labels, count in self._progress.operations.copy().items():
            events.add_metric(labels, count)
        yield events
        nulls = CounterMetricFamily(
            "pycdc_conversion_nulls",
            "Values without a representation that were written as NULL.",
            labels=["table", "column"],
        )
        for labels, count in self._progress.nulled.copy().items():
            nulls.add_metric(labels, count)
        yield nulls
        dead = CounterMetricFamily(
            "pycdc_dead_letters", "Changes that a transform failed at, sent to the dead letters.", labels=["table"]
        )
        for table, count in self._progress.dead_letters.copy().items():
            dead.add_metric([table], count)
        yield dead
        parked = CounterMetricFamily(
            "pycdc_parked_rows",
            "Records sent to the dead letters because the registry refused their schema.",
            labels=["table"],
        )
        for table, count in self._progress.parked_rows.copy().items():
            parked.add_metric([table], count)
        yield parked
        hidden = CounterMetricFamily(
            "pycdc_hidden_rows",
            "Rows that are not captured because another pipeline wrote them (skip_origins).",
            labels=["pipeline"],
        )
        for pipeline, count in self._progress.hidden.copy().items():
            hidden.add_metric([pipeline], count)
        yield hidden
        unclaimed = CounterMetricFamily(
            "pycdc_unclaimed_tables",
            "Tables that are gone, whose rows came and were left out: nothing tells what they belonged to.",
            labels=["table"],
        )
        for table, count in self._progress.unclaimed.copy().items():
            unclaimed.add_metric([table], count)
        yield unclaimed
        unknown = CounterMetricFamily(
            "pycdc_unknown_type_columns",
            "Columns whose type has no codec, each time that a version of their table was met.",
            labels=["table", "type"],
        )
        for labels, count in self._progress.unknown_types.copy().items():
            unknown.add_metric(labels, count)
        yield unknown

    def _gauges(self) -> Iterator[Metric]:
        progress = self._progress
        heard = self._now() - progress.last_message if progress.last_message else None
        position = int(progress.position.lsn) if isinstance(progress.position, Position) else None
        for name, help_text, value in (
            (
                "pycdc_lag_seconds",
                "How long ago all was delivered; 0 when caught up, growing while nothing is.",
                progress.lag_seconds,
            ),
            ("pycdc_lag_bytes", "WAL between the server's end and what is durable in the sink.", progress.lag_bytes),
            ("pycdc_position_lsn", "The stored position, as a number of bytes.", position),
            ("pycdc_slot_retained_bytes", "WAL that the slot holds back.", progress.slot_retained),
            ("pycdc_slot_safe_bytes", "WAL until the server invalidates the slot.", progress.slot_safe),
            (
                "pycdc_slot_full_seconds",
                "Seconds until the slot reaches its limit or budget at the present rate.",
                progress.slot_full_in,
            ),
            (
                "pycdc_transactions_in_progress",
                "Transactions that are kept until they are committed (streaming, two_phase).",
                progress.in_progress,
            ),
            ("pycdc_spooled_bytes", "What is on disk of transactions in progress.", progress.spooled_bytes),
            ("pycdc_server_silence_seconds", "Time since the server's last message.", heard),
            (
                "pycdc_progress_age_seconds",
                "Time since the sink last took a batch, or was not needed.",
                max(0.0, self._now() - progress.last_delivery),
            ),
            (
                "pycdc_outage_seconds",
                "How long a server has not answered that is waited for; 0 while all do.",
                max((self._now() - outage.since for outage in progress.outages.lasting), default=0.0),
            ),
        ):
            # What is not known yet is left out: 0 would read as "no lag".
            if value is not None:
                yield GaugeMetricFamily(name, help_text, value=value)
        state = GaugeMetricFamily("pycdc_state", "1 for the state that the pipeline is in.", labels=["state"])
        for name in STATES:
            state.add_metric([name], float(progress.state == name))
        yield state
        xmin = GaugeMetricFamily(
            "pycdc_xmin_age_transactions",
            "Transactions that the holder of the oldest xmin is behind.",
            labels=["holder"],
        )
        for kind, age in progress.xmin_ages.copy().items():
            xmin.add_metric([kind], age)
        yield xmin
        refused = GaugeMetricFamily(
            "pycdc_schema_refused", "1 for a table whose schema the registry refuses at present.", labels=["table"]
        )
        for table in list(progress.refused):
            refused.add_metric([table], 1)
        yield refused
        unwritable = GaugeMetricFamily(
            "pycdc_unwritable_table",
            "1 for a captured table in which the application cannot UPDATE, because it is published.",
            labels=["table"],
        )
        for table in list(self._progress.unwritable):
            unwritable.add_metric([table], 1)
        yield unwritable
        info = GaugeMetricFamily("pycdc_info", "Always 1.", labels=["version"])
        info.add_metric([__version__], 1)
        yield info

    def _snapshot(self) -> Iterator[Metric]:
        done = CounterMetricFamily("pycdc_snapshot_rows", "Rows read by the snapshot.", labels=["table"])
        estimated = GaugeMetricFamily("pycdc_snapshot_rows_estimated", "Rows by the planner.", labels=["table"])
        finished = GaugeMetricFamily("pycdc_snapshot_finished", "1 once the table was read.", labels=["table"])
        left = GaugeMetricFamily("pycdc_snapshot_seconds_left", "By rate and estimate.", labels=["table"])
        for table in list(self._progress.snapshot):
            if table.seconds_left is not None:
                left.add_metric([table.table], table.seconds_left)
            done.add_metric([table.table], table.done)
            estimated.add_metric([table.table], table.estimated)
            finished.add_metric([table.table], float(table.finished))
        signals = CounterMetricFamily(
            "pycdc_signals", "Signals by channel, handled or refused.", labels=["channel", "outcome"]
        )
        for labels, count in self._progress.signals.copy().items():
            signals.add_metric(labels, count)
        yield from (done, estimated, finished, left, signals)
