"""The only exec: source text to a function that tracebacks and profilers can show."""

from __future__ import annotations

import linecache
import re
from collections.abc import Callable, Mapping
from itertools import count
from typing import Any

_serial = count(1)


def compile_function(name: str, source: str, namespace: Mapping[str, object]) -> Callable[..., Any]:
    """The function called `name` that `source` defines, with `namespace` as its globals.

    The source is registered in linecache, so that a traceback shows the generated lines.
    """
    filename = f"<pycdc {name} {next(_serial)}>"
    scope: dict[str, Any] = dict(namespace)
    exec(compile(source, filename, "exec"), scope)
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    function: Callable[..., Any] = scope[name]
    return function


def identifier(text: str) -> str:
    """`text` as part of a function's name."""
    return re.sub(r"\W", "_", text, flags=re.ASCII)
