"""The four pipelines, in the shape of the YAML: a capture of each side, and what applies it to the other."""

from __future__ import annotations

from typing import Any, Final

from pycdc.demo.two_way.tables import MONOLITH, PAIRS, SERVICE, Pair

INTO_SERVICE: Final = f"to-{SERVICE}"
INTO_MONOLITH: Final = f"to-{MONOLITH}"

_PROMPT: Final = {"interval": 0.02}
_FETCH: Final = {"fetch.wait.max.ms": 10}
"""The mock cluster answers a fetch when this time is over, not when there is something."""


def topic(side: str, table: str) -> str:
    return f"{side}.public.{table}"


def monolith_topics() -> list[str]:
    """Return all topics of the monolith, for the service's first copy of it as well."""
    return [topic(MONOLITH, pair.monolith) for pair in PAIRS]


def service_topics() -> list[str]:
    """Return the topics that the service's changes go to."""
    return [topic(SERVICE, pair.service) for pair in PAIRS if SERVICE in pair.writers]


def capture_monolith(dsn: str, kafka: dict[str, str]) -> dict[str, Any]:
    return _capture(MONOLITH, dsn, [pair.monolith for pair in PAIRS], "initial", kafka)


def capture_service(dsn: str, kafka: dict[str, str]) -> dict[str, Any]:
    """No snapshot: the rows there are came from the monolith, which may have newer ones."""
    return _capture(SERVICE, dsn, [pair.service for pair in PAIRS if SERVICE in pair.writers], "never", kafka)


def apply_to_service(dsn: str, kafka: dict[str, str]) -> dict[str, Any]:
    return _apply(INTO_SERVICE, dsn, monolith_topics(), [_to_service(pair) for pair in PAIRS], kafka)


def apply_to_monolith(dsn: str, kafka: dict[str, str]) -> dict[str, Any]:
    routes = [_to_monolith(pair) for pair in PAIRS if SERVICE in pair.writers]
    return _apply(INTO_MONOLITH, dsn, service_topics(), routes, kafka)


def _capture(name: str, dsn: str, tables: list[str], snapshot: str, kafka: dict[str, str]) -> dict[str, Any]:
    return {
        "name": name,
        "source": {
            "postgres": {
                "dsn": dsn,
                "tables": [f"public.{table}" for table in tables],
                "snapshot": snapshot,
                "messages": False,
            }
        },
        "sink": {"kafka": kafka},
        "envelope": {"tombstones": False},  # so that records and changes are the same number
        "checkpoint": _PROMPT,
        "http": {"enabled": False},
    }


def _apply(
    name: str, dsn: str, topics: list[str], routes: list[dict[str, Any]], kafka: dict[str, str]
) -> dict[str, Any]:
    return {
        "name": name,
        "source": {"kafka": {**kafka, "topics": topics, "options": _FETCH}},
        "sink": {"postgres": {"dsn": dsn, "routes": routes}},
        "checkpoint": _PROMPT,
        "http": {"enabled": False},
    }


def _to_service(pair: Pair) -> dict[str, Any]:
    return {
        **_conflict(pair, tie="existing"),
        "topic": topic(MONOLITH, pair.monolith),
        "table": f"public.{pair.service}",
        "key": {pair.key.service: pair.key.monolith},
        "set": {column.service: column.monolith for column in pair.columns},
    }


def _to_monolith(pair: Pair) -> dict[str, Any]:
    return {
        **_conflict(pair, tie="incoming"),
        "topic": topic(SERVICE, pair.service),
        "table": f"public.{pair.monolith}",
        "key": {pair.key.monolith: pair.key.service},
        "set": {column.monolith: column.service for column in pair.columns},
    }


def _conflict(pair: Pair, *, tie: str) -> dict[str, Any]:
    """Where both sides write, the later wins. Both pipelines must come to the same answer, so `tie` is not the same."""
    if len(pair.writers) == 1:
        return {}
    rule = {"default": "last_write_wins", "event_time": "changed_at", "row_time": "changed_at", "tie": tie}
    return {"conflict": rule}
