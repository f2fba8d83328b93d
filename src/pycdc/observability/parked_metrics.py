"""Metrics of rows that are parked, or were cut."""

from __future__ import annotations

import time
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from pycdc.observability.progress import Progress


def parked_metrics(progress: Progress) -> Iterator[Metric]:
    """Yield them, by table."""
    rows = GaugeMetricFamily("pycdc_parked_now", "Rows that wait to be retried or dropped.", labels=["table"])
    age = GaugeMetricFamily(
        "pycdc_parked_age_seconds", "How long the first of these rows has been parked.", labels=["table"]
    )
    for table, found in progress.parked_now.copy().items():
        rows.add_metric([table], found.rows)
        age.add_metric([table], max(0.0, time.time() - found.since))
    cut = CounterMetricFamily("pycdc_truncated_rows", "Rows cut because they were too large.", labels=["table"])
    for table, count in progress.truncated_rows.copy().items():
        cut.add_metric([table], count)
    yield from (rows, age, cut)
