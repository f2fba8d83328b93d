"""Serve what the pipeline reports over HTTP.

`/metrics`, `/status` and `/healthz` are for Prometheus and scripts, `/livez` and `/readyz` for probes, and a page at
`/` shows `/status` to people. Where there is a migration, `/migration` shows it, and `/gates/GROUP` is for others.

Nothing else is served, and nothing to anybody else: on a loopback address the Host header must name this machine, so
that no web page in a browser here can read the answers through a name of its own (DNS rebinding); beyond loopback a
token is needed. Probes need none, and learn no more than yes or no; nor do the pages, which hold no data and ask for
the token themselves. What changes something needs a token on loopback too.

Whoever reaches the port may open connections and say nothing. So there are few at a time: for a new one the oldest has
to go, and none lives longer than a request may take. The pipeline's own descriptors stay free.
"""

from __future__ import annotations

import contextlib
import errno
import hmac
import ipaddress
import logging
import re
import socket
import threading
import time
from functools import cached_property
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from pycdc.config.runtime import HttpConfig
from pycdc.errors import EnvironmentNotReady
from pycdc.observability import served_migration
from pycdc.observability.health import judge
from pycdc.observability.page_files import PAGES, content_policy, page_file
from pycdc.observability.progress import Progress
from pycdc.observability.report import report
from pycdc.observability.served_migration import HttpAnswer, ServedMigration, as_json

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

log = logging.getLogger(__name__)

_REQUEST_SECONDS = 10.0
"""For all of a request, however slowly it comes."""
_MOST_CONNECTIONS = 32
_PAUSE = 0.1
"""Seconds after a connection that could not be taken: the process is out of descriptors."""
_PROBES = ("/livez", "/readyz")
_PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
_MOST_BODY = 4096


