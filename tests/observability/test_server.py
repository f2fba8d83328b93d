"""Over real HTTP."""

from __future__ import annotations

import http.client
import json
import resource
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from pydantic import ValidationError
from scripts.docs.migration_example import ExampleMigration

from pycdc.config.runtime import HttpConfig
from pycdc.errors import EnvironmentNotReady
from pycdc.observability.progress import Progress
from pycdc.observability.server import StatusServer
from tests.reading import wait_for

TOKEN = "correct-horse"


@pytest.fixture
def progress() -> Progress:
    return Progress(state="streaming", last_message=time.monotonic())


@pytest.fixture
def server(progress: Progress) -> Iterator[StatusServer]:
    with StatusServer(HttpConfig(port=0), progress) as running:
        yield running


@pytest.fixture
def guarded(progress: Progress) -> Iterator[StatusServer]:
    with StatusServer(HttpConfig.model_validate({"host": "0.0.0.0", "port": 0, "token": TOKEN}), progress) as running:
        yield running


def ask(
    server: StatusServer, path: str, method: str = "GET", **headers: str
) -> tuple[int, http.client.HTTPMessage, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", urlsplit(server.url).port or 0, timeout=10)
    try:
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


def test_metrics_are_prometheus_text(server: StatusServer, progress: Progress) -> None:
    progress.checkpoints = 3
    status, headers, body = ask(server, "/metrics")
    assert status == 200
    assert headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert b"pycdc_checkpoints_total 3.0" in body


def test_status_is_one_document_of_what_is_known(server: StatusServer, progress: Progress) -> None:
    progress.applied["public.items", "upsert"] = 3
    progress.applying.observe(0.01)
    status, headers, body = ask(server, "/status")
    told = json.loads(body)
    assert (status, headers["Content-Type"]) == (200, "application/json")
    assert (told["state"], told["applied"]) == ("streaming", {"public.items": {"upsert": 3}})
    assert set(told["apply_seconds"]) == {"p50", "p95", "p99"}
    assert not {"lag_seconds", "parked", "snapshot"} & told.keys()


def test_health_is_ok_while_the_stream_is_alive(server: StatusServer) -> None:
    status, _, body = ask(server, "/healthz?from=probe")
    assert (status, json.loads(body)) == (200, {"healthy": True, "state": "streaming", "reasons": []})


def test_health_is_unavailable_with_the_reason_once_it_is_not(server: StatusServer, progress: Progress) -> None:
    progress.last_message -= 100
    status, _, body = ask(server, "/healthz")
    assert status == 503
    assert json.loads(body)["reasons"] == ["no message from the server for 100 s"]


def test_nothing_else_is_served(server: StatusServer) -> None:
    assert ask(server, "/page")[0] == 404
    assert ask(server, "/metrics/../etc/passwd")[0] == 404


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "BREW"])
def test_no_other_method_is_answered(server: StatusServer, method: str) -> None:
    status, headers, _ = ask(server, "/metrics", method)
    assert (status, headers["Allow"]) == (405, "GET")


@pytest.mark.parametrize("host", ["evil.example", "evil.example:9464", "127.0.0.1.evil.example", "10.0.0.1", ""])
def test_a_page_elsewhere_cannot_read_it_through_its_own_name(server: StatusServer, host: str) -> None:
    assert ask(server, "/metrics", Host=host)[0] == 421


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "127.0.0.1:1", "[::1]:9464"])
def test_the_names_of_this_machine_are_accepted(server: StatusServer, host: str) -> None:
    assert ask(server, "/healthz", Host=host)[0] == 200


def test_beyond_loopback_the_token_is_needed(guarded: StatusServer) -> None:
    status, headers, body = ask(guarded, "/metrics")
    assert (status, headers["WWW-Authenticate"]) == (401, 'Bearer realm="pycdc"')
    assert TOKEN.encode() not in body
    assert ask(guarded, "/healthz", Authorization=f"Bearer {TOKEN}x")[0] == 401
    assert ask(guarded, "/healthz", Authorization=TOKEN)[0] == 401
    assert ask(guarded, "/healthz", Authorization=f"Bearer {TOKEN}", Host="pycdc.prod.internal")[0] == 200


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_a_token_that_is_not_ascii_is_known_again(progress: Progress, encoding: str) -> None:
    settings = HttpConfig.model_validate({"host": "0.0.0.0", "port": 0, "token": "schlüssel"})
    with StatusServer(settings, progress) as server:
        sent = f"Bearer {'schlüssel'}".encode(encoding).decode("latin-1")
        assert ask(server, "/metrics", Authorization=sent)[0] == 200
        assert ask(server, "/metrics", Authorization=sent.replace("l", "1"))[0] == 401


