"""Users' functions: found and looked at before anything starts, called so that a failure names them and no value."""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from collections.abc import Callable
from pathlib import Path
from traceback import extract_tb
from typing import Any, Final

from pycdc.errors import ConfigError, PycdcError
from pycdc.model.change import Op
from pycdc.transforms.change import DecodedChange, Returned


def find(path: str, where: str) -> Callable[[DecodedChange], Any]:
    """Import the function at `path` (``module:name``), which the option `where` names. Raises ConfigError."""
    module, _, name = path.partition(":")
    importlib.invalidate_caches()
    try:
        found = getattr(importlib.import_module(module), name)
    except Exception as error:
        raise _missing(path, where, error) from error
    return usable(found, path, where)


def usable(found: object, path: str, where: str) -> Callable[[DecodedChange], Any]:
    """Return `found`, which is called `path`, as a function of one change. Raises ConfigError where it is none."""
    if not callable(found):
        raise ConfigError(f"{where}: {path} cannot be called", hint="name a function that takes one change")
    if inspect.iscoroutinefunction(found) or inspect.isasyncgenfunction(found):
        raise ConfigError(f"{where}: {path} is asynchronous", hint="write `def` in place of `async def`")
    if not _takes_one(found):
        raise ConfigError(
            f"{where}: {path} does not take one argument",
            hint=f"write `def {path.partition(':')[2]}(change)`, with nothing else that it needs",
        )
    function: Callable[[DecodedChange], Any] = found
    return function


def path_of(function: Callable[..., Any]) -> str:
    """Return a function's name in errors and logs: ``module:name``, whatever it is."""
    name = getattr(function, "__name__", type(function).__name__)
    return f"{_dotted(getattr(function, '__module__', None) or '')}:{_dotted(name)}"


def _dotted(name: str) -> str:
    name = re.sub(r"[^\w.]", "", name)
    return name if name[:1].isalpha() or name[:1] == "_" else f"_{name}"


def _missing(path: str, where: str, error: Exception) -> ConfigError:
    module, _, name = path.partition(":")
    if isinstance(error, ModuleNotFoundError) and (error.name or "") in (module, module.partition(".")[0]):
        return ConfigError(
            f"{where}: there is no module {module!r}",
            hint="put it where Python finds it (PYTHONPATH); `pycdc` looks beside the configuration file too",
        )
    if isinstance(error, AttributeError) and module in sys.modules:
        return ConfigError(f"{where}: module {module} has no {name!r}", hint="correct the name behind the colon")
    return ConfigError(
        f"{where}: importing {module} failed ({type(error).__name__})", hint=f"`python -c 'import {module}'` shows why"
    )


def _takes_one(function: Callable[..., Any]) -> bool:
    try:
        inspect.signature(function).bind(None)
    except TypeError:
        return False
    except ValueError:
        return True  # built-in functions that do not say what they take
    return True


def place(error: BaseException) -> str:
    """Return the kind of an exception and where the user's code met it, not its message, which may quote a row."""
    frames = [frame for frame in extract_tb(error.__traceback__) if frame.filename != __file__]
    user_frames = [frame for frame in frames if frame.filename == frames[0].filename] or frames
    return type(error).__name__ + (
        f" in {Path(user_frames[-1].filename).name}, line {user_frames[-1].lineno}" if user_frames else ""
    )


_OPS: Final = (Op.CREATE, Op.UPDATE, Op.DELETE, Op.READ)


class Failure(Exception):
    """What went wrong with a function's call, in words without values.

    `function` is its path, `kind` names the error's class.
    """

    def __init__(self, function: str, kind: str, why: str) -> None:
        super().__init__(why)
        self.function = function
        self.kind = kind
        self.why = why


def call(path: str, function: Callable[[DecodedChange], Returned], change: DecodedChange) -> list[DecodedChange]:
    """Return what the function makes of `change`. Raises Failure; an error that asks to be retried passes through."""
    try:
        returned = function(change)
        results = _listed(returned)
    except PycdcError as error:
        if error.retry:
            raise
        raise Failure(path, type(error).__name__, f"failed ({place(error)})") from None
    except Exception as error:
        raise Failure(path, type(error).__name__, f"failed ({place(error)})") from None
    for result in results:
        wrong = _wrong(result)
        if wrong:
            raise Failure(path, "TypeError", wrong)
        if type(result.op) is not Op:
            result.op = Op(result.op)  # a plain "d" will do
    return results


def _wrong(result: object) -> str:
    """Why a result cannot be used, "" where it can as far as its kinds tell."""
    if not isinstance(result, DecodedChange):
        return f"returned {type(result).__name__}, where a DecodedChange, None or a list of changes was expected"
    if result.op not in _OPS:
        return "returned an op that is not Op.CREATE, UPDATE, DELETE or READ"
    if not all(row is None or isinstance(row, dict) for row in (result.before, result.after)):
        return "returned a row that is no dict"
    if not isinstance(result.topic, str | None):
        return "returned a topic that is no str"
    return ""


def headers_of(path: str, change: DecodedChange) -> tuple[tuple[str, bytes | None], ...]:
    """Return headers as records take them. Raises Failure."""
    headers = []
    try:
        for name, value in change.headers:
            data = value.encode() if isinstance(value, str) else value
            if not (isinstance(name, str) and isinstance(data, bytes | None)):
                raise TypeError
            headers.append((name, data))
    except (TypeError, ValueError):
        why = "returned headers that are not pairs of str and str, bytes or None"
        raise Failure(path, "TypeError", why) from None
    return tuple(headers)


def _listed(returned: Any) -> list[Any]:
    """Return a list; generators run here."""
    if type(returned) is DecodedChange:
        return [returned]
    if returned is None:
        return []
    if isinstance(returned, DecodedChange | str | bytes | dict) or not hasattr(returned, "__iter__"):
        return [returned]
    return list(returned)
