"""The only exec: source text to a function that tracebacks and profilers can show."""

from __future__ import annotations

import linecache
import re
from collections.abc import Callable, Mapping
from itertools import count
from typing import Any
from weakref import WeakValueDictionary, finalize

_serial = count(1)
_shared: WeakValueDictionary[tuple[Any, ...], Callable[..., Any]] = WeakValueDictionary()
_NAME = re.compile(r"\b[A-Za-z_]\w*")


def compile_function(name: str, source: str, namespace: Mapping[str, object]) -> Callable[..., Any]:
    """Compile `source` with `namespace` as its globals, and return the function called `name` that it defines.

    The source is registered in linecache, for as long as the function lives, so that a traceback shows the generated
    lines.
    """
    filename = f"<pycdc {name} {next(_serial)}>"
    scope: dict[str, Any] = dict(namespace)
    exec(compile(source, filename, "exec"), scope)
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    function: Callable[..., Any] = scope[name]
    finalize(function, linecache.cache.pop, filename, None).atexit = False
    return function


def shared_function(name: str, source: Callable[[str], str], namespace: Mapping[str, object]) -> Callable[..., Any]:
    """Like `compile_function`, but one function for all who would get the same, named after the first of them.

    Compiling costs a millisecond, and a thousand tables of one shape, taking turns, would not fit into the processor's
    cache. Values are the same where they are equal bytes or one object.
    """
    anonymous = source("loop")
    used = {name: namespace[name] for name in _NAME.findall(anonymous) if name in namespace}
    values = [(name, value if isinstance(value, bytes) else id(value)) for name, value in used.items()]
    key = (anonymous, *values)
    function = _shared.get(key)
    if function is None:
        # It holds the values, so that none of their ids is another's while it is in the map.
        function = _shared[key] = compile_function(name, source(name), used)
    return function


def identifier(text: str) -> str:
    """`text` as part of a function's name."""
    return re.sub(r"\W", "_", text, flags=re.ASCII)
