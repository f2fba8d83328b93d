"""What differs between two answers to the same request: pure, and without their values.

A place is the tuple of names and indexes that leads to it. Its text, `items[].price`, is the same for all elements of
a list: configured rules and what was learned of a route speak of texts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final, Literal, NamedTuple

AnswerPlace = tuple[str | int, ...]
Kind = Literal["status", "body", "type", "value", "length", "elements", "missing", "more"]

STATUS: Final[AnswerPlace] = ("(status)",)
BODY: Final[AnswerPlace] = ("(body)",)


class AnswerDifference(NamedTuple):
    """`missing` is what the second answer lacks, `more` what it has beyond the first."""

    place: AnswerPlace
    kind: Kind


@dataclass(frozen=True, slots=True)
class ServiceAnswer:
    """`content` is parsed JSON, or bytes where it is none."""

    status: int
    content: Any

    @classmethod
    def of(cls, status: int, data: bytes) -> ServiceAnswer:
        """Return an answer whose numbers are exact: 3.0 is 3.00, and a long one is not rounded."""
        try:
            return cls(status, json.loads(data, parse_float=Decimal, parse_constant=str))
        except (ValueError, RecursionError):
            return cls(status, data)


class ComparisonRules:
    """What may differ: what lies at `ignored` places, numbers by `tolerance`, the order of lists at `unordered`.

    A pattern is a text; `*` stands for any name, `**.` in front for any depth.
    """

    def __init__(self, ignored: Sequence[str] = (), unordered: Sequence[str] = (), tolerance: float = 0.0) -> None:
        self.tolerance = Decimal(str(tolerance))
        self._ignored, self._unordered = _expression(ignored), _expression(unordered)

    def ignores(self, place: AnswerPlace) -> bool:
        return self._ignored is not None and self._ignored.fullmatch(text_of(place)) is not None

    def is_unordered(self, place: AnswerPlace) -> bool:
        return self._unordered is not None and self._unordered.fullmatch(text_of(place)) is not None


@lru_cache(4096)
def text_of(place: AnswerPlace) -> str:
    """Return the text of a place: of the whole content, `$`."""
    text = ""
    for step in place:
        text += "[]" if isinstance(step, int) else f".{step}" if text else step
    return text or "$"


def shape_of(place: AnswerPlace) -> AnswerPlace:
    """Return a place that is the same for all elements of a list."""
    return tuple(0 if isinstance(step, int) else step for step in place)


def value_at(answer: ServiceAnswer, place: AnswerPlace) -> str | None:
    """Return what is at a place, as text; None where nothing is."""
    if place == STATUS:
        return str(answer.status)
    found = answer.content
    for step in () if place == BODY else place:
        try:
            found = found[step]
        except (KeyError, IndexError, TypeError):
            return None
    return str(found)


def _expression(patterns: Sequence[str]) -> re.Pattern[str] | None:
    known = {"**.": r"(?:.+\.)?", "*": r"[^.\[\]]+"}
    pieces = [re.split(r"(\*\*\.|\*)", one.removeprefix("$.")) for one in patterns]
    texts = ["".join(known.get(piece) or re.escape(piece) for piece in one) for one in pieces]
    return re.compile("|".join(texts), re.DOTALL) if texts else None


def differences(one: ServiceAnswer, other: ServiceAnswer, rules: ComparisonRules) -> set[AnswerDifference]:
    """Return where two answers differ; the whole body counts as one place where one of both is no JSON."""
    if one.status != other.status:
        return {AnswerDifference(STATUS, "status")}
    if isinstance(one.content, bytes) or isinstance(other.content, bytes):
        return set() if one.content == other.content else {AnswerDifference(BODY, "body")}
    return set(_differences((), one.content, other.content, rules))


def _differences(place: AnswerPlace, one: Any, other: Any, rules: ComparisonRules) -> Iterator[AnswerDifference]:
    if rules.ignores(place):
        return
    if isinstance(one, dict) and isinstance(other, dict):
        for name in {**one, **other}:
            inner = (*place, name)
            if name in one and name in other:
                yield from _differences(inner, one[name], other[name], rules)
            elif not rules.ignores(inner):
                yield AnswerDifference(inner, "missing" if name in one else "more")
    elif isinstance(one, list) and isinstance(other, list):
        yield from _of_lists(place, one, other, rules)
    elif _is_number(one) and _is_number(other):
        if abs(one - other) > rules.tolerance:
            yield AnswerDifference(place, "value")
    elif type(one) is not type(other):
        yield AnswerDifference(place, "type")
    elif one != other:
        yield AnswerDifference(place, "value")


def _of_lists(
    place: AnswerPlace, one: list[Any], other: list[Any], rules: ComparisonRules
) -> Iterator[AnswerDifference]:
    if len(one) != len(other):
        yield AnswerDifference(place, "length")
    elif rules.is_unordered(place):
        if not _are_the_same_elements(place, one, other, rules):
            yield AnswerDifference(place, "elements")
    else:
        for index, pair in enumerate(zip(one, other, strict=True)):
            yield from _differences((*place, index), *pair, rules)


def _are_the_same_elements(place: AnswerPlace, one: list[Any], other: list[Any], rules: ComparisonRules) -> bool:
    """Return whether each has a partner. Those that are the same to the last digit are paired first."""
    exact: dict[str, list[Any]] = {}
    rest: list[Any] = []
    for element in other:
        exact.setdefault(_text(element), []).append(element)
    for element in one:
        same = exact.get(_text(element))
        if same:
            same.pop()
        else:
            rest.append(element)
    left = [element for same in exact.values() for element in same]
    for element in rest:
        partners = (n for n, found in enumerate(left) if not any(_differences((*place, 0), element, found, rules)))
        partner = next(partners, None)
        if partner is None:
            return False
        del left[partner]
    return True


def _text(element: Any) -> str:
    return json.dumps(element, sort_keys=True, default=lambda number: [str(number)])


def _is_number(value: Any) -> bool:
    return isinstance(value, int | Decimal) and not isinstance(value, bool)
