"""What goes over the network in the clear, and roles that may do more than a pipeline needs."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from pydantic import SecretStr

from pycdc.clients.postgres import parameters
from pycdc.clients.quoting import quoted
from pycdc.config.kafka import RegistryConfig
from pycdc.errors import ConfigError
from pycdc.operations.doctor.finding import Finding, warning
from pycdc.printable import lines

_CHECKS_OFF: Final = (
    ("enable.ssl.certificate.verification", "false"),
    ("ssl.endpoint.identification.algorithm", "none"),
)
_UNCHECKED: Final = ("require", "verify-ca")
_VERIFY: Final = "add sslmode=verify-full sslrootcert=/etc/ssl/ca.pem (or sslrootcert=system) to it: docs/tls.md"


def postgres_findings(dsn: SecretStr, path: str) -> Iterator[Finding]:
    """Check whether the DSN insists on TLS, and on the right server. A socket and this machine need none."""
    try:
        found = parameters(dsn.get_secret_value(), path)
    except ConfigError:
        return  # connecting says what is wrong
    hosts = str(found.get("hostaddr") or found.get("host") or os.environ.get("PGHOST", "")).split(",")
    if all(_is_here(host) for host in hosts):
        return
    mode = str(found.get("sslmode") or os.environ.get("PGSSLMODE", "prefer"))
    if mode in _UNCHECKED:
        yield warning(f"sslmode={mode} does not check which server answers", path=path, fix=_VERIFY)
    elif mode != "verify-full":
        yield warning(
            f"sslmode={mode} lets the connection go over the network in the clear",
            "rows, and with some authentication methods the password",
            path=path,
            fix=_VERIFY,
        )


def kafka_findings(brokers: str, options: Mapping[str, Any], path: str) -> Iterator[Finding]:
    """Check whether connections to the brokers are encrypted, and to whom."""
    if all(_is_here(one.strip().rpartition(":")[0].strip("[]")) for one in brokers.split(",")):
        return
    protocol = str(options.get("security.protocol", "PLAINTEXT")).upper()
    if protocol == "SASL_PLAINTEXT":
        yield warning(
            "records, and with PLAIN or OAUTHBEARER what proves who we are, go to the brokers in the clear",
            f"security.protocol is {protocol}",
            path=f"{path}.options",
            fix=lines("security.protocol: SASL_SSL", "ssl.ca.location: /etc/ssl/ca.pem"),
        )
    elif protocol == "PLAINTEXT":
        yield warning(
            "records go to the brokers in the clear, and anybody may be a broker",
            path=f"{path}.options",
            fix=lines("security.protocol: SSL", "ssl.ca.location: /etc/ssl/ca.pem"),
        )
    for name, off in _CHECKS_OFF:
        if str(options.get(name, "")).lower() == off:
            yield warning(f"{name} is {off}: anybody may be a broker", path=f"{path}.options", fix=f"remove {name}")


def registry_findings(registry: RegistryConfig | None, path: str) -> Iterator[Finding]:
    """Secrets that are sent without TLS."""
    if registry is None:
        return
    secret = registry.username is not None or registry.token is not None
    for one in registry.url.split(","):
        parts = urlsplit(one.strip())
        has_secret = secret or registry.oauth is not None or parts.username is not None
        if parts.scheme == "http" and has_secret and not _is_here(parts.hostname or ""):
            yield warning(
                "a password or token goes to the registry in the clear", path=f"{path}.url", fix="use https:// and `ca`"
            )
    if registry.oauth is not None:
        parts = urlsplit(registry.oauth.token_url)
        if parts.scheme == "http" and not _is_here(parts.hostname or ""):
            yield warning(
                "the client's secret goes over the network in the clear",
                path=f"{path}.oauth.token_url",
                fix="use https:// and `ca`",
            )


def superuser_finding(role: str, path: str, needed: str) -> Finding:
    """`needed` is what the role should have instead."""
    return warning(
        f"role {role} is a superuser",
        "whoever gets its password, or has it run SQL, has the server",
        path=path,
        fix=lines(
            f"ALTER ROLE {quoted(role)} NOSUPERUSER;", f"-- and give it {needed}: docs/operations.md#permissions"
        ),
    )


def _is_here(host: str) -> bool:
    if not host or host.startswith(("/", "@")) or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
