"""What doctor says of connections in the clear, of superusers, and of positions that cannot be stored."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from pycdc.config.kafka import RegistryConfig
from pycdc.errors import EnvironmentNotReady
from pycdc.offsets.file import FileOffsetStore
from pycdc.operations.doctor.finding import FindingStatus as Status
from pycdc.operations.doctor.transport import kafka_findings, postgres_findings, registry_findings


@pytest.mark.parametrize(
    ("dsn", "said"),
    [
        ("host=db.internal", "in the clear"),
        ("host=db.internal sslmode=prefer", "in the clear"),
        ("postgresql://cdc@db.internal/shop?sslmode=disable", "in the clear"),
        ("host=db.internal sslmode=allow", "in the clear"),
        ("host=db.internal sslmode=require", "does not check which server"),
        ("host=localhost,db.internal sslmode=verify-ca", "does not check which server"),
        ("host=10.0.0.1", "in the clear"),
        ("host=db.internal sslmode=verify-full", None),
        ("host=localhost", None),
        ("host=127.0.0.1", None),
        ("host=/var/run/postgresql", None),
        ("dbname=shop", None),
        ("host=db hostaddr=127.0.0.1", None),
        ("no dsn", None),
    ],
)
def test_a_connection_to_postgres_that_need_not_be_encrypted_is_found(
    dsn: str, said: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PGHOST", "PGSSLMODE"):
        monkeypatch.delenv(name, raising=False)
    found = list(postgres_findings(SecretStr(dsn), "source.postgres.dsn"))
    assert [said in finding.title for finding in found if said] == ([True] if said else [])
    assert bool(found) is bool(said)


def test_the_environment_of_libpq_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGHOST", "db.internal")
    monkeypatch.delenv("PGSSLMODE", raising=False)
    assert len(list(postgres_findings(SecretStr("dbname=shop"), "p"))) == 1
    monkeypatch.setenv("PGSSLMODE", "verify-full")
    assert list(postgres_findings(SecretStr("dbname=shop"), "p")) == []


@pytest.mark.parametrize(
    ("brokers", "options", "said"),
    [
        ("kafka:9092", {}, ["in the clear"]),
        ("kafka:9092", {"security.protocol": "sasl_plaintext"}, ["in the clear"]),
        ("kafka:9092", {"security.protocol": "SASL_SSL"}, []),
        ("kafka:9092", {"security.protocol": "ssl", "enable.ssl.certificate.verification": False}, ["anybody"]),
        ("kafka:9092", {"security.protocol": "ssl", "ssl.endpoint.identification.algorithm": "none"}, ["anybody"]),
        ("localhost:9092,[::1]:9092,127.0.0.1:9092", {}, []),
        ("localhost:9092,kafka:9092", {}, ["in the clear"]),
    ],
)
def test_connections_to_brokers_in_the_clear_are_found(brokers: str, options: dict[str, Any], said: list[str]) -> None:
    found = list(kafka_findings(brokers, options, "sink.kafka"))
    assert [word in finding.title for word, finding in zip(said, found, strict=True)] == [True] * len(said)
    assert all(finding.status is Status.WARNING and finding.fix for finding in found)


@pytest.mark.parametrize(
    ("settings", "count"),
    [
        ({"url": "http://registry:8081"}, 0),
        ({"url": "http://registry:8081", "username": "u", "password": "hunter2canary"}, 1),
        ({"url": "http://u:hunter2canary@registry:8081"}, 1),
        ({"url": "http://registry:8081", "token": "hunter2canary"}, 1),
        ({"url": "https://registry:8081", "token": "hunter2canary"}, 0),
        ({"url": "http://localhost:8081", "token": "hunter2canary"}, 0),
        ({"url": "https://r", "oauth": {"token_url": "http://t/", "client_id": "c", "client_secret": "s"}}, 1),
    ],
)
def test_secrets_for_the_registry_in_the_clear_are_found(settings: dict[str, Any], count: int) -> None:
    found = list(registry_findings(RegistryConfig.model_validate(settings), "sink.kafka.registry"))
    assert len(found) == count
    assert "hunter2canary" not in repr(found)


def test_a_file_that_could_not_be_written_is_found_before_the_start(tmp_path: Path) -> None:
    FileOffsetStore(tmp_path / "new" / "folder" / "position").require_room()
    assert not (tmp_path / "new").exists()
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file" / "position"):
        with pytest.raises(EnvironmentNotReady, match="cannot write the offset file"):
            FileOffsetStore(path).require_room()
    if os.geteuid() != 0:
        (tmp_path / "closed").mkdir(mode=0o500)
        with pytest.raises(EnvironmentNotReady, match="is not writable"):
            FileOffsetStore(tmp_path / "closed" / "position").require_room()
