"""Differences are confirmed against the other direction: what is under way is none, and nothing else is lost."""

from __future__ import annotations

from collections import Counter
from typing import cast

from pycdc.operations.verify.result import Difference, DifferenceKind, TableResult, Verification
from pycdc.operations.verify.two_way import OtherDirection, confirmed


class Other:
    def wait(self) -> None:
        pass


def found(*keys: str, more: int = 0) -> Verification:
    differences = [Difference("public.t", DifferenceKind.MISSING, {"id": key}) for key in keys]
    differing = Counter({DifferenceKind.MISSING: len(keys) + more})
    table = TableResult("public.t", ("public.t",), differences=differences, differing=differing)
    return Verification("p", (), "", "", "", "", "", tables=[table])


def confirmed_of(first: Verification, second: Verification) -> TableResult:
    return confirmed(first, cast(OtherDirection, Other()), lambda: second).tables[0]


def test_what_is_not_found_again_was_under_way() -> None:
    table = confirmed_of(found("1", "2"), found("2", "3"))
    assert [one.key["id"] for one in table.differences] == ["2"]
    assert table.notes == ["1 keys were under way in the other direction"]
    assert confirmed_of(found("1"), found()).equal


def test_differences_beyond_those_that_are_kept_are_never_taken_for_changes_under_way() -> None:
    for first, second in ((found("1", more=5), found("2")), (found("1"), found("2", more=5))):
        table = confirmed_of(first, second)
        assert table.differing[DifferenceKind.MISSING] == 6
        assert "too many differences" in table.notes[0]
