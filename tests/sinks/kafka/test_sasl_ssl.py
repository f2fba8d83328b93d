"""Brokers with TLS that ask who we are: SCRAM, OAuth, and what is wrong about either."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from confluent_kafka.admin import ScramCredentialInfo, ScramMechanism, UserScramCredentialUpsertion

from pycdc.build.offsets import build_offsets
from pycdc.clients.kafka_settings import client_settings
from pycdc.clients.kafka_topics import TopicAdmin
from pycdc.config import validate_capture
from pycdc.config.pipeline import CapturePipeline
from pycdc.errors import PycdcError
from pycdc.interfaces import Checkpoint
from pycdc.model.change import Lsn, Position
from tests.authority import Authority
from tests.proxy import Proxy
from tests.services import kafka as kafka_service
from tests.services.availability import Unavailable
from tests.services.kafka import Kafka

pytestmark = pytest.mark.server

OAUTH = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub=x;"
SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule required;"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), rsa_keys=True)


@pytest.fixture(scope="module")
def secured(authority: Authority) -> Iterator[Kafka]:
    """A broker whose second listener is SASL_SSL, and knows user `writer`."""
    broker = kafka_service.launch(
        **{
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,PROXIED:SASL_SSL,CONTROLLER:PLAINTEXT",
            "listener.name.proxied.ssl.keystore.type": "PEM",
            "listener.name.proxied.ssl.keystore.location": str(authority.issue("broker", hosts=("127.0.0.1",)).both),
            "listener.name.proxied.sasl.enabled.mechanisms": "SCRAM-SHA-512,OAUTHBEARER",
            "listener.name.proxied.scram-sha-512.sasl.jaas.config": SCRAM,
            "listener.name.proxied.oauthbearer.sasl.jaas.config": OAUTH,
        }
    )
    if not isinstance(broker, Kafka):
        raise Unavailable("the broker is not ours to configure")
    credential = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
    change = UserScramCredentialUpsertion("writer", credential, b"right")
    admin = broker.admin()  # has to outlive its answer
    admin.alter_user_scram_credentials([change])["writer"].result()
    yield broker
    broker.close()


@pytest.fixture(scope="module")
def door(secured: Kafka) -> Iterator[Proxy]:
    with secured.proxy() as proxy:
        yield proxy


def offsets_of(door: Proxy, name: str, options: dict[str, Any]) -> CapturePipeline:
    """A pipeline without a Kafka sink, whose position is in this Kafka."""
    return validate_capture(
        {
            "name": name,
            "source": {"postgres": {"dsn": "host=db"}},
            "sink": {"console": {}},
            "offsets": {"kafka": {"brokers": door.address, "options": options}},
        }
    )


def stores(config: CapturePipeline) -> None:
    store = build_offsets(config)
    try:
        assert store.load() is None
        stored = Checkpoint(Position(Lsn(7)), source={"slot": "s"})
        store.store(stored)
        assert build_offsets(config).load() == stored
    finally:
        store.close()


def scram(authority: Authority, **options: Any) -> dict[str, Any]:
    return {
        "security.protocol": "SASL_SSL",
        "ssl.ca.location": str(authority.certificate),
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "writer",
        "sasl.password": "right",
        **options,
    }


def test_offsets_in_a_kafka_of_their_own_go_by_sasl_ssl_with_scram(
    door: Proxy, authority: Authority, topic_prefix: str
) -> None:
    config = offsets_of(door, topic_prefix, scram(authority))
    assert "right" not in repr(config)
    stores(config)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sasl.password": "hunter2canary"}, "uthentication failed"),
        ({"ssl.ca.location": "theirs"}, "certificate"),
        ({"security.protocol": "SASL_PLAINTEXT"}, ""),
    ],
    ids=["password", "authority", "no TLS"],
)
def test_doctor_names_what_is_wrong(
    door: Proxy, authority: Authority, tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    if "ssl.ca.location" in options:
        options = {"ssl.ca.location": str(Authority(tmp_path / "theirs", rsa_keys=True).certificate)}
    document = {
        "name": "shop",
        "source": {"postgres": {"dsn": "host=db"}},
        "sink": {"kafka": {"brokers": door.address, "format": "json", "options": scram(authority, **options)}},
    }
    sink = validate_capture(document).sink.kafka
    assert sink is not None
    with pytest.raises(PycdcError) as caught:
        TopicAdmin(client_settings(sink.brokers, sink.options), sink.topics).cluster()
    assert words in caught.value.fact
    assert caught.value.hint
    assert "hunter2canary" not in str(caught.value)


class Tokens(BaseHTTPRequestHandler):
    """Gives unsigned tokens, which the broker's own handler takes."""

    asked: list[tuple[str | None, dict[str, list[str]]]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.asked.append((self.headers["Authorization"], parse_qs(body)))
        claims = {"sub": "writer", "iat": time.time() - 10, "exp": time.time() + 3600, "scope": "kafka"}
        token = ".".join(_part(each) for each in ({"alg": "none"}, claims)) + "."
        data = json.dumps({"access_token": token, "token_type": "Bearer", "expires_in": 3600}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (http.server's own name)
        """Silent."""


def _part(claims: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")


@pytest.fixture
def tokens() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Tokens,), {"asked": []}))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_token_of_oauth_lets_us_in(
    door: Proxy, authority: Authority, topic_prefix: str, tokens: ThreadingHTTPServer
) -> None:
    options = {
        "security.protocol": "SASL_SSL",
        "ssl.ca.location": str(authority.certificate),
        "sasl.mechanism": "OAUTHBEARER",
        "sasl.oauthbearer.method": "oidc",
        "sasl.oauthbearer.token.endpoint.url": f"http://127.0.0.1:{tokens.server_port}/token",
        "sasl.oauthbearer.client.id": "pycdc",
        "sasl.oauthbearer.client.secret": "hunter2canary",
        "sasl.oauthbearer.scope": "kafka",
    }
    config = offsets_of(door, topic_prefix, options)
    assert "hunter2canary" not in repr(config)
    stores(config)
    handler: Any = tokens.RequestHandlerClass
    name = base64.b64encode(b"pycdc:hunter2canary").decode()
    assert handler.asked[0] == (f"Basic {name}", {"grant_type": ["client_credentials"], "scope": ["kafka"]})
