"""The calls of Confluent's REST API that are needed, by urllib3, over a connection that is kept open.

Not Confluent's own client: on import it loads what its OAuth needs, a quarter of a second and 15 MB. Proxies are the
environment's (``HTTPS_PROXY``, ``NO_PROXY``), certificate authorities the system's.
"""

from __future__ import annotations

import json
import ssl
import urllib.request
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final
from urllib.parse import SplitResult, quote, unquote, urlsplit, urlunsplit

import urllib3

from pycdc.clients.registry_tokens import Bearer, ClientCredentials, GivenToken
from pycdc.config.kafka import RegistryConfig

_TYPE: Final = "application/vnd.schemaregistry.v1+json"
_ACCEPT: Final = f"{_TYPE}, application/vnd.schemaregistry+json, application/json"
_SCHEMES: Final = ("http", "https")
_UNAUTHORIZED: Final = 401
_LONGEST: Final = 64 * 1024 * 1024
"""Bytes of an answer: lists of subjects are the longest."""
PASSING: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
"""HTTP's codes of faults that may pass."""


class RegistryAnswer(Exception):
    """The registry said no: `status` is HTTP's code, `code` its own (-1 where it gave none)."""

    def __init__(self, status: int, code: int) -> None:
        super().__init__(f"HTTP {status} (code {code})")
        self.status = status
        self.code = code


class RegistryAway(Exception):
    """No answer came. The message has no credentials. `distrusted`: TLS failed, which another attempt does not mend."""

    def __init__(self, reason: str, *, distrusted: bool = False) -> None:
        super().__init__(reason)
        self.distrusted = distrusted


class RegistryClient:
    """`url` may be several with commas between: the next is asked where one does not answer. Not thread-safe.

    Raises ValueError, OSError or ssl.SSLError for settings that cannot work; calls raise RegistryAnswer, RegistryAway,
    TokenRefused, and ValueError where what answers is no JSON, or too much of it.
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
        key_password: str | None = None,
        bearer: Callable[[urllib3.PoolManager], Bearer] | None = None,
        token_url: str | None = None,
    ) -> None:
        """`bearer` makes what has the tokens, of a pool for `token_url`."""
        if key is not None and certificate is None:
            raise ValueError("a key without its certificate")
        parts = [urlsplit(one.strip()) for one in url.split(",")]
        asked = [*parts, urlsplit(token_url or "")]
        secure = any(one.scheme == "https" for one in asked)
        context = _tls(ca, certificate, key, key_password) if secure else None
        tokens = None if bearer is None else bearer(_pool(asked[-1], context, timeout))
        self._servers = [_Server(one, credentials, tokens, context, timeout) for one in parts]

    def register(self, subject: str, text: str) -> Any:
        """Return the id of the schema under the subject, whether new or known."""
        answer = self._ask("POST", f"/subjects/{_quoted(subject)}/versions?normalize=false", {"schema": text})
        return _member(answer, "id")

    def look_up(self, subject: str, text: str) -> Any:
        """Return the id of a schema that is known under the subject."""
        return _member(self._ask("POST", f"/subjects/{_quoted(subject)}?normalize=false", {"schema": text}), "id")

    def schema(self, schema_id: int) -> Any:
        """Return the schema's text."""
        return _member(self._ask("GET", f"/schemas/ids/{schema_id}"), "schema")

    def latest(self, subject: str) -> Any:
        """Return the text of the subject's latest version."""
        return _member(self._ask("GET", f"/subjects/{_quoted(subject)}/versions/latest"), "schema")

    def level(self, subject: str) -> Any:
        """Return the subject's own compatibility level. Apicurio returns NONE where there is none, Confluent 404."""
        return _member(self._ask("GET", f"/config/{_quoted(subject)}"), "compatibilityLevel")

    def set_level(self, subject: str, level: str) -> None:
        self._ask("PUT", f"/config/{_quoted(subject)}", {"compatibility": level})

    def drop_level(self, subject: str) -> None:
        """Leave the subject to the level that holds for all."""
        self._ask("DELETE", f"/config/{_quoted(subject)}")

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


def client_of(settings: RegistryConfig) -> RegistryClient:
    """Return the client for the settings of a configuration. Raises what `RegistryClient` does."""
    credentials = None
    if settings.username is not None:
        credentials = (settings.username, settings.password.get_secret_value() if settings.password else "")
    return RegistryClient(
        settings.url,
        timeout=settings.timeout,
        credentials=credentials,
        ca=settings.ca,
        certificate=settings.certificate,
        key=settings.key,
        key_password=settings.key_password.get_secret_value() if settings.key_password else None,
        bearer=partial(_bearer, settings) if settings.token or settings.oauth else None,
        token_url=settings.oauth.token_url if settings.oauth else None,
    )


def _bearer(settings: RegistryConfig, pool: urllib3.PoolManager) -> Bearer:
    if settings.token is not None:
        return GivenToken(settings.token.get_secret_value())
    oauth = settings.oauth
    assert oauth is not None
    chosen = {"scope": oauth.scope, "audience": oauth.audience}
    client = (oauth.client_id, oauth.client_secret.get_secret_value())
    return ClientCredentials(oauth.token_url, client, {name: text for name, text in chosen.items() if text}, pool)