@pytest.mark.parametrize("token", ["", " ", "a b", "a\n", "\x00"])
def test_a_token_that_no_header_can_carry_is_refused_at_the_start(token: str) -> None:
    with pytest.raises(ValidationError):
        HttpConfig.model_validate({"token": token})


def test_probes_need_no_token_and_tell_no_more_than_yes_or_no(guarded: StatusServer, progress: Progress) -> None:
    answers = {path: ask(guarded, path)[::2] for path in ("/livez", "/readyz")}
    assert answers == {"/livez": (200, b'{"live": true}\n'), "/readyz": (200, b'{"ready": true}\n')}
    progress.state, progress.last_error = "retrying", "no broker at kafka:9092 answers"
    progress.last_delivery = time.monotonic() - 3600
    assert ask(guarded, "/livez")[0] == 200, "a restart does not bring the brokers back"
    assert ask(guarded, "/readyz")[::2] == (503, b'{"ready": false}\n')
    progress.state = "stopped"
    assert ask(guarded, "/livez")[::2] == (503, b'{"live": false}\n')


def test_a_port_that_was_just_used_is_free_for_the_next_start(progress: Progress) -> None:
    with StatusServer(HttpConfig(port=0), progress) as server:
        port = urlsplit(server.url).port or 0
        # Who closes first keeps the port in TIME_WAIT: here the server, after its answer.
        for _ in range(3):
            assert ask(server, "/metrics")[0] == 200
    with StatusServer(HttpConfig(port=port), progress) as again:
        assert ask(again, "/metrics")[0] == 200


