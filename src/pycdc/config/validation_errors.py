"""pydantic's errors in our words: the place, what is allowed there, and what to write instead. Never the value."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Union

from pydantic import BaseModel, SecretStr, ValidationError

from pycdc.config.pipeline import ApplyPipeline, CapturePipeline
from pycdc.config.section import InvalidValue
from pycdc.config.values import PRESETS
from pycdc.config.yaml_document import ConfigProblem, YamlPath, shown_key

Line = Callable[[YamlPath], int | None]

_DIRECTIONS: Final[tuple[type[BaseModel], ...]] = (CapturePipeline, ApplyPipeline)


def explain(error: ValidationError, line: Line = lambda place: None, *, root: type[BaseModel]) -> list[ConfigProblem]:
    """Return one problem for each place, with all that is wrong of a value that may have several types.

    `root` is what was validated.
    """
    found = error.errors(include_url=False)
    chosen = {one["loc"][0] for one in found if one["type"] == "extra_forbidden" and one["loc"][:-1] in _CHOICES}
    out: dict[tuple[YamlPath, bool], ConfigProblem] = {}
    for one in found:
        if one["type"] == "missing" and one["loc"][:-1] in _CHOICES and one["loc"][0] in chosen:
            continue  # what is there in its place is the mistake
        place, kind = resolve(one["loc"], root)
        unknown = one["type"] == "extra_forbidden"
        if unknown:
            fact, remedy = _unknown(place, root)
        else:
            fact, remedy = _explained(one["type"], one.get("ctx") or {}, one["input"], place, kind)
        out.setdefault((place, unknown), ConfigProblem(place, fact, remedy, line(place)))
    return list(out.values())


_CHOICES: Final = (("source",), ("sink",))
"""Sections that hold one of several."""


def resolve(loc: tuple[int | str, ...], root: type[BaseModel]) -> tuple[YamlPath, Any]:
    """Return pydantic's location without its marks for members of unions, and the annotation of what is there."""
    place: list[str | int] = []
    kind: Any = root
    for part in loc:
        inner = _inside(kind, part)
        if inner is None:
            # Either an option that does not exist, or a mark.
            if model(kind) is not None and isinstance(part, str):
                return (*place, part), None
            break
        place.append(part)
        kind = inner
    return tuple(place), kind


def _inside(kind: Any, part: str | int) -> Any:
    kind = plain(kind)
    section = model(kind)
    if section is not None:
        found = section.model_fields.get(str(part))
        return None if found is None else found.annotation
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is list and isinstance(part, int):
        return arguments[0]
    if origin is dict and isinstance(part, str):
        return arguments[1]
    return None


def plain(kind: Any) -> Any:
    """Return an annotation without Annotated and without None."""
    while typing.get_origin(kind) is typing.Annotated:
        kind = typing.get_args(kind)[0]
    if typing.get_origin(kind) in (Union, types.UnionType):
        members = [member for member in typing.get_args(kind) if member is not type(None)]
        if len(members) == 1:
            return plain(members[0])
    return kind


def model(kind: Any) -> type[BaseModel] | None:
    kind = plain(kind)
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _explained(error: str, ctx: dict[str, Any], value: Any, place: YamlPath, kind: Any) -> tuple[str, str]:
    if error == "missing":
        return "is missing", f"add `{place[-1]}: {_example(kind)}`" + _under(place[:-1])
    if error in ("value_error", "assertion_error"):
        raised = ctx.get("error")
        if isinstance(raised, InvalidValue):
            return raised.fact, raised.remedy
        return "is not accepted", f"see {_documentation(place)}"
    if error == "literal_error":
        return _not_among(value, kind)
    if error == "string_pattern_mismatch":
        return (
            "has characters that are not allowed, or is too long",
            "use letters, digits, `_`, `-` and `.`, 63 at most, and begin with a letter, a digit or `_`",
        )
    if error in _BOUNDS:
        fact, remedy, key = _BOUNDS[error]
        bound = f"{ctx[key]:.15g}"
        return fact.format(bound), remedy.format(bound)
    return _wrong_type(value, kind, place)


_BOUNDS = {
    "greater_than": ("must be greater than {}", "write a number greater than {}", "gt"),
    "greater_than_equal": ("must be at least {}", "write {} or more", "ge"),
    "less_than": ("must be less than {}", "write a number below {}", "lt"),
    "less_than_equal": ("must be at most {}", "write {} or less", "le"),
    "too_short": ("needs at least {} item", "add an item, or remove the key to use its default", "min_length"),
    "string_too_short": ("needs at least {} character", "write a value", "min_length"),
    "string_too_long": ("is longer than {} characters", "shorten it to {} characters", "max_length"),
}


