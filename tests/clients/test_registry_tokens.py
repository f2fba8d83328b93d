"""Bearer tokens for the registry, and keys that would ask for a password."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from pydantic import ValidationError

from pycdc.clients.schema_registry import SchemaRegistry
from pycdc.config.kafka import RegistryConfig
from pycdc.errors import ConfigError, ConnectionLost, EnvironmentNotReady, ProtocolError
from tests.authority import Authority

CANARY = "hunter2canary"


class Both(BaseHTTPRequestHandler):
    """A registry that wants the newest token, and the server that gives tokens."""

    protocol_version = "HTTP/1.1"
    tokens: list[str]
    forms: list[tuple[str | None, dict[str, list[str]]]]
    settings: dict[str, Any]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path != "/token":
            self._registry()
            return
        self.forms.append((self.headers["Authorization"], parse_qs(body.decode())))
        self.tokens.append(f"token-{len(self.tokens) + 1}")
        answer = {"access_token": self.tokens[-1], "token_type": "Bearer", "expires_in": 3600}
        self._answer(self.settings.get("status", 200), self.settings.get("answer", answer))

    def do_GET(self) -> None:
        self._registry()

    def _registry(self) -> None:
        good = self.headers["Authorization"] == f"Bearer {self.settings.get('valid') or (self.tokens or ['none'])[-1]}"
        self._answer(200 if good else 401, {"id": 7, "schema": '"string"'} if good else {"error_code": 401})

    def _answer(self, status: int, document: Any) -> None:
        data = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (http.server's own name)
        """Silent."""


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    handler = type("Handler", (Both,), {"tokens": [], "forms": [], "settings": {}})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def registry(server: ThreadingHTTPServer, **options: Any) -> SchemaRegistry:
    url = f"http://127.0.0.1:{server.server_port}"
    oauth = {"token_url": f"{url}/token", "client_id": "pycdc:1", "client_secret": CANARY, "scope": "read write"}
    chosen = options or {"oauth": oauth}
    return SchemaRegistry(RegistryConfig.model_validate({"url": url, "timeout": 0.3, **chosen}))


def test_a_token_is_asked_for_once_and_used_until_it_ends(server: ThreadingHTTPServer) -> None:
    handler: Any = server.RequestHandlerClass
    one = registry(server)
    for schema_id in range(1, 5):
        assert one.text_for(schema_id) == '"string"'
    name = base64.b64encode(f"pycdc%3A1:{CANARY}".encode()).decode()
    assert handler.forms == [(f"Basic {name}", {"grant_type": ["client_credentials"], "scope": ["read write"]})]
    one.close()


def test_a_token_that_is_refused_before_its_end_is_replaced(server: ThreadingHTTPServer) -> None:
    handler: Any = server.RequestHandlerClass
    one = registry(server)
    assert one.text_for(1) == '"string"'
    handler.tokens.append("withdrawn the one before")
    handler.settings["valid"] = "token-3"
    assert one.text_for(2) == '"string"'
    assert len(handler.forms) == 2
    one.close()


@pytest.mark.parametrize(
    "settings",
    [
        {"status": 401, "answer": {"error": "invalid_client"}},
        {"answer": {"token": "x"}},
        {"answer": {"access_token": "a\nb"}},
        {"answer": b"[" * 100_000},
        {"answer": b"\xff"},
        {"status": 302, "answer": {}},
    ],
)
def test_a_server_that_gives_no_token_is_named_and_the_secret_is_not(
    server: ThreadingHTTPServer, settings: dict[str, Any]
) -> None:
    handler: Any = server.RequestHandlerClass
    handler.settings.update(settings)
    one = registry(server)
    with pytest.raises(EnvironmentNotReady, match=r"tokens gives none") as caught:
        one.text_for(1)
    assert "registry.oauth" in caught.value.hint
    assert CANARY not in str(caught.value)
    one.close()


def test_a_server_of_tokens_that_is_away_is_waited_for(server: ThreadingHTTPServer) -> None:
    handler: Any = server.RequestHandlerClass
    handler.settings.update(status=503)
    with pytest.raises(EnvironmentNotReady, match="HTTP 503"):
        registry(server).text_for(1)
    away = registry(server, oauth={"token_url": "http://127.0.0.1:1", "client_id": "c", "client_secret": "s"})
    with pytest.raises(ConnectionLost):
        away.text_for(1)


def test_a_given_token_is_sent(server: ThreadingHTTPServer) -> None:
    handler: Any = server.RequestHandlerClass
    handler.settings["valid"] = CANARY
    assert registry(server, token=CANARY).text_for(1) == '"string"'
    with pytest.raises(EnvironmentNotReady, match="denies access"):
        registry(server, token="other").text_for(1)


@pytest.mark.parametrize("answer", [b"[" * 100_000, b"{}x", b"\xff", b""])
def test_whatever_a_registry_answers_is_an_error_of_ours(server: ThreadingHTTPServer, answer: bytes) -> None:
    handler: Any = server.RequestHandlerClass
    handler.settings["valid"] = "t"
    handler._registry = lambda self: self._answer(200, answer)
    with pytest.raises(ProtocolError):
        registry(server, token="t").text_for(1)


@pytest.mark.parametrize(
    "options", [{"token": "t", "username": "u"}, {"token": "t", "oauth": {"token_url": "http://t", "client_id": "c"}}]
)
def test_one_way_to_say_who_we_are(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        RegistryConfig.model_validate({"url": "http://r", **options})


def test_an_encrypted_key_never_asks_on_the_terminal(tmp_path: Path) -> None:
    files = Authority(tmp_path).issue("client", hosts=(), password=CANARY)
    program = f"""
import sys
from pycdc.config.kafka import RegistryConfig
from pycdc.errors import ConfigError
from pycdc.clients.schema_registry import SchemaRegistry
for password in (None, "wrong", "{CANARY}"):
    settings = {{"url": "https://localhost:1", "certificate": {str(files.certificate)!r}, "key": {str(files.key)!r}}}
    try:
        SchemaRegistry(RegistryConfig.model_validate({{**settings, "key_password": password}}))
    except ConfigError as error:
        print("refused", error.hint)
    else:
        print("taken")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
    )
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["refused", "refused", "taken"], done.stderr
    assert "pass phrase" not in done.stdout + done.stderr
    assert CANARY not in done.stdout + done.stderr


def test_a_certificate_of_an_unknown_authority_is_final_and_names_the_option(
    server: ThreadingHTTPServer, tmp_path: Path
) -> None:
    import ssl

    ours, theirs = Authority(tmp_path / "ours"), Authority(tmp_path / "theirs")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(theirs.issue("registry").both)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    url = f"https://127.0.0.1:{server.server_port}"
    settings = RegistryConfig.model_validate({"url": url, "ca": str(ours.certificate), "timeout": 30})
    with pytest.raises(EnvironmentNotReady, match="is not trusted") as caught:
        SchemaRegistry(settings).text_for(1)
    assert "registry.ca" in caught.value.hint
    with pytest.raises(ConfigError):
        SchemaRegistry(settings.model_copy(update={"ca": str(tmp_path / "nowhere.pem")}))
