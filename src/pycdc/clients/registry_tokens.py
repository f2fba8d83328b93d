"""Bearer tokens for the registry: one that is given, or those of OAuth's client credentials grant (RFC 6749, 4.4)."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Final, Protocol
from urllib.parse import quote, urlencode, urlsplit

import urllib3

_EARLY: Final = 30.0
"""Seconds before its end that a token counts as expired; a short one is used for half its life."""
_LIFE: Final = 300.0
"""Of a token that does not tell."""
_LONGEST: Final = 65_536


class TokenRefused(Exception):
    """The token's server said no. `reason` has no secret."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class Bearer(Protocol):
    def token(self, *, fresh: bool = False) -> str:
        """`fresh`: not the one that was just refused."""


class GivenToken:
    def __init__(self, token: str) -> None:
        self._token = token

    def token(self, *, fresh: bool = False) -> str:
        return self._token


class ClientCredentials:
    """Asks `url` for tokens, and keeps each for as long as it holds. Thread-safe.

    Raises TokenRefused and urllib3's HTTPError.
    """

    def __init__(
        self,
        url: str,
        client: tuple[str, str],
        parameters: dict[str, str],
        pool: urllib3.PoolManager,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
            raise ValueError("not a URL with http:// or https:// and a host")
        self._url = url
        name = ":".join(quote(part, safe="") for part in client)
        self._headers = {
            **urllib3.make_headers(basic_auth=name),
            "Accept": "application/json",
            "Content-Type": "application/x-www-form-urlencoded",
        }
        self._body = urlencode({"grant_type": "client_credentials", **parameters})
        self._pool = pool
        self._now = now
        self._lock = threading.Lock()
        self._token = ""
        self._until = 0.0

    def token(self, *, fresh: bool = False) -> str:
        with self._lock:
            if fresh or not self._token or self._now() >= self._until:
                self._token, life = self._ask()
                self._until = self._now() + max(life - _EARLY, life / 2)
            return self._token

    def _ask(self) -> tuple[str, float]:
        response = self._pool.request(
            "POST", self._url, body=self._body, headers=self._headers, redirect=False, retries=False
        )
        try:
            document = json.loads(response.data[:_LONGEST])
        except (ValueError, RecursionError):
            document = None
        answer = document if isinstance(document, dict) else {}
        token, life = answer.get("access_token"), answer.get("expires_in", _LIFE)
        if response.status != 200 or not isinstance(token, str) or not token.isascii() or not token.isprintable():
            reason = answer.get("error")
            raise TokenRefused(response.status, reason[:64] if isinstance(reason, str) else "no token in the answer")
        return token, float(life) if type(life) in (int, float) and 0 < life < 1e9 else _LIFE
