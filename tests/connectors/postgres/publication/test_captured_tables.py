"""A change belongs to the table that it was written into, whatever became of that since."""

from __future__ import annotations

from typing import Any

import pytest

from pycdc.config import validate_capture
from pycdc.errors import EnvironmentNotReady
from pycdc.offsets.memory import MemoryOffsetStore
from tests.connectors.postgres.looping import Looping, config_for
from tests.connectors.postgres.reading import execute

pytestmark = pytest.mark.server
ORDERS = """
CREATE TABLE orders (id int, y int, PRIMARY KEY (id, y)) PARTITION BY LIST (y);
CREATE TABLE orders_2024 PARTITION OF orders FOR VALUES IN (2024);
CREATE TABLE orders_2025 PARTITION OF orders FOR VALUES IN (2025);
"""


def rows(running: Looping) -> list[tuple[str, int, str]]:
    """Table, id and operation of the records that are no tombstones."""
    return [
        (r.topic.rpartition(".")[2], r.key["id"], r.value["op"]) for r in list(running.records) if r.value is not None
    ]


def table(row: tuple[str, int, str]) -> str:
    return row[0]


def begun(database: str, **source: Any) -> tuple[Looping, MemoryOffsetStore]:
    """A pipeline that captured `orders` and was stopped."""
    offsets = MemoryOffsetStore()
    running = Looping(config_for(database, tables=["public.orders"], **source), offsets)
    with running:
        running.until_streaming()
        execute(database, "INSERT INTO orders VALUES (1, 2024)")
        running.until(lambda: rows(running))
    return running, offsets


@pytest.mark.parametrize("via_root", [False, True], ids=["partitions", "root"])
@pytest.mark.parametrize("what", ["DETACH PARTITION orders_2024", "DROP", "old and new"])
def test_rows_of_a_partition_that_was_detached_or_dropped_since_are_delivered(
    database: str, what: str, via_root: bool
) -> None:
    execute(database, ORDERS)
    _, offsets = begun(database, via_partition_root=via_root)
    execute(database, "INSERT INTO orders VALUES (2, 2024), (3, 2025); UPDATE orders SET id = 20 WHERE id = 2")
    if what == "DROP":
        execute(database, "DROP TABLE orders_2024")
    elif what == "old and new":
        # The pipeline never saw this one.
        execute(database, "CREATE TABLE orders_2026 PARTITION OF orders FOR VALUES IN (2026)")
        execute(database, "INSERT INTO orders VALUES (6, 2026)")
        execute(database, "ALTER TABLE orders DETACH PARTITION orders_2026; INSERT INTO orders_2026 VALUES (7, 2026)")
        execute(database, "DROP TABLE orders_2026")
    else:
        execute(database, f"ALTER TABLE orders {what}; INSERT INTO orders_2024 VALUES (8, 2024)")
    with Looping(config_for(database, tables=["public.orders"], via_partition_root=via_root), offsets) as second:
        second.until_streaming()
        execute(database, "INSERT INTO orders VALUES (4, 2025)")
        second.until(lambda: any(id_ == 4 for _, id_, _ in rows(second)))
        old, new, newer = ("orders",) * 3 if via_root else ("orders_2024", "orders_2025", "orders_2026")
        expected = [(old, 2, "c"), (new, 3, "c"), (old, 2, "d"), (old, 20, "c")]
        expected += [(newer, 6, "c")] * (what == "old and new")
        # Records of several topics have no order among each other.
        assert sorted(rows(second), key=table) == sorted([*expected, (new, 4, "c")], key=table)


@pytest.mark.pg("newest")
def test_what_was_written_before_a_partition_went_comes_after_a_restart_too(database: str) -> None:
    """The running pipeline saw it go before it had read what came before."""
    execute(database, ORDERS)
    _, offsets = begun(database)
    execute(database, "INSERT INTO orders VALUES (2, 2024)")
    execute(database, "DROP TABLE orders_2024")
    second = Looping(config_for(database, tables=["public.orders"]), offsets)
    stored = offsets.load()
    with second:
        # It stores what it knows of the tables, and dies before the row is stored.
        second.until_streaming()
        second.until(lambda: rows(second))
    assert stored is not None
    with Looping(config_for(database, tables=["public.orders"]), offsets) as third:
        third.until_streaming()
        membership = offsets.load().membership  # type: ignore[union-attr]
        assert membership["former"]


@pytest.mark.pg("newest")
@pytest.mark.parametrize("all_tables", [True, False], ids=["all tables", "listed"])
def test_a_detached_partition_is_not_delivered_for_ever(database: str, all_tables: bool) -> None:
    execute(database, ORDERS)
    if all_tables:
        execute(database, "CREATE PUBLICATION pycdc_loop FOR ALL TABLES")
    with Looping(config_for(database, tables=["public.orders"], publication_check=0.1)) as running:
        running.until_streaming()
        execute(database, "INSERT INTO orders VALUES (1, 2024)")
        execute(database, "ALTER TABLE orders DETACH PARTITION orders_2024")
        number = 100

        def dismissed() -> bool:
            nonlocal number
            number += 1
            execute(
                database, f"INSERT INTO orders_2024 VALUES ({number}, 2024); INSERT INTO orders VALUES ({number}, 2025)"
            )
            running.until(lambda: ("orders_2025", number, "c") in rows(running))
            return ("orders_2024", number, "c") not in rows(running)

        running.until(dismissed)
        assert ("orders_2024", 1, "c") in rows(running)


