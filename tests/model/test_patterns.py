from __future__ import annotations

import pytest

from pycdc.connectors.postgres.publication.captured_tables import wanted


@pytest.mark.parametrize("patterns", [["*"], ["*.*"], ["*.parked", "pycdc*.*"]])
def test_own_bookkeeping_is_not_captured_by_the_way(patterns: list[str]) -> None:
    assert not wanted(patterns, [], [("pycdc", "parked")])
    assert not wanted(["public.*"], [], [("public", "pycdc_offsets")])


def test_own_bookkeeping_is_captured_where_a_pattern_names_it() -> None:
    assert wanted(["*.*", "pycdc.parked"], [], [("pycdc", "parked")])
    assert wanted(["pycdc.*"], [], [("pycdc", "parked")])
    assert not wanted(["*.*", "pycdc.parked"], [], [("pycdc", "apply_offsets")])
    assert not wanted(["pycdc.*"], ["*.parked"], [("pycdc", "parked")])
    assert wanted(["pycdc_offsets"], [], [("public", "pycdc_offsets")])


def test_tables_that_only_sound_like_it_are_captured() -> None:
    assert wanted(["*"], [], [("pycdc_shop", "orders")])
    assert wanted(["*"], [], [("public", "pycdc")])
