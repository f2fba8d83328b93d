"""Topic names and Avro names, as Debezium makes them.

Source: debezium.md 1.3 (topics: characters outside ``[A-Za-z0-9._-]`` become ``_``, 249 at most) and 2.2 rule 12
(``schema.name.adjustment.mode=avro``); golden: topic ``shop.Odd_Schema.Ta-ble.1``, record ``shop.Odd_Schema.Ta_ble.1``.
Java counts UTF-16 units: a character beyond the basic plane becomes two underscores.
"""

from __future__ import annotations

import re
from typing import Final

from pycdc.config.envelope import Adjustment
from pycdc.errors import ConfigError

_NOT_TOPIC = re.compile(r"[^A-Za-z0-9._-]")
_NOT_NAME = re.compile(r"[^A-Za-z0-9_]")
_NOT_FULL_NAME = re.compile(r"[^A-Za-z0-9_.]")
_LONGEST_TOPIC = 249


DEFAULT_TOPIC: Final = "{name}.{schema}.{table}"


def record_prefix(prefix: str, table: object) -> str:
    """Return what names of a table's records begin with: its topic, whatever rules[].topic makes of that."""
    return _NOT_TOPIC.sub(_underscores, f"{prefix}.{table}")


def routed(pattern: str, *, name: str, schema: str, table: str) -> str:
    """Return the topic that `rules[].topic` asks for. Raises ConfigError for an unknown placeholder."""
    try:
        text = pattern.format(name=name, schema=schema, table=table)
    except (LookupError, ValueError, AttributeError, TypeError):
        raise ConfigError(
            f"topic {pattern!r} of table {schema}.{table} has a placeholder that cannot be filled in",
            hint="use {name}, {schema} and {table} under rules[].topic, and no other braces",
        ) from None
    return topic_name(text)


def topic_name(text: str) -> str:
    """Replace every character that Kafka refuses. Raises ConfigError where no legal name comes of it."""
    topic = _NOT_TOPIC.sub(_underscores, text)
    if topic in ("", ".", ".."):
        raise ConfigError(f"{topic!r} is no topic name", hint="give the table another topic with rules[].topic")
    if len(topic) > _LONGEST_TOPIC:
        raise ConfigError(
            f"topic name {topic[:40]}… has {len(topic)} characters, Kafka takes {_LONGEST_TOPIC}",
            hint="route the table to a shorter topic with rules[].topic",
        )
    return topic


def field_name(text: str, *, adjust: Adjustment) -> str:
    """Return a column's name as a field of an Avro record."""
    if not adjust:
        return text
    return _led(_NOT_NAME.sub(_underscores, text))


def _underscores(match: re.Match[str]) -> str:
    return "_" if ord(match[0]) < 0x10000 else "__"


def record_name(text: str, *, adjust: Adjustment) -> str:
    """Return a full record name. As in Debezium only its first character must not be a digit; strictly, no part's."""
    if not adjust:
        return text
    name = _NOT_FULL_NAME.sub(_underscores, text)
    return ".".join(map(_led, name.split("."))) if adjust == "strict" else _led(name)


def _led(name: str) -> str:
    return "_" + name if name[:1].isdigit() else name
