from __future__ import annotations

import pytest

from pycdc.model.event import Partition
from pycdc.observability.durations import Durations
from pycdc.observability.progress import PartitionPlace, Progress
from tests.observability.test_metrics import samples


def test_what_became_of_events_is_counted() -> None:
    progress = Progress(transactions=3, columnar=8)
    progress.applied["public.items", "upsert"] += 7
    progress.retried["DeadlockDetected"] += 2
    progress.parked["Unwritable"] += 1
    progress.skipped["public.items", "RowMissing"] += 4
    progress.duplicates["items"] += 5
    progress.conflicts["public.items", "update", "apply_remote"] += 6
    progress.halted["items"] = "the registry does not know schema 7"
    found = samples(progress)
    assert found["pycdc_transactions_total",] == 3
    assert found["pycdc_columnar_events_total",] == 8
    assert found["pycdc_applied_rows_total", "public.items", "upsert"] == 7
    assert found["pycdc_transaction_retries_total", "DeadlockDetected"] == 2
    assert found["pycdc_parked_total", "Unwritable"] == 1
    assert found["pycdc_skipped_total", "RowMissing", "public.items"] == 4
    assert found["pycdc_duplicates_total", "items"] == 5
    assert found["pycdc_conflicts_total", "apply_remote", "public.items", "update"] == 6
    assert found["pycdc_topic_halted", "items"] == 1


def test_each_partition_has_its_lag() -> None:
    progress = Progress()
    progress.partitions[Partition("items", 0)] = PartitionPlace(7, 10, 2.5)
    progress.partitions[Partition("items", 1)] = PartitionPlace(4, 9)
    found = samples(progress)
    assert found["pycdc_partition_lag_records", "0", "items"] == 3
    assert found["pycdc_partition_lag_seconds", "0", "items"] == 2.5
    assert found["pycdc_partition_offset", "1", "items"] == 4
    assert ("pycdc_partition_lag_seconds", "1", "items") not in found


def test_durations_are_a_histogram() -> None:
    progress = Progress(transactions=4)
    for seconds in (0.0005, 0.02, 0.02, 99.0):
        progress.applying.observe(seconds)
    found = samples(progress)
    assert found["pycdc_apply_seconds_bucket", "0.001"] == 1
    assert found["pycdc_apply_seconds_bucket", "0.025"] == 3
    assert found["pycdc_apply_seconds_bucket", "30.0"] == 3
    assert found["pycdc_apply_seconds_bucket", "+Inf"] == 4
    assert found["pycdc_apply_seconds_count",] == 4
    assert found["pycdc_apply_seconds_sum",] == pytest.approx(99.0405)


def test_a_pipeline_that_captures_has_none_of_these() -> None:
    names = {name for name, *_ in samples(Progress(state="streaming", events=3))}
    assert not {name for name in names if "appl" in name or "partition" in name or "transaction" in name}


def test_a_quantile_lies_between_the_bounds_of_its_bucket() -> None:
    durations = Durations()
    assert durations.quantile(0.5) is None
    for _ in range(100):
        durations.observe(0.02)
    assert durations.quantile(0.5) == pytest.approx(0.0175)  # half way from 10 to 25 ms
    durations.observe(1000.0)
    assert durations.quantile(1.0) == 30.0
