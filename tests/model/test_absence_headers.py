"""Headers that name fields."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pycdc.model.absence_headers import KNOWN, UNSENT, named, names_in


@given(st.sets(st.text(min_size=1)))
def test_names_come_back_whatever_they_hold(names: set[str]) -> None:
    assert names_in([("other", b"x"), (UNSENT, named(sorted(names)))], UNSENT) == frozenset(names)


def test_names_that_avro_allows_stand_as_they_are() -> None:
    assert named(["id", "we_ird"]) == b"id,we_ird"


def test_a_record_without_the_header_says_nothing() -> None:
    assert names_in([], UNSENT) is None
    assert names_in([(KNOWN, b"id"), (UNSENT, None)], UNSENT) is None
    assert names_in([(KNOWN, b"")], KNOWN) == frozenset()