@pytest.mark.pg("newest")
def test_an_excluded_partition_is_excluded_at_every_level(database: str) -> None:
    execute(database, ORDERS)
    execute(
        database,
        "CREATE TABLE orders_old PARTITION OF orders FOR VALUES IN (2020, 2021) PARTITION BY LIST (y);"
        "CREATE TABLE orders_2020 PARTITION OF orders_old FOR VALUES IN (2020);"
        "CREATE TABLE orders_2021 PARTITION OF orders_old FOR VALUES IN (2021);"
        "INSERT INTO orders VALUES (1, 2020), (2, 2024), (3, 2025)",
    )
    excluded = ["public.orders_old", "public.orders_2025"]
    with Looping(config_for(database, tables=["public.orders"], exclude_tables=excluded)) as running:
        running.until_streaming()
        execute(database, "INSERT INTO orders VALUES (4, 2021), (5, 2025), (6, 2024)")
        running.until(lambda: any(id_ == 6 for _, id_, _ in rows(running)))
        assert rows(running) == [("orders_2024", 2, "r"), ("orders_2024", 6, "c")]


@pytest.mark.pg("newest")
def test_a_partitioned_partition_that_is_named_is_captured_with_what_is_below_it(database: str) -> None:
    execute(
        database,
        ORDERS + "CREATE TABLE orders_old PARTITION OF orders FOR VALUES IN (2020, 2021) PARTITION BY LIST (y);"
        "CREATE TABLE orders_2020 PARTITION OF orders_old FOR VALUES IN (2020);"
        "INSERT INTO orders VALUES (1, 2020), (2, 2024)",
    )
    for via_root, name_of_rows in ((False, "orders_2020"), (True, "orders_old")):
        name = f"named_{via_root}".lower()
        config = config_for(database, name=name, tables=["public.orders_old"], via_partition_root=via_root)
        with Looping(config) as running:
            running.until_streaming()
            execute(database, "INSERT INTO orders VALUES (3, 2024), (4, 2020); DELETE FROM orders WHERE id > 1")
            running.until(lambda running=running: any(op == "d" for _, _, op in rows(running)))  # type: ignore[misc]
            assert rows(running) == [(name_of_rows, 1, "r"), (name_of_rows, 4, "c"), (name_of_rows, 4, "d")]
        execute(database, "INSERT INTO orders VALUES (2, 2024)")


@pytest.mark.pg("newest")
@pytest.mark.parametrize(
    ("publication", "source", "fact"),
    [
        ("FOR TABLE orders", {"via_partition_root": True}, "via_partition_root is true"),
        ("FOR TABLE orders WITH (publish_via_partition_root)", {}, "via_partition_root is false"),
        (
            "FOR TABLE orders WITH (publish_via_partition_root)",
            {"via_partition_root": True, "exclude_tables": ["public.orders_2024"]},
            "public.orders_2024 is excluded",
        ),
        (
            "FOR ALL TABLES WITH (publish_via_partition_root)",
            {"via_partition_root": True, "tables": ["public.orders_2024"]},
            "a root that is not captured",
        ),
    ],
)
def test_names_that_snapshot_and_stream_would_not_share_are_refused(
    database: str, publication: str, source: dict[str, Any], fact: str
) -> None:
    execute(database, ORDERS)
    execute(database, f"CREATE PUBLICATION pycdc_loop {publication}")
    with Looping(config_for(database, **{"tables": ["public.orders"], **source})) as running:
        error = running.failure()
        assert isinstance(error, EnvironmentNotReady)
        assert fact in error.fact
        assert "via_partition_root" in error.hint or "root" in error.hint


@pytest.mark.pg("newest")
def test_rows_of_a_table_that_is_gone_and_that_nothing_tells_of_are_left_out_and_told(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The publication has all tables: what is gone may have been a partition, or a table of somebody else's."""
    execute(database, ORDERS + "CREATE PUBLICATION pycdc_loop FOR ALL TABLES")
    _, offsets = begun(database)
    execute(database, "CREATE TABLE orders_2026 PARTITION OF orders FOR VALUES IN (2026)")
    execute(database, "INSERT INTO orders VALUES (6, 2026)")
    execute(database, "DROP TABLE orders_2026")
    with Looping(config_for(database, tables=["public.orders"]), offsets) as second:
        second.until_streaming()
        execute(database, "INSERT INTO orders VALUES (4, 2025)")
        second.until(lambda: rows(second))
        assert rows(second) == [("orders_2025", 4, "c")]
        assert second.progress.unclaimed == {"public.orders_2026": 1}
    assert any(getattr(record, "table", "") == "public.orders_2026" for record in caplog.records)


@pytest.mark.pg("newest")
@pytest.mark.parametrize(
    ("tables", "read"), [("public.orders", {"orders"}), ("public.orders*", {"orders", "orders_2024"})]
)
def test_a_snapshot_as_debezium_takes_it_reads_a_partitioned_table_under_the_names_that_are_named(
    database: str, tables: str, read: set[str]
) -> None:
    execute(database, ORDERS + "INSERT INTO orders VALUES (1, 2024)")
    document = {
        "name": "loop",
        "source": {"postgres": {"dsn": database, "tables": [tables]}},
        "sink": {"null": {}},
        "compatibility": "debezium",
    }
    with Looping(validate_capture(document)) as running:
        running.until_streaming()
        execute(database, "INSERT INTO orders VALUES (2, 2024)")
        running.until(lambda: any(op == "c" for *_, op in rows(running)))
        assert sorted(rows(running)) == sorted([*((name, 1, "r") for name in read), ("orders_2024", 2, "c")])
