"""What differs between two answers of the same system, and so says nothing about the other one.

Within one request every such place is left out. What does so again and again is learned for the whole route: a random
flag may be the same twice by chance. Too little is learned for a value that is only written often.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

from pycdc.facade.answer_comparison import (
    AnswerDifference,
    AnswerPlace,
    ComparisonRules,
    ServiceAnswer,
    differences,
    text_of,
)

_LEAST: Final = 3
_SHARE: Final = 0.2


def judged(
    old: ServiceAnswer, new: ServiceAnswer, again: ServiceAnswer, rules: ComparisonRules
) -> set[AnswerDifference]:
    """Return where `new`, asked for between them, differs from both of the old system's answers.

    What these two do not agree on is left out, with all that lies within.
    """
    noise = {one.place for one in differences(old, again, rules)}
    found = differences(old, new, rules) & differences(again, new, rules)
    return {one for one in found if noise.isdisjoint(_around(one.place))}


def _around(place: AnswerPlace) -> Iterable[AnswerPlace]:
    return (place[:length] for length in range(len(place) + 1))


class RouteNoise:
    """Learns from pairs of answers of the old system."""

    def __init__(self) -> None:
        self.pairs = 0
        self.seen: Counter[str] = Counter()

    def learn(self, old: ServiceAnswer, again: ServiceAnswer, rules: ComparisonRules) -> None:
        self.pairs += 1
        self.seen.update({text_of(one.place) for one in differences(old, again, rules)})

    def covers(self, place: AnswerPlace) -> bool:
        return any(self._is_noise(text_of(one)) for one in _around(place))

    def _is_noise(self, text: str) -> bool:
        return self.seen[text] >= max(_LEAST, _SHARE * self.pairs)

    def learned(self) -> dict[str, int]:
        """Return what is noise on this route: texts, and how many pairs differed there."""
        return {text: count for text, count in sorted(self.seen.items()) if self._is_noise(text)}
