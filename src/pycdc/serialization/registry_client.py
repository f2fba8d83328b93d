"""The calls of Confluent's REST API that are needed, over one connection that is kept open.

Not Confluent's own client: on import it loads what its OAuth needs, a quarter of a second and 15 MB, and pycdc offers
no OAuth. Proxies are the environment's (``HTTPS_PROXY``, ``NO_PROXY``), certificate authorities the system's.
"""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import urllib.request
from collections.abc import Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import SplitResult, quote, unquote, urlsplit

_TYPE: Final = "application/vnd.schemaregistry.v1+json"
_ACCEPT: Final = f"{_TYPE}, application/vnd.schemaregistry+json, application/json"
_PORTS: Final = {"http": 80, "https": 443}
PASSING: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
"""HTTP's codes of faults that may pass."""


class RegistryAnswer(Exception):
    """The registry said no: `status` is HTTP's code, `code` its own (-1 where it gave none)."""

    def __init__(self, status: int, code: int) -> None:
        super().__init__(f"HTTP {status} (code {code})")
        self.status = status
        self.code = code


class RegistryAway(Exception):
    """No answer came. The message has no credentials."""


class RegistryClient:
    """`url` may be several with commas between: the next is asked where one does not answer. Not thread-safe.

    Raises ValueError, OSError or ssl.SSLError for settings that cannot work; calls raise RegistryAnswer, RegistryAway,
    and ValueError where what answers is no JSON.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float,
        credentials: tuple[str, str] | None = None,
        ca: str | None = None,
        certificate: str | None = None,
        key: str | None = None,
    ) -> None:
        if key is not None and certificate is None:
            raise ValueError("a key without its certificate")
        parts = [urlsplit(one.strip()) for one in url.split(",")]
        context = _tls(ca, certificate, key) if any(one.scheme == "https" for one in parts) else None
        self._servers = [_Server(one, credentials, context, timeout) for one in parts]

    def register(self, subject: str, text: str) -> Any:
        """The id of the schema under the subject, whether new or known."""
        answer = self._ask("POST", f"/subjects/{_quoted(subject)}/versions?normalize=false", {"schema": text})
        return _member(answer, "id")

    def look_up(self, subject: str, text: str) -> Any:
        """The id of a schema that is known under the subject."""
        return _member(self._ask("POST", f"/subjects/{_quoted(subject)}?normalize=false", {"schema": text}), "id")

    def schema(self, schema_id: int) -> Any:
        """The schema's text."""
        return _member(self._ask("GET", f"/schemas/ids/{schema_id}"), "schema")

    def latest(self, subject: str) -> Any:
        """The text of the subject's latest version."""
        return _member(self._ask("GET", f"/subjects/{_quoted(subject)}/versions/latest"), "schema")

    def subjects(self) -> Any:
        return self._ask("GET", "/subjects")

    def close(self) -> None:
        for server in self._servers:
            server.close()

    def _ask(self, method: str, path: str, body: Mapping[str, str] | None = None) -> Any:
        for server in self._servers[:-1]:
            try:
                return server.ask(method, path, body)
            except RegistryAway:
                continue
            except RegistryAnswer as answer:
                if answer.status not in PASSING:
                    raise
        return self._servers[-1].ask(method, path, body)


class _Server:
    """One base URL, and the connection to it."""

    def __init__(
        self, url: SplitResult, credentials: tuple[str, str] | None, context: ssl.SSLContext | None, timeout: float
    ) -> None:
        if url.scheme not in _PORTS or not url.hostname:
            raise ValueError("not a URL with http:// or https:// and a host")
        if url.username is not None and credentials is not None:
            raise ValueError("credentials both in the URL and beside it")
        self._secure, self._host = url.scheme == "https", url.hostname
        self._port = url.port or _PORTS[url.scheme]
        self._context, self._timeout = context, timeout
        self._proxy = _proxy(url)
        self._path = url.path.rstrip("/")
        self._headers = {"Accept": _ACCEPT, "Content-Type": _TYPE}
        own = None if url.username is None else (unquote(url.username), unquote(url.password or ""))
        if credentials or own:
            self._headers["Authorization"] = _basic(*(credentials or own or ("", "")))
        if self._proxy is not None and not self._secure:
            self._path = f"http://{self._host}:{self._port}{self._path}"
            self._headers |= self._proxy.headers
        self._connection: http.client.HTTPConnection | None = None

    def ask(self, method: str, path: str, body: Mapping[str, str] | None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        kept = self._connection is not None
        try:
            status, answer = self._exchange(method, path, data)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            # A connection that was kept may have been closed by the server since; all calls can be made twice.
            if not kept or isinstance(error, TimeoutError):
                raise RegistryAway(_reason(error)) from None
            try:
                status, answer = self._exchange(method, path, data)
            except (OSError, http.client.HTTPException) as again:
                self.close()
                raise RegistryAway(_reason(again)) from None
        if not 200 <= status < 300:
            raise RegistryAnswer(status, _code(answer))
        return json.loads(answer)

    def _exchange(self, method: str, path: str, data: bytes | None) -> tuple[int, bytes]:
        if self._connection is None:
            self._connection = self._connected()
        self._connection.request(method, self._path + path, data, self._headers)
        response = self._connection.getresponse()
        return response.status, response.read()

    def _connected(self) -> http.client.HTTPConnection:
        host, port = (self._host, self._port) if self._proxy is None else (self._proxy.host, self._proxy.port)
        if not self._secure:
            return http.client.HTTPConnection(host, port, timeout=self._timeout)
        connection = http.client.HTTPSConnection(host, port, timeout=self._timeout, context=self._context)
        if self._proxy is not None:
            connection.set_tunnel(self._host, self._port, self._proxy.headers)
        return connection

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _tls(ca: str | None, certificate: str | None, key: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca)
    if certificate is not None:
        context.load_cert_chain(certificate, key)
    return context


class _Proxy(NamedTuple):
    host: str
    port: int
    headers: dict[str, str]


def _proxy(url: SplitResult) -> _Proxy | None:
    """The environment's proxy for this URL, where there is one and the host is not excepted."""
    found = urllib.request.getproxies().get(url.scheme)
    if not found or urllib.request.proxy_bypass(url.hostname or ""):
        return None
    parts = urlsplit(found if "://" in found else f"http://{found}")
    if not parts.hostname:
        return None
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    return _Proxy(parts.hostname, parts.port or 80, {"Proxy-Authorization": _basic(user, password)} if user else {})


def _basic(user: str, password: str) -> str:
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


def _quoted(subject: str) -> str:
    return quote(subject, safe="")


def _member(answer: Any, name: str) -> Any:
    """None where it is not there: whoever asked checks what came."""
    return answer.get(name) if isinstance(answer, dict) else None


def _code(answer: bytes) -> int:
    try:
        code = _member(json.loads(answer), "error_code")
    except ValueError:
        return -1
    return code if isinstance(code, int) else -1


def _reason(error: OSError | http.client.HTTPException) -> str:
    return str(error) or type(error).__name__