def _wrong_type(value: Any, kind: Any, place: YamlPath) -> tuple[str, str]:
    expected, remedy = _expectation(plain(kind))
    if value is None:
        return f"is empty, and must be {expected}", remedy
    if place == ("compatibility",):
        words = ", ".join(f"`{word}`" for word in PRESETS)
        return f"must be one of {words} or a section", "write one of these words, or keys under it"
    if place[1:] == ("kafka", "registry"):
        return "must be a URL or a section", "write `registry: http://host:8081`, or keys under it such as `url:`"
    if expected == _TEXT[0] and isinstance(value, bool | int | float):
        return f"is read as {_reading(value)}, and must be text", "put the value in quotes"
    return f"must be {expected}", remedy


def _reading(value: bool | int | float) -> str:
    return "true or false" if isinstance(value, bool) else "a number"


_TEXT = ("text", "write one value; put it in quotes if it has special characters")


def _expectation(kind: Any) -> tuple[str, str]:
    section = model(kind)
    if section is not None:
        return "a section", f"write keys under it, indented: {_listed(section.model_fields)}"
    origin = typing.get_origin(kind)
    if origin is list:
        return "a list", "write `[a, b]`, or one line with `- ` for each item"
    if origin is dict:
        return "a section of keys and values", "write `key: value` under it, indented"
    if origin in (Union, types.UnionType):
        return "text, a number, true or false", "write one value"
    if kind is bool:
        return "true or false", "write true or false, without quotes"
    if kind is int:
        return "a whole number", "write digits, without a unit"
    if kind is float:
        return "a number", "write a number, without a unit"
    if kind in (str, SecretStr):
        return _TEXT
    return "something else", "see docs/configuration.md"


def _not_among(value: Any, kind: Any) -> tuple[str, str]:
    allowed = [str(word) for word in typing.get_args(plain(kind))]
    close = difflib.get_close_matches(value.lower(), allowed, 1) if isinstance(value, str) else []
    fact = f"must be {_listed(allowed, 'or')}"
    return fact, f"did you mean `{close[0]}`?" if close else f"write {_listed(allowed, 'or')}"


def _unknown(place: YamlPath, root: type[BaseModel]) -> tuple[str, str]:
    """Return what is wrong with a key that the section does not have, and the other direction's may have."""
    if not any(resolve(place, each)[1] is not None for each in _siblings(root)):
        return "is not an option", _did_you_mean(place, root)
    applies = root is ApplyPipeline
    fact = f"has no meaning where the source is {'Kafka' if applies else 'Postgres'}"
    if place[:-1] == ("sink",):
        return fact, "read from Postgres into kafka, console, null or custom; or from Kafka into postgres"
    if place[0] == "transforms":
        return fact, f"remove it, and choose by `{'topics' if applies else 'tables'}`"
    if applies:
        return fact, "remove it: offsets are stored with the rows, and columns are chosen by sink.postgres.routes"
    return fact, "remove it"


def _siblings(root: type[BaseModel]) -> Sequence[type[BaseModel]]:
    """Return the models that a document of this kind may have: those of both directions, or itself."""
    return _DIRECTIONS if root in _DIRECTIONS else (root,)


def _did_you_mean(place: YamlPath, root: type[BaseModel]) -> str:
    roots = _siblings(root)
    sections = [model(resolve(place[:-1], each)[1]) for each in roots]
    key = str(place[-1])
    names = list(dict.fromkeys(name for section in sections if section is not None for name in section.model_fields))
    close = difflib.get_close_matches(key.lower().replace("-", "_"), names, 1, 0.6)
    if close:
        return f"did you mean `{close[0]}`?"
    order = list(roots[0].model_fields)
    everywhere = dict.fromkeys(found for each in roots for found in _places(each, ()))
    elsewhere = sorted((found for found in everywhere if found[-1] == key), key=lambda found: order.index(found[0]))
    if elsewhere:
        above = (".".join(one[:-1]) or "the top" for one in elsewhere)
        return f"move it: `{shown_key(key)}` belongs under {' or '.join(above)}"
    return f"remove it, or use one of {_listed(names)}"


def _places(section: type[BaseModel], before: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    for name, info in section.model_fields.items():
        yield (*before, name)
        inner = model(info.annotation)
        if inner is not None:
            yield from _places(inner, (*before, name))


def _example(kind: Any) -> str:
    return "[…]" if typing.get_origin(plain(kind)) is list else "…"


def _under(place: YamlPath) -> str:
    return f" under {'.'.join(map(str, place))}" if place else " at the top"


def _documentation(place: YamlPath) -> str:
    return f"{'.'.join(map(str, place)) or 'the example'} in docs/configuration.md"


def _listed(words: typing.Iterable[str], conjunction: str = "and") -> str:
    *first, last = (f"`{word}`" for word in words)
    return f"{', '.join(first)} {conjunction} {last}" if first else last
