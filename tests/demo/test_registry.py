"""What clients of Confluent's REST API rely on."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError

from pycdc.demo.registry import EmbeddedRegistry


def text(*fields: dict[str, Any]) -> str:
    return json.dumps({"type": "record", "name": "Value", "fields": [{"name": "id", "type": "int"}, *fields]})


OLD = text()
GROWN = text({"name": "note", "type": ["null", "string"], "default": None})
BROKEN = text({"name": "must", "type": "string"})


@pytest.fixture
def embedded() -> Iterator[EmbeddedRegistry]:
    with EmbeddedRegistry() as registry:
        yield registry


@pytest.fixture
def client(embedded: EmbeddedRegistry) -> Iterator[SchemaRegistryClient]:
    with SchemaRegistryClient({"url": embedded.url, "max.retries": 0}) as client:
        yield client


def avro(schema: str) -> Schema:
    return Schema(schema, "AVRO")


def call(embedded: EmbeddedRegistry, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(embedded.url + path, data, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def test_the_same_text_has_the_same_id_everywhere(client: SchemaRegistryClient) -> None:
    first = client.register_schema("a-value", avro(OLD))
    assert client.register_schema("b-value", avro(OLD)) == first
    assert client.register_schema("a-value", avro(GROWN)) == first + 1
    assert client.get_subjects() == ["a-value", "b-value"]


def test_registering_again_adds_no_version(embedded: EmbeddedRegistry) -> None:
    for _ in range(3):
        assert call(embedded, "POST", "/subjects/s/versions", {"schema": OLD}) == (200, {"id": 1})
    assert call(embedded, "GET", "/subjects/s/versions") == (200, [1])


def test_other_white_space_is_another_schema(client: SchemaRegistryClient) -> None:
    assert client.register_schema("s", avro(OLD)) != client.register_schema("s", avro(OLD.replace(" ", "")))


def test_a_schema_is_found_by_its_id_its_text_and_its_version(client: SchemaRegistryClient) -> None:
    schema_id = client.register_schema("s/ü", avro(OLD))
    client.register_schema("s/ü", avro(GROWN))
    assert client.get_schema(schema_id).schema_str == OLD
    assert client.lookup_schema("s/ü", avro(OLD)).version == 1
    assert client.get_version("s/ü", 1).schema.schema_str == OLD
    assert client.get_latest_version("s/ü").schema.schema_str == GROWN
    assert client.get_versions("s/ü") == [1, 2]


def test_a_schema_that_cannot_read_the_last_one_gets_409(client: SchemaRegistryClient) -> None:
    client.register_schema("s", avro(OLD))
    with pytest.raises(SchemaRegistryError) as caught:
        client.register_schema("s", avro(BROKEN))
    assert (caught.value.http_status_code, caught.value.error_code) == (409, 409)
    assert client.get_versions("s") == [1]
    assert not client.test_compatibility("s", avro(BROKEN))
    assert client.test_compatibility("s", avro(GROWN))


def test_compatibility_is_set_for_a_subject_or_for_all(client: SchemaRegistryClient) -> None:
    client.register_schema("s", avro(OLD))
    assert client.get_compatibility() == "BACKWARD"
    client.set_compatibility("s", "NONE")
    assert client.get_compatibility("s") == "NONE"
    client.register_schema("s", avro(BROKEN))
    client.set_compatibility(level="FULL")
    assert client.get_compatibility() == "FULL"


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/subjects/none/versions", None, 404, 40401),
        ("GET", "/subjects/s/versions/9", None, 404, 40402),
        ("GET", "/subjects/s/versions/one", None, 404, 40402),
        ("POST", "/subjects/s", {"schema": GROWN}, 404, 40403),
        ("GET", "/schemas/ids/99", None, 404, 40403),
        ("POST", "/subjects/s/versions", {"schema": "{"}, 422, 42201),
        ("POST", "/subjects/s/versions", {"schema": '{"type":"what"}'}, 422, 42201),
        ("POST", "/subjects/s/versions", {}, 422, 42201),
        ("POST", "/subjects/s/versions", {"schema": "{}", "schemaType": "PROTOBUF"}, 422, 42201),
        ("PUT", "/config", {"compatibility": "SOMEHOW"}, 422, 42203),
        ("PUT", "/mode", {"mode": "WRITEONLY"}, 422, 42204),
        ("GET", "/config/none", None, 404, 40408),
        ("PUT", "/subjects", {}, 405, 405),
        ("GET", "/elsewhere", None, 404, 404),
    ],
)
def test_refusals_have_confluents_codes(
    embedded: EmbeddedRegistry, method: str, path: str, body: Any, status: int, code: int
) -> None:
    call(embedded, "POST", "/subjects/s/versions", {"schema": OLD})
    got, answer = call(embedded, method, path, body)
    assert (got, answer["error_code"]) == (status, code)


def test_a_read_only_subject_takes_no_new_schema_but_tells_ids(embedded: EmbeddedRegistry) -> None:
    call(embedded, "POST", "/subjects/s/versions", {"schema": OLD})
    call(embedded, "PUT", "/mode/s", {"mode": "READONLY"})
    assert call(embedded, "GET", "/mode/s") == (200, {"mode": "READONLY"})
    assert call(embedded, "POST", "/subjects/s/versions", {"schema": OLD}) == (200, {"id": 1})
    assert call(embedded, "POST", "/subjects/s/versions", {"schema": GROWN})[0] == 422


def test_a_deleted_subject_is_gone_and_its_ids_stay(embedded: EmbeddedRegistry) -> None:
    call(embedded, "POST", "/subjects/s/versions", {"schema": OLD})
    call(embedded, "POST", "/subjects/s/versions", {"schema": GROWN})
    assert call(embedded, "DELETE", "/subjects/s/versions/1") == (200, 1)
    assert call(embedded, "GET", "/schemas/ids/1/versions") == (200, [])
    assert call(embedded, "DELETE", "/subjects/s") == (200, [2])
    assert call(embedded, "GET", "/subjects") == (200, [])
    assert call(embedded, "GET", "/schemas/ids/2") == (200, {"schema": GROWN})
    assert call(embedded, "POST", "/subjects/s/versions", {"schema": GROWN}) == (200, {"id": 2})


def test_threads_that_register_at_once_get_one_id_a_text(embedded: EmbeddedRegistry) -> None:
    texts = [text({"name": f"f{n % 8}", "type": "int", "default": 0}) for n in range(64)]

    def register(number: int) -> int:
        status, answer = call(
            embedded, "POST", f"/subjects/s{number % 4}-{number % 8}/versions", {"schema": texts[number]}
        )
        assert status == 200
        return int(answer["id"])

    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(register, range(64)))
    assert sorted(set(ids)) == list(range(1, 9))
    assert all(ids[n] == ids[n % 8] for n in range(64))


def test_faults_come_as_scripted(embedded: EmbeddedRegistry) -> None:
    embedded.fail_next(503, times=2)
    assert [call(embedded, "GET", "/subjects")[0] for _ in range(3)] == [503, 503, 200]


def test_credentials_are_asked_for_where_they_are_set() -> None:
    with EmbeddedRegistry(username="u", password="p") as registry:
        assert call(registry, "GET", "/subjects")[0] == 401
        with SchemaRegistryClient({"url": registry.url, "basic.auth.user.info": "u:p"}) as client:
            assert client.get_subjects() == []