def test_a_thousand_silent_connections_take_neither_descriptors_nor_the_metrics_away(guarded: StatusServer) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))
    port, silent = urlsplit(guarded.url).port or 0, []
    try:
        for _ in range(1020):
            silent.append(socket.create_connection(("127.0.0.1", port), timeout=10))
        held = [thread for thread in threading.enumerate() if "process_request_thread" in thread.name]
        assert len(held) < 100
        assert ask(guarded, "/metrics", Authorization=f"Bearer {TOKEN}")[0] == 200
        assert ask(guarded, "/livez")[0] == 200
    finally:
        for connection in silent:
            connection.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_request_that_drips_is_ended_in_time(server: StatusServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pycdc.observability.server._REQUEST_SECONDS", 0.5)
    with socket.create_connection(("127.0.0.1", urlsplit(server.url).port or 0), timeout=0.1) as slow:
        slow.sendall(b"GET /metrics HTTP/1.1\r\n")

        def ended() -> bool:
            try:
                slow.sendall(b"X")
                return not slow.recv(1)
            except TimeoutError:
                return False
            except OSError:
                return True

        wait_for(ended)


def test_a_request_that_is_no_http_does_not_disturb(server: StatusServer) -> None:
    with socket.create_connection(("127.0.0.1", urlsplit(server.url).port or 0), timeout=10) as raw:
        raw.sendall(b"\x16\x03\x01\x00\x05hello\r\n\r\n")
        raw.recv(1024)
    assert ask(server, "/healthz")[0] == 200


def test_a_client_that_says_nothing_does_not_hold_up_others(server: StatusServer) -> None:
    with socket.create_connection(("127.0.0.1", urlsplit(server.url).port or 0), timeout=10):
        assert ask(server, "/healthz")[0] == 200


def test_a_port_in_use_is_a_clear_error(progress: Progress) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(EnvironmentNotReady, match=f"port {port} on 127.0.0.1 is in use") as caught:
            StatusServer(HttpConfig(port=port), progress)
    assert "http.port" in caught.value.hint


def test_an_address_that_is_not_here_is_a_clear_error(progress: Progress) -> None:
    settings = HttpConfig.model_validate({"host": "192.0.2.1", "port": 0, "token": TOKEN})
    with pytest.raises(EnvironmentNotReady, match=r"cannot listen on 192\.0\.2\.1"):
        StatusServer(settings, progress)


def test_closing_twice_is_harmless_and_frees_the_port(progress: Progress) -> None:
    server = StatusServer(HttpConfig(port=0), progress)
    port = urlsplit(server.url).port
    server.close()
    server.close()
    with StatusServer(HttpConfig(port=port or 0), progress) as again:
        assert ask(again, "/healthz")[0] == 200


@pytest.fixture
def migration() -> ExampleMigration:
    return ExampleMigration()


def post(server: StatusServer, path: str, body: str = "{}", **headers: str) -> tuple[int, dict[str, Any]]:
    connection = http.client.HTTPConnection("127.0.0.1", urlsplit(server.url).port or 0, timeout=10)
    try:
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


ADVANCE = "/migration/groups/inventory/advance"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


def test_a_migration_is_served_where_there_is_one(
    server: StatusServer, progress: Progress, migration: ExampleMigration
) -> None:
    for path in ("/migration", "/migration.json", "/migration/groups/inventory/reports/forward"):
        assert ask(server, path)[0] == 404
    with StatusServer(HttpConfig(port=0), progress, "shop", migration) as serving:
        told = json.loads(ask(serving, "/migration.json")[2])
        assert (told["acts"], told["groups"][0]["stage"]) == (False, "reading")
        assert b"migration.js" in ask(serving, "/migration")[2]
        assert b"Verification of to-inventory" in ask(serving, "/migration/groups/inventory/reports/forward")[2]
        for path in (
            "/migration/groups/inventory/reports/back",
            "/migration/groups/other/reports/forward",
            "/migration/",
        ):
            assert ask(serving, path)[0] == 404
        assert json.loads(ask(serving, "/status")[2])["migration"] is True


def test_commands_need_the_token_on_loopback_too(progress: Progress, migration: ExampleMigration) -> None:
    with StatusServer(HttpConfig(port=0), progress, "shop", migration) as server:
        assert post(server, ADVANCE)[0] == 403
        assert post(server, ADVANCE, **BEARER)[0] == 403
    settings = HttpConfig.model_validate({"port": 0, "token": TOKEN})
    with StatusServer(settings, progress, "shop", migration) as server:
        assert post(server, ADVANCE)[0] == 401
        assert post(server, ADVANCE, Authorization=f"Bearer {TOKEN}x")[0] == 401
        assert post(server, ADVANCE, Host="evil.example", **BEARER)[0] == 421
        assert not migration.acted
        assert post(server, ADVANCE, '{"now": true}', **BEARER) == (202, {"accepted": True})
        assert migration.acted == [(("groups", "inventory", "advance"), {"now": True})]
        assert ask(server, "/migration.json")[0] == 401
        assert ask(server, "/migration/groups/inventory/reports/forward")[0] == 401


def test_a_page_elsewhere_cannot_have_a_browser_send_commands(progress: Progress, migration: ExampleMigration) -> None:
    """A token is sent by no browser by itself, and whether a page may send one is refused (CORS)."""
    settings = HttpConfig.model_validate({"port": 0, "token": TOKEN})
    origin = {"Origin": "http://evil.example"}
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    with StatusServer(settings, progress, "shop", migration) as server:
        status, headers, _ = ask(server, ADVANCE, "OPTIONS", **origin, **asked)
        assert status == 405
        assert not [name for name in headers if name.lower().startswith("access-control")]
        status, headers, _ = ask(server, "/migration.json", **origin, **BEARER)
        assert not [name for name in headers if name.lower().startswith("access-control")]


def test_what_is_no_command_is_refused(progress: Progress, migration: ExampleMigration) -> None:
    settings = HttpConfig.model_validate({"port": 0, "token": TOKEN})
    with StatusServer(settings, progress, "shop", migration) as server:
        assert post(server, ADVANCE, "[]", **BEARER)[0] == 400
        assert post(server, ADVANCE, "{", **BEARER)[0] == 400
        assert post(server, ADVANCE, '{"now": "' + "w" * 5000 + '"}', **BEARER)[0] == 413
        assert ask(server, "/migration.json", "POST", **BEARER)[0] == 405
        migration.refusal = EnvironmentNotReady("another command is at work", hint="wait for it")
        assert post(server, ADVANCE, **BEARER) == (409, {"error": "another command is at work", "hint": "wait for it"})
        assert not migration.acted
