"""What config.py says of each option, read from its source where it is shown: at a start it would cost 70 ms."""

from __future__ import annotations

import ast
import inspect
from functools import cache
from types import ModuleType

from pydantic import BaseModel

from pycdc.config import pipeline as config


def explanation(section: type[BaseModel], option: str) -> str:
    """The text under the option's line in its class, or in the class that it is inherited from; empty without one."""
    texts = _texts(config)
    return next((texts[one.__name__, option] for one in section.__mro__ if (one.__name__, option) in texts), "")


@cache
def _texts(module: ModuleType) -> dict[tuple[str, str], str]:
    """By class and option."""
    found = {}
    for section in ast.parse(inspect.getsource(module)).body:
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
