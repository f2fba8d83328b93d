"""A certificate authority for tests: certificates for hosts and clients, right ones and wrong ones."""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

_PEM = serialization.Encoding.PEM
_DAY = datetime.timedelta(days=1)


@dataclass(frozen=True)
class Files:
    """A certificate and its key, each in a file of its own, and both in one."""

    certificate: Path
    key: Path
    both: Path


class Authority:
    """Its own certificate is in `certificate`. Keys are elliptic, or RSA where Java wants to read them."""

    def __init__(self, folder: Path, name: str = "authority", *, rsa_keys: bool = False) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._rsa = rsa_keys
        self._key = self._new_key()
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        self._serial = 1
        made = self._builder(self._name, self._key, _DAY).add_extension(x509.BasicConstraints(True, None), True)
        self.certificate = folder / f"{name}.crt"
        self.certificate.write_bytes(made.sign(self._key, hashes.SHA256()).public_bytes(_PEM))

    def issue(
        self,
        name: str,
        *,
        hosts: tuple[str, ...] = ("localhost", "127.0.0.1"),
        expired: bool = False,
        password: str | None = None,
    ) -> Files:
        """For a server at `hosts`, or for a client called `name`. `password` encrypts the key."""
        key = self._new_key()
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        builder = self._builder(subject, key, -_DAY if expired else _DAY)
        if hosts:
            builder = builder.add_extension(x509.SubjectAlternativeName([_general(host) for host in hosts]), False)
        certificate = builder.sign(self._key, hashes.SHA256()).public_bytes(_PEM)
        encryption = serialization.BestAvailableEncryption(password.encode()) if password else None
        private = key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, encryption or serialization.NoEncryption())
        files = Files(*(self._folder / f"{name}{end}" for end in (".crt", ".key", ".pem")))
        files.certificate.write_bytes(certificate)
        files.key.write_bytes(private)
        files.both.write_bytes(private + certificate)
        files.key.chmod(0o600)
        files.both.chmod(0o600)
        return files

    def _builder(self, subject: x509.Name, key: object, life: datetime.timedelta) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        self._serial += 1
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())  # type: ignore[attr-defined]
            .serial_number(self._serial)
            .not_valid_before(now - 2 * _DAY)
            .not_valid_after(now + life)
        )

    def _new_key(self) -> ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey:
        return rsa.generate_private_key(65537, 2048) if self._rsa else ec.generate_private_key(ec.SECP256R1())


def _general(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
