"""What librdkafka says of TLS is final on both sides, and what may pass is waited for."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaError

from pycdc.clients import kafka_errors as faults
from pycdc.clients.kafka_inspection import matching_topics
from pycdc.clients.kafka_settings import client_settings
from pycdc.clients.kafka_topics import TopicAdmin
from pycdc.config.kafka import KafkaSourceConfig, TopicsConfig
from pycdc.errors import ConnectionLost, EnvironmentNotReady
from pycdc.offsets.kafka import KafkaOffsetStore

FINAL = (
    "ssl://b:9093/bootstrap: SSL handshake failed: error:0A000086:SSL routines::certificate verify failed: broker …",
    "ssl://b:9093/1: error:0A000086:SSL routines::certificate verify failed (after 6ms in state SSL_HANDSHAKE)",
    "ssl://b:9093/1: Receive failed: SSL routines::tlsv13 alert certificate required: SSL alert number 116",
    "ssl://b:9093/1: SSL handshake failed: SSL routines::ssl/tls alert handshake failure: SSL alert number 40",
    "ssl://b:9093/1: SSL handshake failed: error:0A00010B:SSL routines::wrong version number",
)
PASSING = (
    "ssl://b:9093/1: SSL handshake failed: Disconnected: connection reset by peer: connecting to a PLAINTEXT broker?",
    "ssl://b:9093/bootstrap: Connect to ipv4#10.0.0.1:9093 failed: Connection refused (after 0ms in state CONNECT)",
    "ssl://b:9093/1: SSL transport error: EOF",
)


@pytest.mark.parametrize("words", FINAL)
def test_a_handshake_that_fails_each_time_is_final(words: str) -> None:
    error = KafkaError(KafkaError._TRANSPORT, words)
    late = KafkaError(KafkaError._MSG_TIMED_OUT)
    for ours in (
        faults.unreadable(error, "topic t"),
        faults.unreachable(error, "b:9093"),
        faults.undelivered(late, "t", words),
    ):
        assert type(ours) is EnvironmentNotReady
        assert "ssl.ca.location" in ours.hint


@pytest.mark.parametrize("words", PASSING)
def test_one_that_is_cut_short_may_succeed_later(words: str) -> None:
    error = KafkaError(KafkaError._TRANSPORT, words)
    assert type(faults.unreadable(error, "topic t")) is ConnectionLost
    assert type(faults.unreachable(error, "b:9093")) is ConnectionLost
    assert faults.undelivered(KafkaError(KafkaError._MSG_TIMED_OUT), "t", words).retry


@pytest.fixture
def wrong_ca(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """Options with a CA that the brokers' certificate is not of, and the address of one such broker."""
    for name in ("broker", "other"):
        files = ["-keyout", f"{tmp_path}/{name}.key", "-out", f"{tmp_path}/{name}.pem"]
        subject = ["-days", "2", "-subj", f"/CN={name}"]
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *files, *subject]
        subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "broker.pem", tmp_path / "broker.key")
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                peer, _ = server.accept()
            except OSError:
                return
            try:
                context.wrap_socket(peer, server_side=True).close()
            except OSError:
                peer.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    options = {"security.protocol": "ssl", "ssl.ca.location": f"{tmp_path}/other.pem"}
    yield {"brokers": f"127.0.0.1:{server.getsockname()[1]}", "options": options}
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join(120)


def sink(address: dict[str, Any]) -> dict[str, Any]:
    return client_settings(**address)


CLIENTS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "source": lambda at: matching_topics(KafkaSourceConfig(topics=["t"], **at)),
    "sink": lambda at: TopicAdmin(sink(at), TopicsConfig(), timeout=5).ensure("t"),
    "doctor": lambda at: TopicAdmin(sink(at), TopicsConfig()).cluster(),
    "offsets": lambda at: KafkaOffsetStore(sink(at), "t", "shop", TopicAdmin(sink(at), TopicsConfig())).load(),
}


@pytest.mark.slow
@pytest.mark.parametrize("client", CLIENTS)
def test_brokers_whose_certificate_is_of_another_authority_are_final_for_everybody(
    client: str, wrong_ca: dict[str, Any]
) -> None:
    with pytest.raises(EnvironmentNotReady, match="certificate verify failed") as met:
        CLIENTS[client](wrong_ca)
    assert "ssl.ca.location" in met.value.hint


def test_an_error_that_brokers_answer_with_is_looked_for_in_their_log() -> None:
    error = KafkaError(KafkaError.UNKNOWN)
    for told in (faults.unreachable(error, "b:9093"), faults.unreadable(error, "the brokers")):
        assert type(told) is ConnectionLost
        assert told.hint == "look for its cause in the brokers' log"
