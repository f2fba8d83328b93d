from __future__ import annotations

from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from pycdc.model.change import Batch, Lsn, Op, Position, Run, Table, Transaction
from pycdc.observability.metrics import exposition, registry
from pycdc.observability.progress import Progress, TableSnapshot
from tests.observability.lagging import Lagging

USERS = Table(1, "public", "users", ())


def samples(progress: Progress) -> dict[tuple[str, ...], float]:
    text = exposition(registry(progress, lambda: 100.0)).decode()
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_batch_is_counted_by_table_and_operation() -> None:
    progress = Progress()
    transaction = Transaction(1, 10, 0)
    runs = [Run(Op.CREATE, USERS, transaction, 0, [b""] * 3), Run(Op.DELETE, USERS, transaction, 3, [b""])]
    progress.delivered(Batch(runs, size=4))
    progress.delivered(Batch(runs[:1], size=3))
    found = samples(progress)
    assert found["pycdc_events_total", "c", "public.users"] == 6
    assert found["pycdc_events_total", "d", "public.users"] == 1
    assert found["pycdc_batches_total",] == 2


def test_what_is_not_known_is_left_out() -> None:
    names = {key[0] for key in samples(Progress())}
    assert not names & {"pycdc_lag_seconds", "pycdc_lag_bytes", "pycdc_position_lsn", "pycdc_slot_retained_bytes"}


def test_the_place_in_the_stream_is_shown() -> None:
    progress = Progress(state="streaming", lag=Lagging(1.5, 2048), slot_retained=4096, last_message=97.5)
    progress.position = Position(Lsn.parse("16/B374D848"))
    progress.checkpoints, progress.reconnects = 7, 2
    progress.became_null("public.users", "price")
    progress.snapshot = [TableSnapshot("public.users", done=5, estimated=9)]
    found = samples(progress)
    assert found["pycdc_lag_seconds",] == 1.5
    assert found["pycdc_lag_bytes",] == 2048
    assert found["pycdc_slot_retained_bytes",] == 4096
    assert found["pycdc_server_silence_seconds",] == 2.5
    assert found["pycdc_position_lsn",] == 0x16B374D848
    assert found["pycdc_checkpoints_total",] == 7
    assert found["pycdc_reconnects_total",] == 2
    assert found["pycdc_conversion_nulls_total", "price", "public.users"] == 1
    assert found["pycdc_snapshot_rows_total", "public.users"] == 5
    assert found["pycdc_snapshot_rows_estimated", "public.users"] == 9
    assert found["pycdc_state", "streaming"] == 1
    assert found["pycdc_state", "stopped"] == 0


def test_pipelines_of_one_process_do_not_meet() -> None:
    first, second = Progress(), Progress()
    first.checkpoints = 1
    assert samples(first)["pycdc_checkpoints_total",] == 1
    assert samples(second)["pycdc_checkpoints_total",] == 0
    assert not any(family.name.startswith("pycdc") for family in REGISTRY.collect())
