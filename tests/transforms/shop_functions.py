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
