"""YAML as plain values that remember where they stood.

PyYAML's safe loader, with three differences: keys are always text (`null:` names a sink), a key that stands twice is a
problem instead of a silent choice, and errors hold no piece of the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from pycdc.errors import ConfigError

YamlPath = tuple[str | int, ...]
"""The keys and list indices that lead to a value."""

_TEXT_TAG = "tag:yaml.org,2002:str"
_MERGE_TAG = "tag:yaml.org,2002:merge"
_KEY = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_MAX_NODES = 100_000
_NO_TEXT_KEY = "write `key: value`; put values that begin with { or [ in quotes"


@dataclass(frozen=True, slots=True)
class ConfigProblem:
    """One mistake: `fact` reads on after the place, `remedy` is an imperative."""

    place: YamlPath
    fact: str
    remedy: str
    line: int | None = None

    def __str__(self) -> str:
        return f"{shown(self.place)} {self.fact}" if self.place else self.fact


def shown(place: YamlPath) -> str:
    """``source.postgres.tables[2]``. Keys that do not look like one are not shown: they may be a value gone astray."""
    out = ""
    for part in place:
        if isinstance(part, int):
            out += f"[{part}]"
        else:
            out += ("." if out else "") + shown_key(part)
    return out


def shown_key(key: str) -> str:
    return key if _KEY.fullmatch(key) else "(a key)"


_Found = tuple[YamlPath, int, ConfigProblem | None]


@dataclass(slots=True)
class YamlDocument:
    """`data` is what the YAML says, `lines` where each value begins, `problems` what is wrong with it as YAML."""

    data: dict[str, Any]
    lines: dict[YamlPath, int] = field(default_factory=dict)
    problems: list[ConfigProblem] = field(default_factory=list)

    def line(self, place: YamlPath) -> int | None:
        """Return the line of a place, or of what is around it."""
        for length in range(len(place), 0, -1):
            if place[:length] in self.lines:
                return self.lines[place[:length]]
        return None


def compose(text: str, where: str) -> YamlDocument:
    """Parse YAML. Raises ConfigError where there is nothing to go on with: no YAML, or no mapping."""
    try:
        document = _compose(text, where)
    except yaml.YAMLError as error:
        raise _malformed(error, where) from None
    except RecursionError:
        raise ConfigError(f"{where} is nested too deeply", hint="remove levels of nesting") from None
    except ValueError:
        # Dates such as 2024-02-31 match YAML's pattern, but are none.
        raise ConfigError(
            f"{where} holds a date or number that does not exist", hint="put the value in quotes"
        ) from None
    return document


def _compose(text: str, where: str) -> YamlDocument:
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            raise ConfigError(f"{where} is empty", hint="start from what `pycdc init --dsn …` prints")
        if not isinstance(node, yaml.MappingNode):
            raise ConfigError(
                f"{where} holds {_kind(node)} where `key: value` is expected",
                hint="begin with `name: …`, `source:` and `sink:`",
            )
        document = YamlDocument({})
        for place, line, problem in _walk(node, (), set(), [0]):
            document.lines.setdefault(place, line)
            if problem is not None:
                document.problems.append(problem)
        document.data = loader.construct_document(node)
        return document
    finally:
        loader.dispose()


def _kind(node: yaml.Node) -> str:
    return "a list" if isinstance(node, yaml.SequenceNode) else "one value"


def _walk(node: yaml.Node, place: YamlPath, inside: set[int], count: list[int]) -> Iterator[_Found]:
    """Each value's place and line, and what is wrong there. Makes keys text on the way."""
    count[0] += 1
    if count[0] > _MAX_NODES:
        raise ConfigError("the configuration is too large: more than 100,000 values", hint="use fewer aliases")
    if id(node) in inside:
        raise ConfigError("the configuration has an alias that contains itself", hint="write the value out")
    inside.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield (*place, index), item.start_mark.line + 1, None
            yield from _walk(item, (*place, index), inside, count)
    elif isinstance(node, yaml.MappingNode):
        yield from _walk_mapping(node, place, inside, count)
    inside.discard(id(node))


def _walk_mapping(node: yaml.MappingNode, place: YamlPath, inside: set[int], count: list[int]) -> Iterator[_Found]:
    seen: dict[str, int] = {}
    for key, value in list(node.value):
        line = key.start_mark.line + 1
        if key.tag == _MERGE_TAG:
            yield from _walk(value, place, inside, count)
        elif isinstance(key, yaml.ScalarNode):
            key.tag = _TEXT_TAG
            here = (*place, key.value)
            yield here, line, _twice(here, seen, line)
            seen.setdefault(key.value, line)
            yield from _walk(value, here, inside, count)
        else:
            node.value.remove((key, value))
            yield place, line, ConfigProblem(place, "has a key that is no text", _NO_TEXT_KEY, line)


def _twice(place: YamlPath, seen: Mapping[str, int], line: int) -> ConfigProblem | None:
    first = seen.get(str(place[-1]))
    if first is None:
        return None
    return ConfigProblem(place, f"stands twice, first in line {first}", "remove one of the two", line)


def _malformed(error: yaml.YAMLError, where: str) -> ConfigError:
    mark = getattr(error, "problem_mark", None)
    at = f", line {mark.line + 1}, column {mark.column + 1}" if mark is not None else ""
    problem = str(getattr(error, "problem", None) or "characters that YAML does not allow")
    if "undefined alias" in problem:
        problem, hint = "an alias without an anchor", "put values that begin with * in quotes"
    elif "constructor for the tag" in problem:
        problem, hint = "a tag that is not known", "put values that begin with ! in quotes"
    elif "single document" in str(getattr(error, "context", "")):
        problem, hint = "a second document", "remove what follows `---`: a pipeline has a file of its own"
    elif r"'\t'" in problem:
        problem, hint = "a tab", "indent with spaces"
    else:
        hint = "check indentation, and put values with special characters (: # { [ @ % &) in quotes"
    # What stands in quotes may be text of the file; a single character and the names of tokens (<…>) are harmless.
    problem = re.sub(r"'(?!<[a-z ]+>')[^']{2,}'", "…", problem)
    return ConfigError(f"{where} is not YAML{at}: {problem}", hint=hint)
