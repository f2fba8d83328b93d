"""What every section of a configuration is built from."""

from __future__ import annotations

import re
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, SecretStr, model_validator


class InvalidValue(ValueError):
    """What a rule of these models objects to, and what to write instead. Neither holds the value."""

    def __init__(self, fact: str, remedy: str) -> None:
        super().__init__(f"{fact}: {remedy}")
        self.fact = fact
        self.remedy = remedy


class Section(BaseModel):
    """What all sections share: unknown keys are errors, values do not change after loading, inputs stay unprinted."""

    model_config = ConfigDict(defer_build=True, extra="forbid", frozen=True, hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _headings(cls, data: Any) -> Any:
        """Take a heading with nothing under it (all its lines commented out) for a section of defaults."""
        if not isinstance(data, dict):
            return data
        empty: dict[str, Any] = {
            name: {}
            for name, info in cls.model_fields.items()
            if name in data and data[name] is None and isinstance(info.annotation, type)
            if issubclass(info.annotation, Section)
        }
        return {**data, **empty}


def require_one_of(section: Section, *names: str) -> None:
    """Exactly one of these keys may be set."""
    if sum(getattr(section, name) is not None for name in names) != 1:
        raise InvalidValue(f"needs exactly one of {', '.join(names)}", f"write one of {', '.join(names)} under it")


def given(data: Any) -> Any:
    """`console:` with nothing under it chooses the console."""
    return {key: {} if value is None else value for key, value in data.items()} if isinstance(data, dict) else data


POSTGRES_URI = re.compile(r"postgres(?:ql)?://(?:[^@/]*@)?([^?]*)", re.DOTALL)


def percent_encoded(dsn: SecretStr | None) -> SecretStr | None:
    """Refuse a password with `@` or `/` in a URI: it ends early, and libpq takes its rest for the host or the port."""
    found = None if dsn is None else POSTGRES_URI.match(dsn.get_secret_value())
    if found is not None and "@" in found[1]:
        raise InvalidValue(
            "is a URI with an `@` too many",
            "%-encode special characters of user and password: `@` as %40, `/` as %2F, `:` as %3A",
        )
    return dsn


FUNCTION_PATH: Final = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def function_path(path: str) -> str:
    if not FUNCTION_PATH.fullmatch(path):
        raise InvalidValue("is no path to a function", "write it as `package.module:name`")
    return path


def webhook_url(value: SecretStr | None) -> SecretStr | None:
    if value is not None and not value.get_secret_value().startswith(("http://", "https://")):
        raise InvalidValue("is no URL of a webhook", "write it as https://…")
    return value
