from __future__ import annotations

import pytest

from tests.faults.harness import Rig
from tests.reading import wait_for


@pytest.mark.pg("==15")
@pytest.mark.slow
def test_a_transaction_of_a_million_rows_stays_within_120_mb(rig: Rig) -> None:
    process = rig.start(rig.config(sink={"null": {}}, offsets={"file": {"path": str(rig.folder / "position")}}))
    wait_for(lambda: rig.execute("SELECT 1 FROM pg_replication_slots WHERE active"))
    rig.execute("INSERT INTO items SELECT i, i FROM generate_series(1000, 1001000) AS i")
    end = rig.execute("SELECT pg_current_wal_lsn()")[0][0]
    wait_for(
        lambda: rig.execute(
            f"SELECT confirmed_flush_lsn >= '{end}'::pg_lsn FROM pg_replication_slots "
            "WHERE database = current_database()"
        )[0][0],
        timeout=120,
    )
    peak = process.peak_rss_mb()
    process.stop()
    assert peak <= 120, f"{peak} MB"
