"""An id is right, or there is an error that says what to do; and nothing ever shows a password."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from pydantic import SecretStr

from pycdc.clients.schema_registry import SchemaRegistry
from pycdc.config.kafka import RegistryConfig
from pycdc.demo.registry import EmbeddedRegistry
from pycdc.errors import ConfigError, ConnectionLost, EnvironmentNotReady, ProtocolError, PycdcError, SchemaIncompatible
from tests.proxy import Proxy
from tests.services.registry import RegistryAddress


def value_schema(*fields: dict[str, Any], name: str = "Value") -> str:
    record = {"type": "record", "name": name, "namespace": "shop.public.orders", "fields": [*fields]}
    return json.dumps({**record, "connect.name": f"shop.public.orders.{name}"}, separators=(",", ":"))


ID = {"name": "id", "type": {"type": "int", "connect.default": 0}, "default": 0}
OLD = value_schema(ID)
GROWN = value_schema(ID, {"name": "note", "type": ["null", "string"], "default": None})
BROKEN = value_schema({"name": "id", "type": "string"}, {"name": "must", "type": "long"})

Open = Callable[..., SchemaRegistry]


@pytest.fixture
def open_registry() -> Iterator[Open]:
    opened: list[SchemaRegistry] = []

    def open_one(url: str, **settings: Any) -> SchemaRegistry:
        opened.append(SchemaRegistry(RegistryConfig(url=url, **{"timeout": 10.0, **settings})))
        return opened[-1]

    yield open_one
    for one in opened:
        one.close()


@pytest.fixture
def embedded() -> Iterator[EmbeddedRegistry]:
    with EmbeddedRegistry() as found:
        yield found


def test_a_schema_gets_the_id_that_its_text_already_has(
    registry: RegistryAddress, topic_prefix: str, open_registry: Open
) -> None:
    """Other instances, other runs: the same text leads to the same id, without another version."""
    first = open_registry(registry.url).id_for(f"{topic_prefix}-value", OLD)
    assert open_registry(registry.url).id_for(f"{topic_prefix}-value", OLD) == first
    assert open_registry(registry.url).text_for(first) == OLD


def test_the_text_is_sent_as_it_is(embedded: EmbeddedRegistry, open_registry: Open) -> None:
    """Attribute order, white space and other letters: nothing is normalised."""
    text = '{"type": "record",  "name":"R","connect.name":"é","fields":[{"default":0,"name":"a","type":"int"}]}'
    schema_id = open_registry(embedded.url).id_for("s", text)
    assert embedded.subjects.schema(None, str(schema_id)) == {"schema": text}


def test_the_registry_is_asked_once_for_a_subject_and_a_text(embedded: EmbeddedRegistry, open_registry: Open) -> None:
    registry = open_registry(embedded.url)
    ids = {registry.id_for("s", OLD) for _ in range(100)}
    asked = len(embedded.requests)
    assert len(ids) == 1
    assert asked <= 2
    registry.id_for("t", OLD)
    assert len(embedded.requests) > asked


def test_no_more_ids_and_texts_are_kept_than_a_pipeline_of_many_tables_needs(
    embedded: EmbeddedRegistry, open_registry: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of tables that come and go."""
    monkeypatch.setattr("pycdc.clients.schema_registry._REMEMBERED", 5)
    registry = open_registry(embedded.url)
    ids = [registry.id_for(f"t{number}-value", OLD.replace("orders", f"t{number}")) for number in range(20)]
    assert [registry.text_for(found) for found in ids] == [OLD.replace("orders", f"t{number}") for number in range(20)]
    asked = len(embedded.requests)
    assert registry.id_for("t19-value", OLD.replace("orders", "t19")) == ids[19]
    assert len(embedded.requests) == asked
    assert registry.id_for("t0-value", OLD.replace("orders", "t0")) == ids[0]
    assert len(embedded.requests) > asked


