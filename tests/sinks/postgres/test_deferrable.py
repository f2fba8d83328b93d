"""Constraints that may be checked at the commit: values that rows exchange arrive, and what never fits is found."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from pycdc.errors import ApplyError
from tests.sinks.postgres.rig import Rig

pytestmark = pytest.mark.pg("!=16")
CONSTRAINTS = {
    f"{kind} {when}".strip(): f"{declared} {when}"
    for kind, declared in (("UNIQUE", "UNIQUE (code)"), ("EXCLUDE", "EXCLUDE USING gist (during WITH &&)"))
    for when in ("DEFERRABLE", "DEFERRABLE INITIALLY DEFERRED")
}


@pytest.fixture(params=CONSTRAINTS)
def rig(request: pytest.FixtureRequest, database: str) -> Iterator[Rig]:
    rig = Rig(database)
    rig.sql(
        f"CREATE TABLE items (id int PRIMARY KEY, code int, during int4range, note text, {CONSTRAINTS[request.param]})"
    )
    yield rig
    rig.close()


def row(key: int, value: int) -> dict[str, Any]:
    return {"id": key, "code": value, "during": f"[{value},{value + 1})"}


def codes(rig: Rig) -> list[Any]:
    return rig.sql("SELECT id, code, lower(during) FROM items ORDER BY id")


def test_values_that_rows_exchange_arrive_at_once_whatever_the_rule_for_conflicts(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("pycdc.sinks.postgres.sink.Bisection")
    for rule in ({}, {"conflict": "keep_local"}, {"conflict": "last_write_wins"}):
        rig.sql("TRUNCATE items")
        process = rig.process({"topic": "items", "table": "items", **rule}, wait_for_parents=0)
        process.apply(row(1, 1), row(2, 2), row(3, 3))
        # Rows of several columns are several statements.
        process.apply(row(1, 2), {**row(2, 3), "note": "x"}, row(3, 1), row(4, 4))
        assert codes(rig) == [(1, 2, 2), (2, 3, 3), (3, 1, 1), (4, 4, 4)], rule


def test_a_row_that_does_not_fit_at_the_commit_is_found_and_no_other_is_lost(rig: Rig) -> None:
    parking = rig.process(on_error="park", wait_for_parents=0)
    parking.apply(row(1, 1), row(2, 2))
    parking.apply(row(1, 2), row(2, 5), row(3, 5), row(4, 6))
    assert codes(rig) == [(1, 2, 2), (2, 5, 5), (4, 6, 6)]
    assert rig.sql('SELECT "offset", sqlstate FROM pycdc.parked') in ([(4, "23505")], [(4, "23P01")])
    stopping = rig.process(wait_for_parents=0)
    with pytest.raises(ApplyError, match=r"items\[0\] offset 7 cannot be applied: \w+Violation"):
        stopping.apply(row(1, 7), row(5, 6))
    assert codes(rig)[0] == (1, 7, 7), "what was before it is applied"
