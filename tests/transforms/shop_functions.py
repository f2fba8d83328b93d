"""Functions that the tests of transforms name by their paths."""

from __future__ import annotations

from collections.abc import Iterator

import pycdc
from pycdc import DecodedChange


def same(change: DecodedChange) -> DecodedChange:
    return change


def nothing(change: DecodedChange) -> None:
    return None


def upper(change: DecodedChange) -> DecodedChange:
    for row in change.rows:
        if row.get("name"):
            row["name"] = row["name"].upper()
    return change


def fails(change: DecodedChange) -> DecodedChange:
    raise KeyError(f"canary-4711 {change.after}")


def returns_text(change: DecodedChange) -> str:
    return "canary-4711"


def later(change: DecodedChange) -> DecodedChange:
    raise pycdc.DeliveryError("the rates are away")


def twice(change: DecodedChange) -> Iterator[DecodedChange]:
    for number in (1, 2):
        part = change.copy()
        for row in part.rows:
            row["line"] = number
        yield part


def strange_column(change: DecodedChange) -> DecodedChange:
    for row in change.rows:
        row["surprise"] = 1
    return change


def elsewhere(change: DecodedChange) -> DecodedChange:
    change.topic = "shop.elsewhere"
    change.headers.append(("region", "eu"))
    return change


def no_argument() -> None:
    pass


async def asynchronous(change: DecodedChange) -> DecodedChange:
    return change


number = 7
seen: list[DecodedChange] = []


def looks(change: DecodedChange) -> DecodedChange:
    seen.append(change)
    return change


def exclaim(change: DecodedChange) -> DecodedChange:
    for row in change.rows:
        row["name"] += "!"
    return change


def hides_id(change: DecodedChange) -> DecodedChange:
    for row in change.rows:
        row["id"] = -row["id"]
    return change


def keeps_deleted(change: DecodedChange) -> DecodedChange:
    assert change.before is not None
    return change.copy(op=pycdc.Op.UPDATE, after={**change.before, "name": "gone"})


def initial(change: DecodedChange) -> DecodedChange:
    for row in change.rows:
        row["initial"] = row["name"][:1]
        del row["big"]
    return change


def initial_of_after(change: DecodedChange) -> DecodedChange:
    assert change.before is not None
    del change.before["big"]
    return initial(change.copy(before=None)).copy(before=change.before)


def price_as_text(change: DecodedChange) -> DecodedChange:
    for row in change.rows:
        row["price"] = str(row["price"])
    return change


def appends_tag(change: DecodedChange) -> DecodedChange:
    assert change.after is not None
    change.after["tags"].append("new")
    change.after["doc"]["a"] = True
    return change


def forgets_column(change: DecodedChange) -> DecodedChange:
    assert change.after is not None
    del change.after["big"]
    return change


def wrong_type(change: DecodedChange) -> DecodedChange:
    assert change.after is not None
    change.after["price"] = "4.50 canary-4711"
    return change


def null_age(change: DecodedChange) -> DecodedChange:
    assert change.after is not None
    change.after["age"] = None
    return change


def unsent_name(change: DecodedChange) -> DecodedChange:
    assert change.after is not None
    change.after["name"] = pycdc.UNCHANGED
    return change


def no_after(change: DecodedChange) -> DecodedChange:
    return change.copy(after=None)


def reads(change: DecodedChange) -> DecodedChange:
    return change.copy(op=pycdc.Op.READ)


def fails_at_two(change: DecodedChange) -> DecodedChange:
    return fails(change) if change.after and change.after["id"] == 2 else change


def upper_sku(change: DecodedChange) -> DecodedChange:
    for row in change.rows:
        row["sku"] = row["sku"].upper()
    return change


def removes(change: DecodedChange) -> DecodedChange:
    change.op, change.topic, change.key = pycdc.Op.DELETE, "others", {"id": 2}
    change.headers = [("why", "gone")]
    return change


def item_row(change: DecodedChange) -> pycdc.Row | None:
    assert change.after is not None
    return {"quantity": sum(change.after["parts"])}


def item_with_key(change: DecodedChange) -> pycdc.Row | None:
    assert change.after is not None
    return {"id": int(change.after["code"].partition("-")[2])}


def strange_row(change: DecodedChange) -> pycdc.Row | None:
    return {"id": 1, "surprise": 2}


def second_part_is_refused(change: DecodedChange) -> list[DecodedChange]:
    assert change.after is not None
    number = change.after["id"]
    far = 2**40 if number == 1 else number + 100
    return [change, change.copy(after={**change.after, "id": far})]


def row_of_pairs(change: DecodedChange) -> DecodedChange:
    return change.copy(after=[("name", "canary-4711")])


def strange_op(change: DecodedChange) -> DecodedChange:
    return change.copy(op="upsert")


def strange_topic(change: DecodedChange) -> DecodedChange:
    return change.copy(topic=7)


def strange_headers(change: DecodedChange) -> DecodedChange:
    return change.copy(headers=[("name", 7)])


def plain_letter(change: DecodedChange) -> DecodedChange:
    return change.copy(op="u", after=change.before)


calls: list[object] = []
"""Rows that `cents` and `cents_row` were called with."""


def cents(change: DecodedChange) -> DecodedChange:
    calls.append(change.key)
    for row in change.rows:
        row["doc"]["cents"] *= 100
        row["doc"]["log"].append("seen")
    return change


def cents_row(change: DecodedChange) -> dict[str, object]:
    calls.append(change.key)
    assert change.after is not None
    change.after["doc"]["cents"] *= 100
    return change.after


def to_others(change: DecodedChange) -> DecodedChange:
    if change.after and change.after.get("other"):
        change.topic = "others"
    return change


def other_id(change: DecodedChange) -> DecodedChange:
    assert change.after is not None
    return change.copy(after={**change.after, "id": change.after["id"] + 1000})
