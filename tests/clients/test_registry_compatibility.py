"""A refused schema that is registered all the same leaves its subject's level as it was."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import urllib3

from pycdc.clients.registry_compatibility import CompatibilityOverrides
from pycdc.clients.schema_registry import SchemaRegistry
from pycdc.config import validate
from pycdc.config.kafka import RegistryConfig
from pycdc.demo.registry import EmbeddedRegistry
from pycdc.errors import ConnectionLost, SchemaIncompatible
from tests.services.registry import RegistryAddress

Open = Callable[..., SchemaRegistry]


def schema(kind: str) -> str:
    return json.dumps({"type": "record", "name": "R", "fields": [{"name": "x", "type": kind}]})


@pytest.fixture
def embedded() -> Iterator[EmbeddedRegistry]:
    with EmbeddedRegistry() as found:
        yield found


@pytest.fixture
def open_registry() -> Iterator[Open]:
    opened: list[SchemaRegistry] = []

    def open_one(url: str, levels: CompatibilityOverrides | None = None, **settings: Any) -> SchemaRegistry:
        made = {"url": url, "timeout": 1.0, "on_incompatible": "new_subject_version_none", **settings}
        opened.append(SchemaRegistry(RegistryConfig(**made), levels))
        return opened[-1]

    yield open_one
    for one in opened:
        one.close()


def ask(method: str, url: str, body: Any = None) -> Any:
    answer = urllib3.request(method, url, json=body)
    return answer.json() if answer.status == 200 else answer.status


@pytest.mark.parametrize("level", ["BACKWARD", "FULL_TRANSITIVE"])
def test_a_refused_schema_becomes_a_version_and_the_level_of_the_subject_comes_back(
    registry: RegistryAddress,
    topic_prefix: str,
    open_registry: Open,
    level: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    subject = f"{topic_prefix}-value"
    found = open_registry(registry.url, timeout=10.0)
    first = found.id_for(subject, schema("int"))
    ask("PUT", f"{registry.url}/config/{subject}", {"compatibility": level})
    second = found.id_for(subject, schema("string"))
    assert second != first
    assert found.text_for(second) == schema("string")
    assert ask("GET", f"{registry.url}/subjects/{subject}/versions") == [1, 2]
    assert ask("GET", f"{registry.url}/config/{subject}") == {"compatibilityLevel": level}
    assert "~ x: int became string" in caplog.text
    assert ask("POST", f"{registry.url}/subjects/{subject}/versions", {"schema": schema("boolean")}) == 409


def test_a_subject_without_a_level_of_its_own_has_none_afterwards(
    embedded: EmbeddedRegistry, open_registry: Open
) -> None:
    found = open_registry(embedded.url)
    assert [found.id_for("s", schema("int")), found.id_for("s", schema("string"))] == [1, 2]
    assert ask("GET", f"{embedded.url}/config/s") == 404
    assert ask("GET", f"{embedded.url}/config") == {"compatibilityLevel": "BACKWARD"}


def test_other_subjects_keep_refusing(embedded: EmbeddedRegistry, open_registry: Open) -> None:
    found = open_registry(embedded.url)
    found.id_for("s", schema("int"))
    found.id_for("s", schema("string"))
    stopping = open_registry(embedded.url, on_incompatible="stop")
    stopping.id_for("t", schema("int"))
    with pytest.raises(SchemaIncompatible):
        stopping.id_for("t", schema("string"))


def test_a_schema_that_an_older_version_has_keeps_its_id_whatever_the_level(
    registry: RegistryAddress, topic_prefix: str, open_registry: Open
) -> None:
    """A column that is dropped and comes back."""
    subject = f"{topic_prefix}-value"
    ids = [open_registry(registry.url, timeout=10.0).id_for(subject, schema("int"))]
    ids.append(open_registry(registry.url, timeout=10.0).id_for(subject, schema("string")))
    ask("PUT", f"{registry.url}/config/{subject}", {"compatibility": "BACKWARD"})
    for policy in ("stop", "new_subject_version_none"):
        again = open_registry(registry.url, timeout=10.0, on_incompatible=policy)
        assert [again.id_for(subject, schema(kind)) for kind in ("int", "string")] == ids
    assert ask("GET", f"{registry.url}/subjects/{subject}/versions") == [1, 2]


class Failing:
    """Answers of an embedded registry, but for some that fail."""

    def __init__(self, embedded: EmbeddedRegistry) -> None:
        self._answer = embedded.answer
        self.fails: Callable[[str, str, bytes], bool] = lambda method, path, body: False
        embedded.answer = self  # type: ignore[method-assign]

    def __call__(self, method: str, path: str, authorization: str | None, body: bytes) -> tuple[int, Any]:
        if self.fails(method, path, body):
            return 503, {"error_code": 503, "message": "scripted"}
        return self._answer(method, path, authorization, body)


@pytest.mark.parametrize("own", ["FULL", None])
def test_the_level_comes_back_where_the_registration_fails(
    embedded: EmbeddedRegistry, open_registry: Open, own: str | None
) -> None:
    found = open_registry(embedded.url)
    found.id_for("s", schema("int"))
    if own:
        ask("PUT", f"{embedded.url}/config/s", {"compatibility": own})
    lifted: list[bool] = []

    def fails(method: str, path: str, body: bytes) -> bool:
        lifted.append(lifted[-1:] == [True] or (method == "PUT" and b"NONE" in body))
        return lifted[-1] and path.endswith("/versions")

    failing = Failing(embedded)
    failing.fails = fails
    with pytest.raises(ConnectionLost):
        found.id_for("s", schema("string"))
    failing.fails = lambda method, path, body: False
    assert ask("GET", f"{embedded.url}/config/s") == ({"compatibilityLevel": own} if own else 404)
    assert ask("GET", f"{embedded.url}/subjects/s/versions") == [1]


def test_a_level_that_could_not_be_put_back_is_put_back_by_the_next_sink(
    embedded: EmbeddedRegistry, open_registry: Open, caplog: pytest.LogCaptureFixture
) -> None:
    levels = CompatibilityOverrides()
    found = open_registry(embedded.url, levels)
    found.id_for("s", schema("int"))
    failing = Failing(embedded)
    failing.fails = lambda method, path, body: method == "DELETE"
    with caplog.at_level(logging.ERROR), pytest.raises(ConnectionLost):
        found.id_for("s", schema("string"))
    assert "the compatibility level of s" in caplog.text
    assert ask("GET", f"{embedded.url}/config/s") == {"compatibilityLevel": "NONE"}
    failing.fails = lambda method, path, body: False
    assert open_registry(embedded.url, levels).id_for("s", schema("string")) == 2
    assert ask("GET", f"{embedded.url}/config/s") == 404


def test_a_rule_that_no_subject_can_lift_is_told(
    registry: RegistryAddress, topic_prefix: str, open_registry: Open
) -> None:
    """Apicurio's rule for all holds where a subject's level is NONE."""
    subject = f"{topic_prefix}-value"
    found = open_registry(registry.url, timeout=10.0)
    found.id_for(subject, schema("int"))
    before = ask("GET", f"{registry.url}/config")["compatibilityLevel"]
    ask("PUT", f"{registry.url}/config", {"compatibility": "BACKWARD"})
    try:
        with pytest.raises(SchemaIncompatible, match="level NONE too") as caught:
            found.id_for(subject, schema("string"))
    finally:
        ask("PUT", f"{registry.url}/config", {"compatibility": before})
    assert "~ x: int became string" in caught.value.fact
    assert "Apicurio" in caught.value.hint


def test_whoever_may_not_register_may_not_choose_what_registers() -> None:
    registry = {"url": "http://r", "register_schemas": False, "on_incompatible": "park"}
    kafka = {"brokers": "b:1", "registry": registry}
    with pytest.raises(Exception, match="register_schemas: false"):
        validate({"name": "shop", "source": {"postgres": {"dsn": "postgresql://x"}}, "sink": {"kafka": kafka}})
