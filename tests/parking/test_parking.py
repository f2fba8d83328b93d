"""Rows that cannot be delivered are parked, their keys wait, and all others go on."""

from __future__ import annotations

import pytest

from tests.parking import functions
from tests.parking.parked import Rig
from tests.reading import wait_for

pytestmark = pytest.mark.pg("newest")

TRANSFORM = [{"function": f"{functions.__name__}:fails_at_bad", "tables": ["public.items"]}]
FORMS = {"values": {"decimal": "double"}}


@pytest.mark.parametrize("delivery", ["exactly_once", "at_least_once"])
def test_a_row_that_cannot_be_encoded_is_parked_and_later_rows_of_its_key_wait_behind_it(
    rig: Rig, delivery: str
) -> None:
    document = rig.document(delivery)
    with rig.running(document):
        rig.execute(
            "INSERT INTO items VALUES (1, 1), (2, 'NaN'), (3, 3)",
            "UPDATE items SET v = v + 1 WHERE id <> 2",
            "UPDATE items SET v = 22 WHERE id = 2",
            "INSERT INTO items VALUES (4, 4)",
        )
        wait_for(lambda: rig.values(4))
    assert [row["id"] for _, row in rig.rows()] == [1, 3, 1, 3, 4]
    first, second = rig.parked()
    assert b"NaN" in first.frame
    assert b"22" in second.frame
    assert (first.headers["__pycdc.error"], second.headers["__pycdc.error"]) == ("ConversionError", "Waits")
    with rig.running(document):
        rig.execute("UPDATE items SET v = 23 WHERE id = 2", "UPDATE items SET v = 9 WHERE id = 4")
        wait_for(lambda: len(rig.values(4)) == 2)
        listed = rig.pycdc("list")
        assert [one["table"] for one in listed] == ["public.items"] * 3
        rig.pycdc("drop", listed[0]["id"])
        wait_for(lambda: len(rig.values(2)) == 2)
        rig.execute("UPDATE items SET v = 24 WHERE id = 2")
        wait_for(lambda: len(rig.values(2)) == 3)
    assert [op for op, row in rig.rows() if row["id"] == 2] == ["u", "u", "u"]
    assert not rig.parked()
    assert rig.pycdc("list") == []


@pytest.mark.parametrize("delivery", ["exactly_once", "at_least_once"])
def test_rows_that_a_function_fails_at_come_in_the_order_of_their_key_once_it_is_corrected(
    rig: Rig, delivery: str
) -> None:
    with rig.running(rig.document(delivery, transforms=TRANSFORM)):
        rig.execute(
            "INSERT INTO items VALUES (1, 1, 'good'), (2, 2, 'bad'), (3, 3, 'good')",
            "UPDATE items SET note = 'good' WHERE id = 2",
            "DELETE FROM items WHERE id = 2",
            "INSERT INTO items VALUES (2, 5, 'good'), (4, 4, 'good')",
        )
        wait_for(lambda: rig.values(4))
        assert not rig.values(2)
        rig.pycdc("retry", "--all")
        rig.execute("INSERT INTO items VALUES (5, 5)")
        wait_for(lambda: rig.values(5))
        assert not rig.values(2), "it was not corrected yet"
        functions.corrected.set()
        rig.pycdc("retry", "--table", "public.items")
        wait_for(lambda: len(rig.values(2)) == 4)
    assert [(op, row["note"]) for op, row in rig.rows() if row["id"] == 2] == [
        ("c", "bad"),
        ("u", "good"),
        ("d", None),
        ("c", "good"),
    ]
    assert not rig.parked()


@pytest.mark.parametrize("compression", ["none", "lz4"])
@pytest.mark.parametrize("delivery", ["exactly_once", "at_least_once"])
def test_a_row_that_is_too_large_is_parked_in_pieces_that_its_topic_takes(
    rig: Rig, delivery: str, compression: str
) -> None:
    """With compression, only the broker can tell."""
    for name in ("public.items", "parked"):
        rig.kafka.create_topic(
            f"{rig.name}.{name}",
            config={"max.message.bytes": "20000"} | ({"cleanup.policy": "compact"} if name == "parked" else {}),
        )
    noise = "SELECT string_agg(md5(i::text), '') FROM generate_series(1, 2000) AS i"
    with rig.running(rig.document(delivery, kafka={"options": {"compression.type": compression}})):
        rig.execute(
            f"INSERT INTO items SELECT i, i, CASE i WHEN 5 THEN ({noise}) END FROM generate_series(1, 9) AS i",
            "UPDATE items SET note = 'short' WHERE id = 5",
            "INSERT INTO items VALUES (10, 10)",
        )
        # At-least-once delivery may have sent rows behind it before the broker refused it: they come once more.
        wait_for(lambda: len(rig.parked()) == 2 and rig.values(10))
        large, waits = rig.parked()
        assert (large.headers["__pycdc.error"], waits.headers["__pycdc.error"]) == ("RecordTooLarge", "Waits")
        assert int(large.headers["__pycdc.parts"]) > 1
        assert len(large.frame) > 64_000
        rig.pycdc("drop", "--all")
        wait_for(lambda: rig.values(5) and not rig.parked())
    assert set(rig.values(5, "note")) == {"short"}
    assert {row["id"] for _, row in rig.rows()} == set(range(1, 11))
    if delivery == "exactly_once":
        assert len(rig.rows()) == 10
