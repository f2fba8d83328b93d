"""What counts as a difference between two answers, and what is noise."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycdc.facade.answer_comparison import AnswerPlace, ComparisonRules, ServiceAnswer, differences, text_of
from pycdc.facade.route_noise import RouteNoise, judged

NAMES = st.sampled_from(["id", "price", "items", "at", "a b"])
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
CONTENT = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4), max_leaves=12
)


def answer(content: Any, status: int = 200) -> ServiceAnswer:
    return ServiceAnswer.of(status, json.dumps(content).encode())


def found(one: Any, other: Any, **rules: Any) -> set[tuple[str, str]]:
    made = differences(answer(one), answer(other), ComparisonRules(**rules))
    return {(text_of(place), kind) for place, kind in made}


def places(content: Any, place: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """All places of scalars."""
    if isinstance(content, dict):
        return [one for name, inner in content.items() for one in places(inner, (*place, name))]
    if isinstance(content, list):
        return [one for index, inner in enumerate(content) for one in places(inner, (*place, index))]
    return [place]


def changed(content: Any, place: tuple[str | int, ...]) -> Any:
    """A copy with another value at one place."""
    if not place:
        return "another value" if content != "another value" else "yet another value"
    copy = content.copy()
    copy[place[0]] = changed(content[place[0]], place[1:])
    return copy


def shuffled(content: Any, chance: random.Random) -> Any:
    if isinstance(content, dict):
        return {name: shuffled(content[name], chance) for name in chance.sample([*content], len(content))}
    if isinstance(content, list):
        return [shuffled(one, chance) for one in chance.sample(content, len(content))]
    return content


class AnyOrder(ComparisonRules):
    def is_unordered(self, place: AnswerPlace) -> bool:
        return True


@given(CONTENT)
def test_an_answer_is_equal_to_itself_however_it_is_written(content: Any) -> None:
    spaced = ServiceAnswer.of(200, json.dumps(content, indent=3, sort_keys=True, ensure_ascii=False).encode())
    assert differences(answer(content), spaced, ComparisonRules()) == set()


@given(CONTENT, st.data())
def test_one_changed_value_is_found_at_its_place_and_nowhere_else(content: Any, data: st.DataObject) -> None:
    there = places(content)
    if not there:
        return
    place = data.draw(st.sampled_from(there))
    other = changed(content, place)
    for pair in ((content, other), (other, content)):
        made = differences(answer(pair[0]), answer(pair[1]), ComparisonRules())
        assert {one.place for one in made} == {place}
        assert found(*pair, ignored=[text_of(place)]) == set()
    assert judged(answer(content), answer(other), answer(content), ComparisonRules()) == made
    assert judged(answer(content), answer(other), answer(other), ComparisonRules()) == set(), "it was written meanwhile"


@given(CONTENT, st.integers())
def test_the_order_of_lists_is_passed_over_where_it_may_differ(content: Any, seed: int) -> None:
    other = shuffled(content, random.Random(seed))
    assert differences(answer(content), answer(other), AnyOrder()) == set()


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ({"a": 1}, {"a": 1.0}, set()),
        ({"a": 3000.0}, {"a": 3000.00001}, {("a", "value")}),
        ({"a": 12345678901234567890}, {"a": 12345678901234567891}, {("a", "value")}),
        ({"a": 1}, {"a": True}, {("a", "type")}),
        ({"a": 1}, {"a": "1"}, {("a", "type")}),
        ({"a": None}, {}, {("a", "missing")}),
        ({}, {"a": None}, {("a", "more")}),
        ([1, 2], [1], {("$", "length")}),
        ({"a": [{"b": 1}, {"b": 2}]}, {"a": [{"b": 2}, {"b": 1}]}, {("a[].b", "value")}),
        ({"a": {"b": 1}}, {"a": [1]}, {("a", "type")}),
    ],
)
def test_differences_have_places_and_kinds(one: Any, other: Any, expected: set[tuple[str, str]]) -> None:
    assert found(one, other) == expected


def test_what_is_no_json_is_compared_whole_and_a_status_first() -> None:
    rules = ComparisonRules()
    page, other = ServiceAnswer.of(200, b"<p>1</p>"), ServiceAnswer.of(200, b"<p>2</p>")
    assert differences(page, page, rules) == set()
    assert [kind for _, kind in differences(page, other, rules)] == ["body"]
    assert [kind for _, kind in differences(page, ServiceAnswer.of(404, b"<p>1</p>"), rules)] == ["status"]


@pytest.mark.parametrize(
    ("pattern", "place", "matches"),
    [
        ("at", {"at": 1}, True),
        ("at", {"x": {"at": 1}}, False),
        ("$.at", {"at": 1}, True),
        ("**.at", {"x": [{"at": 1}]}, True),
        ("**.at", {"x": [{"att": 1}]}, False),
        ("items[].*.at", {"items": [{"x": {"at": 1}}]}, True),
        ("items", {"items": [{"x": {"at": 1}}]}, True),
    ],
)
def test_a_pattern_ignores_its_places_with_what_lies_within(pattern: str, place: Any, matches: bool) -> None:
    other = json.loads(json.dumps(place).replace("1", "2"))
    assert (found(place, other, ignored=[pattern]) == set()) is matches


def test_numbers_may_differ_by_the_tolerance_also_in_lists_without_order() -> None:
    rules: dict[str, Any] = {"tolerance": 0.01, "unordered": ["a"]}
    assert found({"a": [1.0, 2.0]}, {"a": [2.01, 1]}, **rules) == set()
    assert found({"a": [1.0, 2.0]}, {"a": [2.02, 1]}, **rules) == {("a", "elements")}
    assert found({"a": [True, 1]}, {"a": [1, 1]}, **rules) == {("a", "elements")}


def test_noise_is_learned_from_what_differs_again_and_again_and_not_from_single_writes() -> None:
    noise, rules = RouteNoise(), ComparisonRules()
    for number in range(100):
        old = answer({"flag": number % 3 == 0, "n": 1, "list": [{"at": number}]})
        again = answer({"flag": False, "n": 1 + (number == 50), "list": [{"at": number + 1}]})
        noise.learn(old, again, rules)
    assert noise.learned() == {"flag": 34, "list[].at": 100}
    assert noise.covers(("flag",))
    assert noise.covers(("list", 7, "at", "deeper"))
    assert not noise.covers(("n",))
    assert not noise.covers(("list",))
