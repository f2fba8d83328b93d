from __future__ import annotations

from typing import Any

from pycdc.model.event import Event, Partition
from pycdc.operations.route_proposals import Proposal, propose, sample
from pycdc.rows.target_column import TargetColumn
from pycdc.sinks.postgres.target_tables import TargetTable


def table(name: str, *columns: str, key: tuple[str, ...] = ("id",)) -> TargetTable:
    made = {c: TargetColumn(c, ("pg_catalog", "text"), "S", "text", "", False, "", False, True) for c in columns}
    return TargetTable("public", name, made, key, frozenset({frozenset(key)}))


def events(*rows: dict[str, Any] | None, key: Any = None, source: dict[str, Any] | None = None) -> list[Event]:
    envelope = None if source is None else {"source": source}
    place = Partition("shop.orders", 0)
    return [Event(place, 0, 0, key=key, row=row, deleted=row is None, envelope=envelope) for row in rows]


def proposed(found: list[Event], *tables: TargetTable) -> Proposal:
    made = propose(sample("shop.orders", found), tables)
    assert made is not None
    return made


def test_fields_of_the_columns_names_need_no_mapping() -> None:
    made = proposed(events({"id": 1, "name": "a"}, {"id": 2}), table("orders", "id", "name", "more"))
    assert made.plain
    assert (made.sample.records, made.sample.kinds) == (2, 2)


def test_names_are_compared_without_their_spelling() -> None:
    made = proposed(events({"orderId": 1, "Unit_Price": 2}), table("o", "order_id", "unit_price", key=("order_id",)))
    assert (made.key, made.assigned) == ({"order_id": "orderId"}, {"unit_price": "Unit_Price"})
    assert not made.plain


def test_fields_within_fields_fit_by_their_last_part() -> None:
    made = proposed(events({"order": {"id": 1, "total": 5}, "trace": "x"}), table("orders", "id", "total"))
    assert (made.key, made.assigned) == ({"id": "order.id"}, {"total": "order.total"})
    assert made.unused == ("trace",)


def test_the_key_may_be_in_the_message_key_only() -> None:
    made = proposed(events({"name": "a"}, key={"id": 1}), table("orders", "id", "name"))
    assert made.key == {"id": "id"}


def test_the_table_with_most_columns_told_is_chosen_and_among_equals_the_topics_name() -> None:
    row = {"id": 1, "name": "a", "total": 2}
    tables = (table("a", "id", "name"), table("b", "id", "name", "total"), table("orders", "id", "name", "total"))
    assert proposed(events(row), *tables).table.name == "orders"
    assert proposed(events(row), *tables[:2]).table.name == "b"


def test_what_an_envelope_says_of_its_table_counts_most() -> None:
    found = events({"id": 1, "name": "a"}, source={"schema": "public", "table": "small"})
    assert proposed(found, table("orders", "id", "name"), table("small", "id", "name")).table.name == "small"


def test_no_table_fits_without_its_key_or_with_few_of_the_fields() -> None:
    found = sample("t", events({"name": "a"}, None))
    assert propose(found, [table("orders", "id", "name"), table("keyless", "name", key=())]) is None
    assert propose(sample("t", events({"id": 1, "a": 1, "b": 1})), [table("orders", "id")]) is None


STOCK = {"type": "StockAdjusted", "itemId": 7, "newQuantity": 3, "occurredAt": "2026-11-21T10:00:00Z"}


def test_an_event_of_an_application_fits_by_the_last_words_of_its_fields_and_its_moment() -> None:
    inventory = table("inventory", "item_id", "quantity", "note", "created_at", "updated_at", key=("item_id",))
    made = proposed(events(STOCK), table("orders", "id", "total"), inventory)
    assert made.key == {"item_id": "itemId"}
    assert made.assigned == {"quantity": "newQuantity", "updated_at": "occurredAt"}
    assert (made.unused, set(made.guessed)) == (("type",), {"quantity", "updated_at"})
    assert not made.plain


def test_the_key_of_a_table_may_be_named_after_it() -> None:
    made = proposed(events(STOCK), table("items", "id", "quantity"), table("orders", "id", "quantity"))
    assert (str(made.table), made.key, made.assigned) == ("public.items", {"id": "itemId"}, {"quantity": "newQuantity"})


def test_nothing_is_guessed_where_two_fields_would_do() -> None:
    row = {
        "id": 1,
        "name": "a",
        "note": "b",
        "code": "c",
        "soldQuantity": 2,
        "leftQuantity": 3,
        "seenAt": 4,
        "madeAt": 5,
    }
    made = proposed(events(row), table("o", "id", "name", "note", "code", "quantity", "updated_at"))
    assert made.assigned == {"name": "name", "note": "note", "code": "code"}


def test_what_was_before_is_no_guess() -> None:
    made = proposed(events({"id": 1, "oldQuantity": 2, "newQuantity": 3}), table("o", "id", "quantity"))
    assert made.assigned == {"quantity": "newQuantity"}


def test_what_is_named_alike_is_preferred_to_what_is_guessed() -> None:
    row = {"itemId": 1, "newQuantity": 2}
    tables = (
        table("a", "item_id", "quantity", key=("item_id",)),
        table("b", "item_id", "new_quantity", key=("item_id",)),
    )
    assert proposed(events(row), *tables).table.name == "b"
