"""The key that signs signals sent through the WAL, and what is signed: a signal in its own transaction.

Anybody who may connect writes logical messages, and whoever may replicate reads them. So the key is no password of a
role and nothing that can be derived from what a stranger knows: it is `signals.key`, or 32 random bytes that the
pipeline makes once and keeps with its position. The number of the transaction that carries a signal is signed too: a
copy of a message comes in another transaction.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from pycdc.config.pipeline import CapturePipeline
from pycdc.connectors.postgres.replication.control_message import TransactionTime
from pycdc.errors import EnvironmentNotReady

KEPT: Final = "signals_key"
"""In `Checkpoint.source`."""
_BYTES: Final = 32
_XID: Final = 0xFFFFFFFF
_FRESH: Final = 3600.0
"""Seconds between signing and commit, both by the server's clock: transaction numbers come again after 4 billion."""


class SigningKey:
    """The key of a running pipeline; there from `take` on."""

    def __init__(self, config: CapturePipeline) -> None:
        self._config = config
        self._kept: Mapping[str, Any] = {}

    def take(self, stored: Mapping[str, Any] | None) -> dict[str, str]:
        """Use what a checkpoint's source holds, or a new key; return what the next checkpoint's is to hold."""
        if self._config.signals.key is not None:
            return {}
        known = _kept_key((stored or {}).get(KEPT)) or _kept_key(self._kept.get(KEPT))
        found = {KEPT: (known or secrets.token_bytes(_BYTES)).hex()}
        self._kept = found
        return found

    @property
    def value(self) -> bytes:
        return key_of(self._config, self._kept)


def key_of(config: CapturePipeline, stored: Mapping[str, Any] | None) -> bytes:
    """Return the key of `config`'s pipeline, whose last checkpoint's source is `stored`. Raises EnvironmentNotReady."""
    if config.signals.key is not None:
        return _stretched(config.signals.key.get_secret_value(), config.slot)
    found = _kept_key((stored or {}).get(KEPT))
    if found is None:
        raise EnvironmentNotReady(
            f"there is no key to sign signals for pipeline {config.name} with",
            hint="run the pipeline once, which makes one and keeps it with its position; where no position is stored "
            "(`offsets`), set signals.key in the pipeline's configuration and here",
        )
    return found


def _kept_key(text: object) -> bytes | None:
    try:
        found = bytes.fromhex(text) if isinstance(text, str) else b""
    except ValueError:
        return None
    return found if len(found) == _BYTES else None


@lru_cache(maxsize=64)
def _stretched(secret: str, slot: str) -> bytes:
    """Stretch a secret, which may be short while signatures can be tried on: 16 MB and some 50 ms for each attempt."""
    salt = f"pycdc.signals\0{slot}".encode()
    return hashlib.scrypt(secret.encode("utf-8", "surrogatepass"), salt=salt, n=2**14, r=8, p=1, dklen=_BYTES)


def digest(body: str, key: bytes) -> str:
    return hmac.new(key, b"pycdc.snapshot\0" + encoded(body), hashlib.sha256).hexdigest()


def same(one: str, other: str) -> bool:
    """Compare in constant time."""
    return hmac.compare_digest(encoded(one), encoded(other))


def belongs(signed: object, at: object, moment: TransactionTime) -> bool:
    """Return whether what was signed for a transaction came in it."""
    if type(signed) is not int or type(at) not in (int, float):
        return False
    return signed & _XID == moment.xid & _XID and abs(moment.at - float(at)) <= _FRESH  # type: ignore[arg-type]


def encoded(text: str) -> bytes:
    """Encode any text that JSON can spell, also what is no Unicode."""
    return text.encode("utf-8", "surrogatepass")