class StatusServer:
    """Listens from construction until `close`, on a thread of its own. Raises EnvironmentNotReady where it cannot."""

    def __init__(
        self, settings: HttpConfig, progress: Progress, name: str = "", migration: ServedMigration | None = None
    ) -> None:
        self._settings = settings
        self._migration = migration
        self._name = name
        self._progress = progress
        self._server = _listen(settings, self)
        self._thread = threading.Thread(target=self._server.serve_forever, name="pycdc-http", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Where it listens; with the port that was found free where the configuration says 0."""
        host, port = self._server.server_address[:2]
        name = str(host)
        return f"http://{f'[{name}]' if ':' in name else name}:{port}"

    def close(self) -> None:
        """Stop listening. Idempotent."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> StatusServer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def answer(self, path: str) -> HttpAnswer:
        """Answer GET."""
        if path == "/metrics":
            return HTTPStatus.OK, _PROMETHEUS, self._exposition()
        if path == "/healthz":
            health = judge(self._progress, self._settings.unhealthy_after)
            status = HTTPStatus.OK if health.healthy else HTTPStatus.SERVICE_UNAVAILABLE
            return as_json(status, health.as_json())
        if path in _PROBES:
            return self._probe(path)
        if path == "/status":
            named = {"name": self._name} if self._name else {}
            served = {} if self._migration is None else {"migration": True}
            return as_json(HTTPStatus.OK, named | report(self._progress) | served)
        if path in PAGES:
            name, kind = PAGES[path]
            return HTTPStatus.OK, kind, page_file(name)
        if self._migration is not None:
            found = served_migration.answer(self._migration, path, acts=self._settings.token is not None)
            if found is not None:
                return found
        return as_json(HTTPStatus.NOT_FOUND, {"error": "there are /, /metrics, /status, /healthz, /livez and /readyz"})

    def act(self, path: str, body: bytes) -> HttpAnswer:
        """Answer POST of a request that was not refused."""
        assert self._migration is not None
        return served_migration.act(self._migration, path, body)

    def takes_commands(self, path: str) -> bool:
        return self._migration is not None and served_migration.takes_commands(path)

    def _probe(self, path: str) -> HttpAnswer:
        """Alive: only a stopped pipeline is not; a restart mends no server that is away. Ready: as `/healthz` says."""
        if path == "/livez":
            good = self._progress.state != "stopped"
        else:
            good = judge(self._progress, self._settings.unhealthy_after).healthy
        status = HTTPStatus.OK if good else HTTPStatus.SERVICE_UNAVAILABLE
        return as_json(status, {path.strip("/").removesuffix("z"): good})

    def _exposition(self) -> bytes:
        # Imported when first asked for: many pipelines never are, and starting should not wait for it.
        from pycdc.observability.metrics import exposition

        return exposition(self._registry)

    @cached_property
    def _registry(self) -> CollectorRegistry:
        from pycdc.observability.metrics import registry

        return registry(self._progress)

    def refusal(
        self, path: str, host: str | None, authorization: str | None, *, changes: bool = False
    ) -> tuple[HTTPStatus, str] | None:
        """Why a request with these headers is not answered. `changes`: it asks for more than to look."""
        if is_loopback(self._settings.host) and not _names_this_machine(host):
            return HTTPStatus.MISDIRECTED_REQUEST, "the Host header does not name this machine"
        token = self._settings.token
        if token is None and changes:
            return HTTPStatus.FORBIDDEN, "without http.token nothing can be changed here"
        if token is None or (not changes and path in (*_PROBES, *PAGES, served_migration.PAGE)):
            return None
        if not _is_bearer(authorization or "", token.get_secret_value()):
            return HTTPStatus.UNAUTHORIZED, "send `Authorization: Bearer …` with the token"
        return None


def _is_bearer(authorization: str, token: str) -> bool:
    """Headers are read as Latin-1; clients write them in that or, most of them, in UTF-8."""
    sent = authorization.encode("latin-1", "replace")
    expected = {f"Bearer {token}".encode()}
    with contextlib.suppress(UnicodeEncodeError):
        expected.add(f"Bearer {token}".encode("latin-1"))
    found = [hmac.compare_digest(sent, one) for one in expected]  # all of them: the time tells nothing
    return any(found)


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _names_this_machine(header: str | None) -> bool:
    if header is None:
        return False
    host = re.sub(r":\d+$", "", header.strip()).strip("[]").lower()
    return is_loopback(host)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    owner: StatusServer

    def __init__(self, address: tuple[str, int]) -> None:
        self._open: dict[socket.socket, float] = {}
        self._opened = threading.Lock()
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        # A port whose last connections are in TIME_WAIT is free: one that is listened on is refused all the same.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # HTTPServer's own asks the name service for this machine's name, which may take seconds.
        socket.socket.bind(self.socket, self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def get_request(self) -> tuple[socket.socket, Any]:
        try:
            connection, address = super().get_request()
        except OSError:
            time.sleep(_PAUSE)
            raise
        with self._opened:
            self._open[connection] = time.monotonic()
            oldest = next(iter(self._open)) if len(self._open) > _MOST_CONNECTIONS else None
        if oldest is not None:
            self._end(oldest)
        return connection, address

    def service_actions(self) -> None:
        """End connections that send no request; `socketserver` calls this twice a second."""
        limit = time.monotonic() - _REQUEST_SECONDS
        with self._opened:
            late = [connection for connection, since in self._open.items() if since < limit]
        for connection in late:
            self._end(connection)

    def _end(self, connection: socket.socket) -> None:
        """Its thread reads the end of it, and closes it; until then its place is taken by nobody."""
        with self._opened:
            self._open.pop(connection, None)
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)

    def shutdown_request(self, request: Any) -> None:
        with self._opened:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.debug("a status request failed", exc_info=True)


class _SixServer(_Server):
    address_family = socket.AF_INET6


class _Handler(BaseHTTPRequestHandler):
    timeout = _REQUEST_SECONDS
    server: _Server
    server_version = "pycdc"
    sys_version = ""

    def __getattr__(self, name: str) -> Any:
        # The base class looks for a do_… for each method and answers 501 where there is none.
        if name.startswith("do_"):
            return self._refuse_method
        raise AttributeError(name)

    def do_GET(self) -> None:
        owner = self.server.owner
        path = self.path.partition("?")[0]
        refusal = owner.refusal(path, self.headers.get("Host"), self.headers.get("Authorization"))
        if refusal is not None:
            self._refuse(*refusal)
            return
        self._send(*owner.answer(path))

    def do_POST(self) -> None:
        owner = self.server.owner
        path = self.path.partition("?")[0]
        if not owner.takes_commands(path):
            self._refuse_method()
            return
        body = self._body()
        host, authorization = self.headers.get("Host"), self.headers.get("Authorization")
        refusal = owner.refusal(path, host, authorization, changes=True)
        if refusal is None and body is None:
            refusal = HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "the body has no Content-Length, or is too long"
        self._send(*(owner.act(path, body or b"") if refusal is None else as_json(refusal[0], {"error": refusal[1]})))

    def _body(self) -> bytes | None:
        """Read it before any answer: a connection that is closed with something unread loses the answer."""
        length = self.headers.get("Content-Length", "")
        if not re.fullmatch(r"\d{1,9}", length, re.ASCII) or int(length) > _MOST_BODY:
            return None
        return self.rfile.read(int(length))

    def _refuse_method(self) -> None:
        self._refuse(HTTPStatus.METHOD_NOT_ALLOWED, "only GET is answered")

    def _refuse(self, status: HTTPStatus, reason: str) -> None:
        self._send(*as_json(status, {"error": reason}))

    def _send(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Content-Security-Policy", content_policy())
        if status is HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET")
        if status is HTTPStatus.UNAUTHORIZED:
            self.send_header("WWW-Authenticate", 'Bearer realm="pycdc"')
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (the base class names it)
        log.debug("http %s", self.command)


def _listen(settings: HttpConfig, owner: StatusServer) -> _Server:
    kind = _SixServer if ":" in settings.host else _Server
    try:
        server = kind((settings.host, settings.port))
    except OSError as error:
        raise _not_listening(settings, error) from None
    server.owner = owner
    return server


def _not_listening(settings: HttpConfig, error: OSError) -> EnvironmentNotReady:
    if error.errno == errno.EADDRINUSE:
        return EnvironmentNotReady(
            f"port {settings.port} on {settings.host} is in use, and http.port asks for it",
            hint="stop what listens there, or set http.port (0: any free one), or `http: {enabled: false}`",
        )
    return EnvironmentNotReady(
        f"cannot listen on {settings.host}, port {settings.port}: {(error.strerror or str(error)).lower()}",
        hint="check http.host and http.port, or set `http: {enabled: false}`",
    )
