"""Array literals: the quick way and the way that looks at every mark."""

from __future__ import annotations

import itertools

import pytest

from pycdc.rows.codecs.arrays import _nested, elements

PIECES = (b'"', b'""', b",", b"a", b" ", b"\\", b"NULL", b"{", b"}")


def outcome(literal: bytes, *, quick: bool) -> object:
    try:
        return elements(literal) if quick else _nested(literal)
    except ValueError:
        return "refused"


@pytest.mark.parametrize("length", range(5))
def test_literals_with_quotes_mean_what_they_mean_mark_by_mark(length: int) -> None:
    literals = (b"{" + b"".join(pieces) + b"}" for pieces in itertools.product(PIECES, repeat=length))
    for literal in (one for one in literals if b'"' in one):
        assert outcome(literal, quick=True) == outcome(literal, quick=False), literal


def test_quoted_elements_keep_commas_and_escaped_marks() -> None:
    assert elements(rb'{"a, b",c,NULL,"NULL","say \"no\"",""}') == [b"a, b", b"c", None, b"NULL", b'say "no"', b""]