def test_threads_that_ask_at_once_get_the_same_id(embedded: EmbeddedRegistry, open_registry: Open) -> None:
    registry, found = open_registry(embedded.url), []
    threads = [threading.Thread(target=lambda: found.append(registry.id_for("s", OLD))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1


def test_a_text_is_fetched_once(embedded: EmbeddedRegistry, open_registry: Open) -> None:
    schema_id = open_registry(embedded.url).id_for("s", OLD)
    registry = open_registry(embedded.url)
    assert {registry.text_for(schema_id) for _ in range(10)} == {OLD}
    assert embedded.requests.count(f"GET /schemas/ids/{schema_id}") == 2


@pytest.mark.parametrize(
    ("strategy", "key", "value"),
    [
        ("topic", "shop.public.orders-key", "shop.public.orders-value"),
        ("record", "shop.public.orders.Key", "shop.public.orders.Envelope"),
        ("topic_record", "shop.public.orders-shop.public.orders.Key", "shop.public.orders-shop.public.orders.Envelope"),
    ],
)
def test_subjects_follow_the_strategy(open_registry: Open, strategy: str, key: str, value: str) -> None:
    registry = open_registry("http://127.0.0.1:1", subjects=strategy)
    topic = "shop.public.orders"
    assert registry.subject(topic, f"{topic}.Key", "key") == key
    assert registry.subject(topic, f"{topic}.Envelope", "value") == value


# -- look-up only


def test_without_the_right_to_register_known_schemas_are_found(
    registry: RegistryAddress, topic_prefix: str, open_registry: Open
) -> None:
    subject = f"{topic_prefix}-value"
    known = open_registry(registry.url).id_for(subject, OLD)
    assert open_registry(registry.url, register_schemas=False).id_for(subject, OLD) == known


@pytest.mark.parametrize("subject_exists", [True, False])
def test_without_the_right_to_register_an_unknown_schema_is_an_error_and_stays_unknown(
    registry: RegistryAddress, topic_prefix: str, open_registry: Open, subject_exists: bool
) -> None:
    subject = f"{topic_prefix}-value"
    if subject_exists:
        open_registry(registry.url).id_for(subject, OLD)
    for _ in range(2):
        with pytest.raises(EnvironmentNotReady, match=subject) as caught:
            open_registry(registry.url, register_schemas=False).id_for(subject, GROWN)
    assert "register_schemas" in caught.value.hint


# -- incompatible


def test_an_incompatible_schema_is_refused_with_the_difference_and_the_remedy(
    registry: RegistryAddress, topic_prefix: str, open_registry: Open
) -> None:
    subject = f"{topic_prefix}-value"
    found = open_registry(registry.url)
    found.id_for(subject, OLD)
    put(f"{registry.url}/config/{subject}", {"compatibility": "BACKWARD"})
    with pytest.raises(SchemaIncompatible) as caught:
        found.id_for(subject, BROKEN)
    assert subject in caught.value.fact
    assert "~ id: int became string" in caught.value.fact
    assert "+ must: long, without a default" in caught.value.fact
    assert f"{registry.url}/config/{subject}" in caught.value.hint
    assert not caught.value.retry


def test_the_remedy_works(embedded: EmbeddedRegistry, open_registry: Open) -> None:
    registry = open_registry(embedded.url)
    registry.id_for("s", OLD)
    with pytest.raises(SchemaIncompatible):
        registry.id_for("s", BROKEN)
    put(f"{embedded.url}/config/s", {"compatibility": "NONE"})
    assert registry.id_for("s", BROKEN) == 2


def test_an_evolution_that_readers_can_follow_is_accepted(
    registry: RegistryAddress, topic_prefix: str, open_registry: Open
) -> None:
    found = open_registry(registry.url)
    assert found.id_for(topic_prefix, OLD) != found.id_for(topic_prefix, GROWN)


def test_a_schema_that_avro_does_not_allow_is_explained(embedded: EmbeddedRegistry, open_registry: Open) -> None:
    with pytest.raises(SchemaIncompatible, match="invalid") as caught:
        open_registry(embedded.url).id_for("s", value_schema({"name": "a-b", "type": "what"}))
    assert "adjust_names" in caught.value.hint


def put(url: str, body: Any) -> None:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"}, method="PUT")
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 200


# -- faults


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_faults_that_pass_are_waited_for(embedded: EmbeddedRegistry, open_registry: Open, status: int) -> None:
    embedded.fail_next(status, times=3)
    assert open_registry(embedded.url).id_for("s", OLD) == 1


def test_faults_that_stay_are_a_lost_connection(embedded: EmbeddedRegistry, open_registry: Open) -> None:
    embedded.fail_next(503, times=1000)
    registry = open_registry(embedded.url, timeout=0.5)
    with pytest.raises(ConnectionLost, match="HTTP 503") as caught:
        registry.id_for("s", OLD)
    assert caught.value.retry


def test_after_a_fault_the_same_registry_object_goes_on(embedded: EmbeddedRegistry, open_registry: Open) -> None:
    registry = open_registry(embedded.url, timeout=0.2)
    embedded.fail_next(503, times=1000)
    with pytest.raises(ConnectionLost):
        registry.id_for("s", OLD)
    embedded._faults.clear()
    assert registry.id_for("s", OLD) == 1


def test_a_registry_that_is_not_there_is_a_lost_connection(open_registry: Open) -> None:
    with pytest.raises(ConnectionLost, match=r"127\.0\.0\.1:1"):
        open_registry("http://127.0.0.1:1", timeout=0.3).id_for("s", OLD)


def test_a_registry_that_stops_answering_is_a_lost_connection_and_then_works_again(
    registry_proxy: Proxy, topic_prefix: str, open_registry: Open
) -> None:
    registry = open_registry(f"http://{registry_proxy.address}/apis/ccompat/v7", timeout=1.0)
    registry_proxy.blackhole()
    with pytest.raises(ConnectionLost):
        registry.id_for(topic_prefix, OLD)
    registry_proxy.heal()
    patient = open_registry(f"http://{registry_proxy.address}/apis/ccompat/v7", timeout=20.0)
    assert patient.text_for(patient.id_for(topic_prefix, OLD)) == OLD


@pytest.mark.parametrize("status", [401, 403])
def test_a_registry_that_denies_access_is_not_asked_again(
    embedded: EmbeddedRegistry, open_registry: Open, status: int
) -> None:
    embedded.fail_next(status)
    with pytest.raises(EnvironmentNotReady, match=f"HTTP {status}") as caught:
        open_registry(embedded.url).id_for("s", OLD)
    assert "registry.username" in caught.value.hint
    assert len(embedded.requests) == 1


def test_an_unknown_id_is_an_error(registry: RegistryAddress, open_registry: Open) -> None:
    with pytest.raises(EnvironmentNotReady, match="2147000000"):
        open_registry(registry.url).text_for(2_147_000_000)


# -- answers that cannot be trusted


class Liar(BaseHTTPRequestHandler):
    answers: dict[str, bytes]

    def _say(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = self.answers[self.command]
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = _say

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (http.server's own name)
        pass


@pytest.fixture
def liar() -> Iterator[Callable[[bytes, bytes], str]]:
    servers: list[HTTPServer] = []

    def start(post: bytes, get: bytes) -> str:
        handler = type("ThisLiar", (Liar,), {"answers": {"POST": post, "GET": get}})
        servers.append(HTTPServer(("127.0.0.1", 0), handler))
        threading.Thread(target=servers[-1].serve_forever, args=(0.05,), daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_address[1]}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("schema_id", ['"7"', "0", "-3", "2147483648", "null", "1.5", "true"])
def test_an_id_that_is_none_is_refused(
    liar: Callable[[bytes, bytes], str], open_registry: Open, schema_id: str
) -> None:
    url = liar(b'{"id":%s}' % schema_id.encode(), json.dumps({"schema": OLD}).encode())
    with pytest.raises(ProtocolError, match="32-bit"):
        open_registry(url).id_for("s", OLD)


def test_an_id_that_leads_to_another_schema_is_refused(
    liar: Callable[[bytes, bytes], str], open_registry: Open
) -> None:
    """A registry restored from a backup gives ids out again."""
    url = liar(b'{"id":7}', json.dumps({"schema": GROWN}).encode())
    with pytest.raises(ProtocolError, match="leads to another schema"):
        open_registry(url).id_for("s", OLD)


def test_an_id_that_leads_to_the_same_schema_in_other_words_is_fine(
    liar: Callable[[bytes, bytes], str], open_registry: Open
) -> None:
    spaced = json.dumps(json.loads(OLD), indent=1, sort_keys=True)
    url = liar(b'{"id":7}', json.dumps({"schema": spaced}).encode())
    assert open_registry(url).id_for("s", OLD) == 7


def test_a_web_page_in_place_of_a_registry_is_explained(
    liar: Callable[[bytes, bytes], str], open_registry: Open
) -> None:
    with pytest.raises(ProtocolError, match="not JSON") as caught:
        open_registry(liar(b"<html>", b"<html>")).id_for("s", OLD)
    assert "registry.url" in caught.value.hint


# -- secrets and silence


def test_importing_says_nothing() -> None:
    """The client's dependencies warn about each other; that is not the user's business."""
    done = subprocess.run(
        [sys.executable, "-c", "import pycdc.clients.schema_registry"], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_credentials_are_sent(open_registry: Open) -> None:
    with EmbeddedRegistry(username="me", password="canary-1") as embedded:
        registry = open_registry(embedded.url, username="me", password=SecretStr("canary-1"))
        assert registry.id_for("s", OLD) == 1


def test_no_error_and_no_repr_shows_a_password(embedded: EmbeddedRegistry, open_registry: Open) -> None:
    host = embedded.url.removeprefix("http://")
    registry = open_registry(f"http://me:canary-1@{host}", timeout=0.2)
    shown = [repr(registry)]
    for status in (400, 401, 404, 409, 422, 503):
        embedded._faults.clear()
        embedded.fail_next(status, times=1000)
        with pytest.raises(PycdcError) as caught:
            registry.id_for("s", OLD)
        shown += [str(caught.value), repr(caught.value)]
    assert not [text for text in shown if "canary" in text]


def test_a_default_that_a_registry_refuses_is_named_with_the_switch(
    embedded: EmbeddedRegistry, open_registry: Open
) -> None:
    fields = [{"name": "doc", "type": ["string", "null"], "default": "{}"}, {"name": "n", "type": "int", "default": 0}]
    text = json.dumps({"type": "record", "name": "r", "fields": fields})
    embedded.fail_next(422, times=1)
    with pytest.raises(SchemaIncompatible) as caught:
        open_registry(embedded.url).id_for("s", text)
    assert "doc ({})" in caught.value.hint
    assert "column_defaults: plain" in caught.value.hint
    embedded.fail_next(422, times=1)
    with pytest.raises(SchemaIncompatible, match="invalid") as caught:
        open_registry(embedded.url).id_for("s2", OLD)
    assert "adjust_names" in caught.value.hint


@pytest.mark.parametrize(
    "settings",
    [
        {"url": "ftp://registry"},
        {"url": "http://a:b@registry", "username": "u", "password": SecretStr("canary-1")},
        {"url": "https://registry", "ca": "/nowhere/ca.pem"},
    ],
)
def test_settings_that_cannot_work_are_configuration_errors(open_registry: Open, settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        open_registry(**settings)
    assert "canary" not in str(caught.value)


def test_an_address_that_knows_nothing_at_all_is_an_outage_and_no_fault_of_a_record(
    embedded: EmbeddedRegistry, open_registry: Open
) -> None:
    """A proxy whose registry is down says 404 of every path."""
    embedded.fail_next(404, times=1000)
    with pytest.raises(ConnectionLost, match="HTTP 404") as caught:
        open_registry(embedded.url, timeout=0.2).text_for(1)
    assert "registry.url" in caught.value.hint
