"""What is decided once for a table version, and what is counted of a transaction, each without a serializer."""

from __future__ import annotations

from pycdc.model.change import Op, Routing, Table
from pycdc.rows.encoder import UnexpectedNull
from pycdc.serialization.event_counter import EventCounter
from pycdc.serialization.json_format import JsonFormat
from pycdc.serialization.older_rows import OlderTables, rest_of
from pycdc.serialization.table_encoders import TableEncoders
from tests.connectors.postgres import frames
from tests.serialization.runs import LOG, USERS, configured, run

NEXT_USERS = Table(1, "public", "users", (*USERS.columns, LOG.columns[1]), ("id",))


def encoders() -> TableEncoders:
    return TableEncoders(configured(), JsonFormat(schemas=False), lambda *where: None, None, [], None)


def test_a_table_version_is_decided_about_once_and_an_older_one_is_forgotten() -> None:
    made, first = encoders(), run(Op.CREATE, USERS)
    older = made.of(first, USERS)
    assert made.of(run(Op.UPDATE, USERS), USERS) is older
    assert made.of(first, NEXT_USERS) is not older
    assert made.of(first, USERS) is not older, "the older version was forgotten"


def test_rows_that_a_transform_sends_elsewhere_have_an_encoder_of_their_own() -> None:
    made = encoders()
    elsewhere = run(Op.CREATE, USERS)
    elsewhere.routing = Routing("elsewhere")
    assert made.of(elsewhere, USERS).topic == "elsewhere"
    assert made.topics() == ["elsewhere"]
    made.forget(frozenset({USERS.oid}))
    assert made.topics() == []


def test_events_are_counted_by_table_and_a_snapshots_are_not() -> None:
    counter = EventCounter(enabled=True)
    orders = [counter.next(run(Op.CREATE, table), str(table)) for table in (USERS, LOG, USERS)]
    assert [(block.total_order, block.data_collection_order) for block in orders if block] == [(1, 1), (2, 1), (3, 2)]
    assert counter.next(run(Op.READ, USERS), str(USERS)) is None
    assert counter.counts[""] == 3
    counter.begin()
    assert counter.counts == {}


def test_a_table_is_loosened_until_the_next_finding_or_until_it_is_dropped() -> None:
    older, name = OlderTables(), USERS.columns[1].name
    older.loosen(USERS, USERS, UnexpectedNull([name]))
    assert older.as_written(USERS).columns[1].nullable
    assert older.as_written(NEXT_USERS) is NEXT_USERS
    older.forget({USERS.oid})
    assert older.as_written(USERS) is USERS


def test_the_rest_of_a_run_begins_at_a_change_of_its_transaction() -> None:
    whole = run(Op.CREATE, USERS, *(frames.insert(1, [b"%d" % number]) for number in range(3)), index=5)
    rest = rest_of(whole, 6)
    assert (rest.index, rest.frames) == (6, whole.frames[1:])
