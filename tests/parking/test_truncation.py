"""A row that is too large is cut where its table's rule says so, and tells it."""

from __future__ import annotations

import base64
import json
from typing import Any

import psycopg
import pytest

from tests.parking.parked import Rig
from tests.reading import wait_for
from tests.running import Running

pytestmark = pytest.mark.pg("newest")

LIMIT = 20_000
RULES = [{"tables": "public.items", "on_too_large": "truncate", "truncatable": ["note", "image"]}]
TEXT = "SELECT string_agg('é' || md5(i::text), '') FROM generate_series(1, 1000) AS i"
BYTES = "SELECT decode(string_agg(md5(i::text), ''), 'hex') FROM generate_series(1, 1500) AS i"


def records(rig: Rig) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """What was cut, and the row, of each record of the table's topic."""
    found = []
    for message in rig.kafka.consume_all(f"{rig.name}.public.items"):
        assert len(message.value()) < LIMIT
        cut = dict(message.headers() or []).get("__pycdc.truncated", b"{}")
        found.append((json.loads(cut), json.loads(message.value())["after"]))
    return found


@pytest.mark.parametrize("compression", ["none", "lz4"])
def test_a_row_that_is_too_large_is_cut_no_more_than_necessary_and_its_record_says_so(
    rig: Rig, compression: str
) -> None:
    """With compression only the broker can tell; what it takes in the end is cut to what it surely takes."""
    rig.kafka.create_topic(f"{rig.name}.public.items", config={"max.message.bytes": str(LIMIT)})
    rig.execute("ALTER TABLE items ADD image bytea, ADD kept text")
    options = {"compression.type": compression}
    with rig.running(rig.document(rules=RULES, kafka={"options": options})):
        rig.execute(
            f"INSERT INTO items (id, note, image, kept) VALUES (1, 'short', NULL, 'k'), (2, ({TEXT}), ({BYTES}), 'k')",
            "UPDATE items SET kept = 'kept' WHERE id = 2",
            "INSERT INTO items (id) VALUES (3)",
        )
        wait_for(lambda: rig.values(3))
    (none, first), (sizes, second), *_, (_, last) = records(rig)
    assert (none, first["note"], last["id"]) == ({}, "short", 3)
    assert sizes == {"note": 34_000, "image": 48_002}
    assert second["kept"] == "k"
    with psycopg.connect(rig.dsn) as connection:
        note, image = connection.execute("SELECT note, image FROM items WHERE id = 2").fetchone() or ("", b"")
    cut = base64.b64decode(second["image"])
    assert note.startswith(second["note"])
    assert image.startswith(cut)
    assert len(second["image"]) + len(second["note"]) > LIMIT / 2


def test_a_row_that_is_too_large_whatever_is_cut_stops_the_pipeline(rig: Rig) -> None:
    rig.kafka.create_topic(f"{rig.name}.public.items", config={"max.message.bytes": str(LIMIT)})
    rig.execute("ALTER TABLE items ADD kept text")
    document = rig.document(
        rules=[{**RULES[0], "truncatable": ["note"]}], kafka={"options": {"compression.type": "none"}}
    )
    with rig.running(document) as pipeline:
        rig.execute("INSERT INTO items (id, note, kept) VALUES (1, 'short', repeat('x', 30000))")
        assert pipeline.failure().code == "record-too-large"


def test_columns_that_cannot_be_cut_are_refused_at_the_start(rig: Rig) -> None:
    document = rig.document(rules=[{**RULES[0], "truncatable": ["v"]}])
    with Running(document) as pipeline:
        failure = pipeline.failure()
    assert failure.code == "config"
    assert "numeric" in failure.fact