def without_credentials(url: str) -> str:
    """Return one URL, or several with commas between, without user and password."""

    def clean(one: str) -> str:
        parts = urlsplit(one.strip())
        return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])).rstrip("/")

    return ",".join(clean(one) for one in url.split(","))


class _Server:
    """One base URL, and the connection to it."""

    def __init__(
        self,
        url: SplitResult,
        credentials: tuple[str, str] | None,
        bearer: Bearer | None,
        context: ssl.SSLContext | None,
        timeout: float,
    ) -> None:
        if url.scheme not in _SCHEMES or not url.hostname:
            raise ValueError("not a URL with http:// or https:// and a host")
        if url.username is not None and (credentials is not None or bearer is not None):
            raise ValueError("credentials both in the URL and beside it")
        host = f"[{url.hostname}]" if ":" in url.hostname else url.hostname
        port = "" if url.port is None else f":{url.port}"
        self._base = f"{url.scheme}://{host}{port}{url.path.rstrip('/')}"
        own = None if url.username is None else (unquote(url.username), unquote(url.password or ""))
        name = credentials or own
        self._headers = {"Accept": _ACCEPT, "Content-Type": _TYPE}
        if name is not None:
            self._headers |= urllib3.make_headers(basic_auth=":".join(name))
        self._bearer = bearer
        self._pool = _pool(url, context, timeout)

    def ask(self, method: str, path: str, body: Mapping[str, str] | None) -> Any:
        data = None if body is None else json.dumps(body)
        try:
            status, answer = self._exchange(method, path, data)
            if status == _UNAUTHORIZED and self._bearer is not None:
                # The token may have been withdrawn before its end.
                status, answer = self._exchange(method, path, data, fresh=True)
        except urllib3.exceptions.HTTPError as error:
            raise RegistryAway(_reason(error), distrusted=_distrusted(error)) from None
        if not 200 <= status < 300:
            raise RegistryAnswer(status, _code(answer))
        return _parsed(answer)

    def _exchange(self, method: str, path: str, data: str | None, *, fresh: bool = False) -> tuple[int, bytes]:
        """Status and body."""
        headers = dict(self._headers)
        if self._bearer is not None:
            headers["Authorization"] = f"Bearer {self._bearer.token(fresh=fresh)}"
        try:
            return self._once(method, path, data, headers)
        except urllib3.exceptions.ProtocolError:
            # A connection that was kept may have been closed by the server since; all calls can be made twice.
            return self._once(method, path, data, headers)

    def _once(self, method: str, path: str, data: str | None, headers: dict[str, str]) -> tuple[int, bytes]:
        response = self._pool.request(
            method, self._base + path, body=data, headers=headers, retries=_RETRIES, preload_content=False
        )
        answer = response.read(_LONGEST + 1)
        if len(answer) > _LONGEST:
            response.close()
            raise ValueError("an answer that is too long")
        response.release_conn()
        return response.status, answer

    def close(self) -> None:
        self._pool.clear()


_RETRIES: Final = urllib3.Retry(connect=False, read=False, status=False, other=False, redirect=3)
"""None, and errors as they are: an answer that did not come in time is not waited for twice."""


def _pool(url: SplitResult, context: ssl.SSLContext | None, timeout: float) -> urllib3.PoolManager:
    proxy = urllib.request.getproxies().get(url.scheme)
    if not proxy or urllib.request.proxy_bypass(url.hostname or ""):
        return urllib3.PoolManager(ssl_context=context, timeout=timeout)
    parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    name = None if not parts.username else f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    headers = urllib3.make_headers(proxy_basic_auth=name)
    address = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    return urllib3.ProxyManager(address, proxy_headers=headers, ssl_context=context, timeout=timeout)


def _tls(ca: str | None, certificate: str | None, key: str | None, password: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca)
    if certificate is not None:
        # Without one, OpenSSL would ask for the password of an encrypted key on the terminal.
        context.load_cert_chain(certificate, key, password or "")
    return context


def _parsed(answer: bytes) -> Any:
    try:
        return json.loads(answer)
    except RecursionError:
        raise ValueError("an answer that is nested too deeply") from None


def _quoted(subject: str) -> str:
    return quote(subject, safe="")


def _member(answer: Any, name: str) -> Any:
    """Return a member of an answer; None where it is not there: the caller checks what came."""
    return answer.get(name) if isinstance(answer, dict) else None


def _code(answer: bytes) -> int:
    try:
        code = _member(_parsed(answer), "error_code")
    except ValueError:
        return -1
    return code if isinstance(code, int) else -1


def _distrusted(error: BaseException | None) -> bool:
    """Whether the peer's certificate is why."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        inner = getattr(error, "reason", None)
        error = inner if isinstance(inner, BaseException) else error.__cause__ or error.__context__
    return False


def _reason(error: urllib3.exceptions.HTTPError) -> str:
    """Return what the network or TLS reported, without urllib3's words around it."""
    cause = getattr(error, "reason", None) or error
    inner = cause.__cause__ or next((each for each in cause.args if isinstance(each, Exception)), None)
    return str(inner or cause).rpartition("): ")[2] or type(cause).__name__
