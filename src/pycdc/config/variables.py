"""`${NAME}`, `${NAME:-default}` and `${file:/path}` inside values; `$${` stands for `${`. Keys are left alone."""

from __future__ import annotations

import os
import re
from typing import Any

from pycdc.config.yaml_document import ConfigProblem, YamlDocument, YamlPath

_REFERENCE = re.compile(r"\$\$\{|\$\{([^}]*)(\}?)")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_FORMS = "write ${NAME}, ${NAME:-default} or ${file:/path}; `$${` stands for `${`"
_MAX_FILE = 1024 * 1024


class _Unknown(Exception):
    def __init__(self, fact: str, remedy: str) -> None:
        super().__init__(fact)
        self.fact = fact
        self.remedy = remedy


def expand(document: YamlDocument) -> tuple[Any, list[ConfigProblem]]:
    """Return the document's data with variables filled in, and the problems with those that could not be."""
    problems: list[ConfigProblem] = []

    def filled(value: Any, place: YamlPath) -> Any:
        if isinstance(value, dict):
            return {key: filled(item, (*place, key)) for key, item in value.items()}
        if isinstance(value, list):
            return [filled(item, (*place, index)) for index, item in enumerate(value)]
        if not isinstance(value, str) or "${" not in value:
            return value
        try:
            return _REFERENCE.sub(_replacement, value)
        except _Unknown as unknown:
            problems.append(ConfigProblem(place, unknown.fact, unknown.remedy, document.line(place)))
            return value

    return filled(document.data, ()), problems


def _replacement(match: re.Match[str]) -> str:
    if match[1] is None:
        return "${"
    if not match[2]:
        raise _Unknown("has a `${` that is not closed", _FORMS)
    if match[1].startswith("file:"):
        return _file(match[1].removeprefix("file:"))
    name, default_given, default = match[1].partition(":-")
    if not _NAME.fullmatch(name):
        raise _Unknown("has a `${…}` that is not understood", _FORMS)
    value = os.environ.get(name)
    if default_given:
        return value or default
    if value is None:
        raise _Unknown(
            f"needs the environment variable {name}, which is not set",
            f"export {name}=…, or write ${{{name}:-default}}",
        )
    return value


def _file(path: str) -> str:
    """Return a file's text without the newlines at its end, as secrets are mounted."""
    try:
        with open(path, "rb") as file:
            data = file.read(_MAX_FILE + 1)
        if len(data) > _MAX_FILE:
            raise _Unknown(f"refers to {path}, which is larger than 1 MB", "name a file that holds just the value")
        return data.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        raise _Unknown(f"refers to {path}, which is not UTF-8", "store the value as text") from None
    except (OSError, ValueError) as error:
        reason = (getattr(error, "strerror", None) or type(error).__name__).lower()
        raise _Unknown(
            f"refers to {path}, which cannot be read: {reason}", "create the file, or correct path and permissions"
        ) from None
