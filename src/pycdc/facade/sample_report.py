"""What the sampler found, as one versioned document, which `sample.schema.json` beside this module describes.

It is kept in the façade's folder: the guard reads it before each step.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from prometheus_client import CollectorRegistry, Gauge, write_to_textfile

from pycdc.errors import CheckpointCorrupt
from pycdc.facade.answer_comparison import AnswerDifference, shape_of, text_of
from pycdc.facade.route_noise import RouteNoise
from pycdc.facade.route_weights import replace_file
from pycdc.version import __version__

VERSION: Final = 1
SCHEMA: Final = Path(__file__).with_name("sample.schema.json")
FILE: Final = "sample.json"
_METRICS: Final = "sample.prom"
_EXAMPLES: Final = 10
_FRESH_SECONDS: Final = 15.0
"""After which a report is one of a sampler that does not run any more."""

AnswerDifferences = frozenset[AnswerDifference]


@dataclass(slots=True)
class Example:
    """A request whose answers differ. `values` are by place: the old system's and the new one's."""

    request: str
    at: float
    found: AnswerDifferences
    values: dict[str, list[Any]] | None


@dataclass(slots=True)
class RouteSample:
    """`passed_over` requests came faster than they may be compared, `unanswered` had no answer of one system.

    `different` is what differed to how many requests it was in and when last; `equal` counts those since the last one.
    """

    compared: int = 0
    equal: int = 0
    unanswered: int = 0
    passed_over: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    noise: RouteNoise = field(default_factory=RouteNoise)
    different: dict[AnswerDifferences, tuple[int, float]] = field(default_factory=dict)
    examples: list[Example] = field(default_factory=list)

    def add(self, status: int, example: Example | None) -> None:
        """Count a request that was compared; `example` is there where its answers differ."""
        self.compared += 1
        self.statuses[status] += 1
        if example is None or not self.judged(example.found):
            self.equal += 1
            return
        self.equal = 0
        shape = frozenset(one._replace(place=shape_of(one.place)) for one in example.found)
        self.different[shape] = (self.different.get(shape, (0, 0.0))[0] + 1, example.at)
        self.examples = [one for one in self.examples if self.judged(one.found)]
        if len(self.examples) < _EXAMPLES:
            self.examples.append(example)

    def judged(self, found: AnswerDifferences) -> AnswerDifferences:
        """Return what of it was not learned to be noise, also since."""
        return frozenset(one for one in found if not self.noise.covers(one.place))

    def document(self) -> dict[str, Any]:
        found = [(judged, *seen) for shape, seen in self.different.items() if (judged := self.judged(shape))]
        places: Counter[tuple[str, str]] = Counter()
        for judged, count, _ in found:
            places.update({(text_of(one.place), one.kind): count for one in judged})
        noise = self.noise.learned().items()
        return {
            "compared": self.compared,
            "different": sum(count for _, count, _ in found),
            "unanswered": self.unanswered,
            "passed_over": self.passed_over,
            "equal_since": self.equal,
            "last_difference": max((at for _, _, at in found), default=None),
            "statuses": {str(status): count for status, count in sorted(self.statuses.items())},
            "places": [{"place": place, "kind": kind, "requests": n} for (place, kind), n in sorted(places.items())],
            "noise": [{"place": place, "differed": n, "pairs": self.noise.pairs} for place, n in noise],
            "examples": [self._example(one) for one in self.examples if self.judged(one.found)],
        }

    def _example(self, example: Example) -> dict[str, Any]:
        places = sorted({(text_of(one.place), one.kind) for one in self.judged(example.found)})
        out: dict[str, Any] = {
            "request": example.request,
            "at": example.at,
            "places": [{"place": place, "kind": kind} for place, kind in places],
        }
        if example.values is not None:
            shown = {place for place, _ in places}
            out["values"] = {place: pair for place, pair in example.values.items() if place in shown}
        return out


class SampleReport:
    """What was found since the sampler's start, by route."""

    def __init__(self, routes: list[str]) -> None:
        self.routes = {name: RouteSample() for name in routes}
        self.started = time.time()

    def document(self) -> dict[str, Any]:
        routes = {name: sample.document() for name, sample in self.routes.items()}
        return {
            "version": VERSION,
            "pycdc": __version__,
            "started": self.started,
            "updated": time.time(),
            "equal": not any(one["different"] for one in routes.values()),
            "routes": routes,
        }

    def write(self, folder: Path) -> None:
        """Keep the document, and its counts as text for Prometheus' node exporter."""
        document = self.document()
        replace_file(folder / FILE, document)
        registry = CollectorRegistry()
        answers = Gauge(
            "pycdc_facade_sample_requests", "Reads asked of both systems.", ["route", "outcome"], registry=registry
        )
        for name, route in document["routes"].items():
            for outcome in ("compared", "different", "unanswered", "passed_over"):
                answers.labels(name, outcome).set(route[outcome])
        write_to_textfile(str(folder / _METRICS), registry)


@dataclass(frozen=True, slots=True)
class SampleVerdict:
    """What a report says of a route. `fresh`: the sampler is at work. Times are in Unix seconds."""

    fresh: bool
    equal_since: int
    last_difference: float

    def allows_step(self, least: int) -> bool:
        """Return whether so many answers were equal since the last difference."""
        return self.fresh and self.equal_since >= least


def read_verdicts(folder: Path, routes: Iterable[str]) -> dict[str, SampleVerdict]:
    """Return the verdicts of all routes. Raises CheckpointCorrupt."""
    path = folder / FILE
    try:
        kept = json.loads(path.read_bytes())
        fresh = time.time() - kept["updated"] < _FRESH_SECONDS
        found = {
            name: SampleVerdict(fresh, one["equal_since"], one["last_difference"] or 0.0)
            for name, one in kept["routes"].items()
        }
    except FileNotFoundError:
        found = {}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise CheckpointCorrupt(f"{path} is no report of a sampler", hint="remove it") from None
    return {name: found.get(name, SampleVerdict(fresh=False, equal_since=0, last_difference=0.0)) for name in routes}
