"""Metrics of `pycdc verify --watch`."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from pycdc.observability.verify_progress import VerifyProgress


def verify_metrics(progress: VerifyProgress) -> Iterator[Metric]:
    """Yield the metrics."""
    runs = CounterMetricFamily("pycdc_verifications", "Verifications by what they covered.", labels=["scope"])
    for scope, count in (("full", progress.full), ("touched", progress.partial)):
        runs.add_metric([scope], count)
    yield runs
    yield CounterMetricFamily("pycdc_verify_failures", "Verifications that came to no end.", value=progress.failures)
    age = progress.age
    if age is None:
        return
    yield GaugeMetricFamily("pycdc_verify_age_seconds", "Seconds since the last verification began.", value=age)
    yield GaugeMetricFamily("pycdc_verify_seconds", "Time of the last verification.", value=progress.seconds)
    yield GaugeMetricFamily("pycdc_verify_rows", "Rows that the last verification compared.", value=progress.rows)
    yield GaugeMetricFamily(
        "pycdc_verify_tables_not_compared", "Tables that could not be compared.", value=progress.tables_not_compared
    )
    found = GaugeMetricFamily(
        "pycdc_verify_differences", "Rows that differ, as the last verification found them.", labels=["table", "kind"]
    )
    for labels, count in progress.differences.copy().items():
        found.add_metric(labels, count)
    yield found
