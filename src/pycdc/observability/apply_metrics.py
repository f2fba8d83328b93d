"""Metrics of an apply pipeline: what became of events in the database, and how far each partition is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from pycdc.observability.durations import Durations
from pycdc.observability.progress import Progress

Labels = TypeVar("Labels", bound=tuple[str, ...])


def apply_metrics(progress: Progress) -> Iterator[Metric]:
    """Yield the metrics, none for a pipeline that captures."""
    if progress.partitions or progress.transactions or progress.halted:
        yield from _counters(progress)
        yield from _partitions(progress)
        yield _halted(progress)
        yield from _sagas(progress)
        if progress.has_origin is not None:
            text = "Whether the session has a replication origin, by which a row's last writer is known."
            yield GaugeMetricFamily("pycdc_replication_origin", text, value=int(progress.has_origin))
        yield _histogram("pycdc_apply_seconds", "Time of a transaction, its commit included.", progress.applying)
        yield _histogram("pycdc_commit_seconds", "Time of a transaction's commit.", progress.committing)


def _counters(progress: Progress) -> Iterator[Metric]:
    yield CounterMetricFamily("pycdc_transactions", "Transactions committed.", value=progress.transactions)
    yield _counter("pycdc_applied_rows", "Rows written.", ("table", "op"), progress.applied)
    yield _counter("pycdc_transaction_retries", "Transactions tried again.", ("reason",), _single(progress.retried))
    yield _counter("pycdc_parked", "Events parked.", ("reason",), _single(progress.parked))
    yield _counter("pycdc_skipped", "Writes left out on purpose.", ("table", "reason"), progress.skipped)
    yield CounterMetricFamily("pycdc_columnar_events", "Events that were written by columns.", value=progress.columnar)
    yield _counter("pycdc_duplicates", "Events left out, applied before.", ("topic",), _single(progress.duplicates))
    yield _counter("pycdc_conflicts", "Conflicts met.", ("table", "kind", "decision"), progress.conflicts)


def _counter(name: str, text: str, labels: tuple[str, ...], counts: Mapping[Labels, int]) -> Metric:
    family = CounterMetricFamily(name, text, labels=labels)
    # A copy is atomic; the pipeline adds keys while we read.
    for values, count in dict(counts).items():
        family.add_metric(values, count)
    return family


def _single(counts: Mapping[str, int]) -> dict[tuple[str], int]:
    return {(name,): count for name, count in dict(counts).items()}


def _partitions(progress: Progress) -> Iterator[Metric]:
    labels = ("topic", "partition")
    records = GaugeMetricFamily("pycdc_partition_lag_records", "Records still to be applied.", labels=labels)
    seconds = GaugeMetricFamily(
        "pycdc_partition_lag_seconds",
        "Age of the newest applied record while behind, 0 when caught up.",
        labels=labels,
    )
    offset = GaugeMetricFamily("pycdc_partition_offset", "The next offset to be applied.", labels=labels)
    for partition, place in progress.partitions.copy().items():
        values = (partition.topic, str(partition.number))
        offset.add_metric(values, place.next)
        behind, lag = progress.place_behind(place), progress.place_lag(place)
        # What is not known is left out: 0 would read as "no lag".
        if behind is not None:
            records.add_metric(values, behind)
        if lag is not None:
            seconds.add_metric(values, lag)
    yield from (records, seconds, offset)


def _sagas(progress: Progress) -> Iterator[Metric]:
    """Yield the metrics of sagas, none where none are followed."""
    if not progress.stuck_sagas:
        return
    labels = ("saga", "state")
    states = GaugeMetricFamily("pycdc_sagas", "Sagas there ever were, by the state that they are in.", labels=labels)
    stuck = GaugeMetricFamily("pycdc_sagas_stuck", "Sagas beyond their time limit, not ended.", labels=["saga"])
    timed_out = GaugeMetricFamily("pycdc_sagas_timed_out", "Sagas that exceeded their time limit.", labels=["saga"])
    ratio = GaugeMetricFamily(
        "pycdc_saga_success_ratio", "Of sagas that succeeded or failed, the share that succeeded.", labels=["saga"]
    )
    counts, beyond = progress.sagas, progress.stuck_sagas
    for (saga, state), count in counts.items():
        if state != "timed_out":
            states.add_metric([saga, state], count)
    for saga, count in beyond.items():
        stuck.add_metric([saga], count)
        timed_out.add_metric([saga], counts.get((saga, "timed_out"), 0))
        succeeded = counts.get((saga, "succeeded"), 0)
        judged = succeeded + counts.get((saga, "inconsistent"), 0) + count
        if judged:
            ratio.add_metric([saga], succeeded / judged)
    yield from (states, stuck, timed_out, ratio)


def _halted(progress: Progress) -> Metric:
    family = GaugeMetricFamily("pycdc_topic_halted", "1 for a topic that is not read at present.", labels=["topic"])
    for topic in list(progress.halted):
        family.add_metric([topic], 1)
    return family


def _histogram(name: str, text: str, durations: Durations) -> Metric:
    buckets = [("+Inf" if bound == float("inf") else str(bound), count) for bound, count in durations.cumulative()]
    family = HistogramMetricFamily(name, text)
    family.add_metric([], buckets, durations.total)
    return family
