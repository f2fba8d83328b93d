"""HTTP as the registry needs it: connections are kept, mended and led around what does not answer."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from pycdc.clients.registry_http import RegistryAnswer, RegistryAway, RegistryClient
from tests.proxy import Proxy

NOBODY = "http://127.0.0.1:1"
SCHEMA = '{"type": "string"}'


class Answers(BaseHTTPRequestHandler):
    """Says yes to everything, and keeps the connection."""

    protocol_version = "HTTP/1.1"
    seen: list[tuple[str, str | None]]

    def do_GET(self) -> None:
        self.seen.append((self.path, self.headers["Proxy-Authorization"]))
        self.send_response(200)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b'["a"]')

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (http.server's own name)
        """Silent."""


@pytest.fixture
def server() -> Iterator[HTTPServer]:
    handler = type("Handler", (Answers,), {"seen": []})
    server = HTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def client(url: str, **options: str) -> RegistryClient:
    return RegistryClient(url, timeout=10.0, **options)  # type: ignore[arg-type]


def test_one_connection_serves_many_calls_and_is_mended(registry_proxy: Proxy, topic_prefix: str) -> None:
    one = client(f"http://{registry_proxy.address}/apis/ccompat/v7")
    schema_id = one.register(f"{topic_prefix}-value", SCHEMA)
    assert one.look_up(f"{topic_prefix}-value", SCHEMA) == schema_id
    assert one.latest(f"{topic_prefix}-value") == one.schema(schema_id) == SCHEMA
    assert f"{topic_prefix}-value" in one.subjects()
    assert registry_proxy.accepted == 1
    registry_proxy.close_connections()
    assert one.schema(schema_id) == SCHEMA
    assert registry_proxy.accepted == 2
    one.close()


def test_an_answer_that_says_no_has_both_codes(registry_proxy: Proxy) -> None:
    one = client(f"http://{registry_proxy.address}/apis/ccompat/v7")
    with pytest.raises(RegistryAnswer) as caught:
        one.schema(2**31 - 1)
    assert (caught.value.status, caught.value.code) == (404, 40403)
    one.close()


def test_the_next_url_is_asked_where_one_does_not_answer(server: HTTPServer) -> None:
    one = client(f"{NOBODY}, http://127.0.0.1:{server.server_port}")
    assert one.subjects() == ["a"]
    one.close()


def test_nobody_there_is_told_without_credentials() -> None:
    with pytest.raises(RegistryAway) as caught:
        client("http://me:canary@127.0.0.1:1").subjects()
    assert "canary" not in str(caught.value)


def test_the_proxy_of_the_environment_is_used(server: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://me:secret@127.0.0.1:{server.server_port}")
    one = client("http://registry.internal:8081/api")
    assert one.subjects() == ["a"]
    one.close()
    seen = server.RequestHandlerClass.seen  # type: ignore[attr-defined]
    assert seen == [("http://registry.internal:8081/api/subjects", "Basic bWU6c2VjcmV0")]


def test_hosts_that_are_excepted_from_the_proxy_are_asked_directly(
    server: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", NOBODY)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    one = client(f"http://127.0.0.1:{server.server_port}")
    assert one.subjects() == ["a"]
    one.close()


def test_a_certificate_is_checked_against_the_authority_that_is_named(server: HTTPServer, tmp_path: Path) -> None:
    authority = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    url = f"https://127.0.0.1:{server.server_port}"
    trusting, doubting = client(url, ca=str(authority)), client(url)
    assert trusting.subjects() == ["a"]
    trusting.close()
    with pytest.raises(RegistryAway, match="certificate"):
        doubting.subjects()


@pytest.mark.parametrize("url", ["ftp://me:canary@registry", "registry:8081", "http://", "http://127.0.0.1:canary"])
def test_what_is_no_url_is_refused_at_once(url: str) -> None:
    with pytest.raises(ValueError, match=r"URL|Port"):
        client(url)


def test_a_key_needs_its_certificate() -> None:
    with pytest.raises(ValueError, match="certificate"):
        client("https://registry", key="key.pem")


def certificate(folder: Path) -> Path:
    """A file with a key and a certificate for 127.0.0.1 that vouches for itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "registry")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.IPv4Address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "registry.pem"
    plain = serialization.NoEncryption()
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path


def test_an_answer_that_does_not_come_in_time_is_waited_for_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        asked = RegistryClient(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout=0.2)
        with pytest.raises(RegistryAway, match="timed out"):
            asked.subjects()
        asked.close()
        silent.settimeout(1)
        silent.accept()[0].close()
        with pytest.raises(TimeoutError):
            silent.accept()
