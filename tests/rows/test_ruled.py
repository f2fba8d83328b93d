"""Rules on frames: what console, custom sinks and programs see of rows."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import pytest

from pycdc.model.change import UNCHANGED, Op, Table
from pycdc.rows.ruled import RuledRows
from pycdc.rows.tuples import ColumnBytes
from tests.connectors.postgres import frames
from tests.serialization.runs import ID, batch, column, configured, run

CANARY = b"canary@example.org"
PEOPLE = Table(
    7,
    "public",
    "people",
    (ID, column("mail", identity=True), column("kind", "varchar"), column("note"), column("n", "int4")),
    ("id", "mail"),
    "f",
)
ROW: list[ColumnBytes] = [b"1", CANARY, CANARY, b"a\tb\\c", None]
LINE = b"1\t" + CANARY + b"\t" + CANARY + rb"	a\tb\\c	\N"
CHANGES = [
    run(Op.CREATE, PEOPLE, frames.insert(7, ROW)),
    run(Op.UPDATE, PEOPLE, frames.update(7, [b"1", b"x", UNCHANGED, b"y", b"2"], ROW, b"O")),
    run(Op.UPDATE, PEOPLE, frames.update(7, ROW, [b"1", CANARY, None, None, None], b"K")),
    run(Op.DELETE, PEOPLE, frames.delete(7, ROW, b"O")),
    run(Op.DELETE, PEOPLE, frames.delete(7, [b"1", CANARY, None, None, None], b"K")),
    run(Op.READ, PEOPLE, LINE),
]
HASHED = {"columns": ["mail", "kind"], "salt": "s"}


def ruled(*rules: dict[str, Any]) -> list[Any]:
    made = RuledRows(configured(rules=list(rules))).batch(batch(*CHANGES))
    return list(made)


@pytest.mark.parametrize(
    "rule",
    [
        {"mask": {"mail": 3, "kind": 4}},
        {"hash": [HASHED]},
        {"truncate": {"mail": 0, "kind": 2}},
        {"exclude_columns": ["kind"], "mask": {"mail": 1}},
        {"include_columns": ["note"], "key": ["id"]},
    ],
)
def test_a_hidden_value_is_in_no_frame_and_no_image(rule: dict[str, Any]) -> None:
    for change in ruled(rule):
        assert CANARY not in change.frame
        assert CANARY.decode() not in repr(change.images())


def test_what_is_not_hidden_stays_as_it_is() -> None:
    inserted, updated, moved, deleted, gone, read = ruled({"mask": {"mail": 3}, "rename": {"note": "text", "id": "no"}})
    row = {"no": 1, "mail": "***", "kind": CANARY.decode(), "text": "a\tb\\c", "n": None}
    unknown = {name: value for name, value in row.items() if name in ("no", "mail")}
    assert (str(inserted.table), inserted.table.key) == ("public.people", ("no", "mail"))
    assert inserted.after == row
    assert read.after["text"] == "a\tb\\c"
    assert updated.after["n"] == 2
    assert updated.after["kind"] == updated.before["kind"]
    assert moved.before == unknown
    assert deleted.before.keys() == row.keys()
    assert gone.before == unknown


def test_hashes_are_those_of_records() -> None:
    digest = sha256(b"s" + CANARY).hexdigest()
    assert {change.after["mail"] for change in ruled({"hash": [HASHED]}) if change.op is Op.CREATE} == {digest}


def test_batches_of_other_tables_and_without_rules_are_left_alone() -> None:
    made = batch(*CHANGES)
    assert RuledRows(configured()).batch(made) is made
    other = RuledRows(configured(rules=[{"tables": "public.other", "mask": {"x": 1}}, {"topic": "t"}])).batch(made)
    assert all(one is was for one, was in zip(other.runs, made.runs, strict=True))
