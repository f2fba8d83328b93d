"""Topic names and Avro names, as Debezium makes them.

Source: debezium.md 1.3 (topics: characters outside ``[A-Za-z0-9._-]`` become ``_``, 249 at most) and 2.2 rule 12
(``schema.name.adjustment.mode=avro``); golden: topic ``shop.Odd_Schema.Ta-ble.1``, record ``shop.Odd_Schema.Ta_ble.1``.
"""

from __future__ import annotations

import re

from pycdc.errors import ConfigError

_NOT_TOPIC = re.compile(r"[^A-Za-z0-9._-]")
_NOT_NAME = re.compile(r"[^A-Za-z0-9_]")
_NOT_FULL_NAME = re.compile(r"[^A-Za-z0-9_.]")
_LONGEST_TOPIC = 249


def topic_name(text: str) -> str:
    """`text` with every character that Kafka refuses replaced. Raises ConfigError where it is too long."""
    topic = _NOT_TOPIC.sub("_", text)
    if len(topic) > _LONGEST_TOPIC:
        raise ConfigError(
            f"topic name {topic[:40]}… has {len(topic)} characters, Kafka takes {_LONGEST_TOPIC}",
            hint="route the table to a shorter topic with rules[].topic",
        )
    return topic


def field_name(text: str, *, adjust: bool) -> str:
    """A column's name as a field of an Avro record."""
    if not adjust:
        return text
    name = _NOT_NAME.sub("_", text)
    return "_" + name if name[:1].isdigit() else name


def record_name(text: str, *, adjust: bool) -> str:
    """A full record name; only its very first character must not be a digit, as in Debezium."""
    if not adjust:
        return text
    name = _NOT_FULL_NAME.sub("_", text)
    return "_" + name if name[:1].isdigit() else name
