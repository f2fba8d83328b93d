"""What the configuration says of each option, read from its source: to keep it at run time costs a start 70 ms."""

from __future__ import annotations

import ast
import inspect
import sys
from functools import cache

from pydantic import BaseModel


def explanation(section: type[BaseModel], option: str) -> str:
    """Return the text under the option's line in its class, or in the one that it is inherited from; empty without."""
    sections = (one for one in section.__mro__ if one.__module__.startswith("pycdc.config."))
    return next((text for one in sections if (text := _texts(one.__module__).get((one.__name__, option)))), "")


@cache
def _texts(module: str) -> dict[tuple[str, str], str]:
    """Return a module's texts by class and option."""
    found = {}
    for section in ast.parse(inspect.getsource(sys.modules[module])).body:
        if not isinstance(section, ast.ClassDef):
            continue
        for line, below in zip(section.body, section.body[1:], strict=False):
            if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name) and (text := _text(below)):
                found[section.name, line.target.id] = text
    return found


def _text(statement: ast.stmt) -> str:
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
        return inspect.cleandoc(str(statement.value.value))
    return ""
