"""An embedded schema registry: Confluent's REST API as far as clients use it, in memory, on loopback.

Ids count up from 1; the same text has the same id under every subject. Compatibility is BACKWARD unless configured.
"""

from __future__ import annotations

import base64
import hmac
import json
import re
import threading
from collections import deque
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, ClassVar, Final
from urllib.parse import unquote, urlsplit

from pycdc.demo.compatibility import compatible, parse

LEVELS: Final = ("BACKWARD", "BACKWARD_TRANSITIVE", "FORWARD", "FORWARD_TRANSITIVE", "FULL", "FULL_TRANSITIVE", "NONE")
MODES: Final = ("READWRITE", "READONLY", "IMPORT")
_MAX_BODY: Final = 16 * 1024 * 1024
_CONTENT_TYPE: Final = "application/vnd.schemaregistry.v1+json"


class _RefusedError(Exception):
    """An HTTP status and Confluent's error code and message."""

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


class Subjects:
    """The registry's state and rules, without HTTP. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._texts: dict[int, str] = {}
        self._ids: dict[str, int] = {}
        self._versions: dict[str, dict[int, int]] = {}
        self._levels: dict[str, str] = {"": "BACKWARD"}
        self._modes: dict[str, str] = {"": "READWRITE"}

    def names(self, body: Any) -> list[str]:
        with self._lock:
            return sorted(self._versions)

    def versions(self, body: Any, subject: str) -> list[int]:
        with self._lock:
            return list(self._of(subject))

    def version(self, body: Any, subject: str, number: str) -> dict[str, Any]:
        with self._lock:
            version = self._number(subject, number)
            return self._described(subject, version)

    def version_text(self, body: Any, subject: str, number: str) -> Any:
        with self._lock:
            return json.loads(self._texts[self._of(subject)[self._number(subject, number)]])

    def register(self, body: Any, subject: str) -> dict[str, Any]:
        with self._lock:
            text = _text(body)
            for schema_id in self._versions.get(subject, {}).values():
                if self._texts[schema_id] == text:
                    return {"id": schema_id}
            if self._mode_of(subject) == "READONLY":
                raise _RefusedError(422, 42205, f"Subject {subject} is in read-only mode")
            if not self._fits(subject, text):
                raise _RefusedError(409, 409, "Schema being registered is incompatible with an earlier schema")
            schema_id = self._ids.setdefault(text, len(self._ids) + 1)
            self._texts[schema_id] = text
            versions = self._versions.setdefault(subject, {})
            versions[max(versions, default=0) + 1] = schema_id
            return {"id": schema_id}

    def look_up(self, body: Any, subject: str) -> dict[str, Any]:
        with self._lock:
            text = _text(body)
            for version, schema_id in self._of(subject).items():
                if self._texts[schema_id] == text:
                    return self._described(subject, version)
            raise _RefusedError(404, 40403, "Schema not found")

    def forget(self, body: Any, subject: str) -> list[int]:
        with self._lock:
            gone = list(self._of(subject))
            del self._versions[subject]
            return gone

    def forget_version(self, body: Any, subject: str, number: str) -> int:
        with self._lock:
            version = self._number(subject, number)
            del self._versions[subject][version]
            if not self._versions[subject]:
                del self._versions[subject]
            return version

    def schema(self, body: Any, number: str) -> dict[str, str]:
        with self._lock:
            return {"schema": self._by_id(number)}

    def schema_text(self, body: Any, number: str) -> Any:
        with self._lock:
            return json.loads(self._by_id(number))

    def used_as(self, body: Any, number: str) -> list[dict[str, Any]]:
        with self._lock:
            self._by_id(number)
            return [
                {"subject": subject, "version": version}
                for subject, versions in sorted(self._versions.items())
                for version, schema_id in versions.items()
                if schema_id == int(number)
            ]

    def check(self, body: Any, subject: str, number: str) -> dict[str, bool]:
        with self._lock:
            version = self._number(subject, number)
            against = [json.loads(self._texts[self._versions[subject][version]])]
            return {"is_compatible": compatible(self._level_of(subject), json.loads(_text(body)), against)}

    def level(self, body: Any, subject: str = "") -> dict[str, str]:
        with self._lock:
            if subject not in self._levels:
                raise _RefusedError(
                    404, 40408, f"Subject '{subject}' does not have subject-level compatibility configured"
                )
            return {"compatibilityLevel": self._levels[subject]}

    def set_level(self, body: Any, subject: str = "") -> dict[str, str]:
        level = body.get("compatibility") if isinstance(body, dict) else None
        if level not in LEVELS:
            raise _RefusedError(422, 42203, "Invalid compatibility level")
        with self._lock:
            self._levels[subject] = level
        return {"compatibility": level}

    def drop_level(self, body: Any, subject: str) -> dict[str, str]:
        with self._lock:
            if subject not in self._levels:
                raise _RefusedError(
                    404, 40408, f"Subject '{subject}' does not have subject-level compatibility configured"
                )
            return {"compatibilityLevel": self._levels.pop(subject)}

    def mode(self, body: Any, subject: str = "") -> dict[str, str]:
        with self._lock:
            return {"mode": self._mode_of(subject)}

    def set_mode(self, body: Any, subject: str = "") -> dict[str, str]:
        mode = body.get("mode") if isinstance(body, dict) else None
        if mode not in MODES:
            raise _RefusedError(422, 42204, "Invalid mode")
        with self._lock:
            self._modes[subject] = mode
        return {"mode": mode}

    def _of(self, subject: str) -> dict[int, int]:
        if subject not in self._versions:
            raise _RefusedError(404, 40401, f"Subject '{subject}' not found.")
        return self._versions[subject]

    def _number(self, subject: str, number: str) -> int:
        versions = self._of(subject)
        version = max(versions) if number in ("latest", "-1") else int(number) if number.isdigit() else 0
        if version not in versions:
            raise _RefusedError(404, 40402, f"Version {number} not found.")
        return version

    def _described(self, subject: str, version: int) -> dict[str, Any]:
        schema_id = self._versions[subject][version]
        return {"subject": subject, "version": version, "id": schema_id, "schema": self._texts[schema_id]}

    def _by_id(self, number: str) -> str:
        if not number.isdigit() or int(number) not in self._texts:
            raise _RefusedError(404, 40403, f"Schema {number} not found")
        return self._texts[int(number)]

    def _fits(self, subject: str, text: str) -> bool:
        earlier = [json.loads(self._texts[schema_id]) for schema_id in self._versions.get(subject, {}).values()]
        return compatible(self._level_of(subject), json.loads(text), earlier)

    def _level_of(self, subject: str) -> str:
        return self._levels.get(subject, self._levels[""])

    def _mode_of(self, subject: str) -> str:
        return self._modes.get(subject, self._modes[""])


def _text(body: Any) -> str:
    """Return the schema's text out of a request's body."""
    text = body.get("schema") if isinstance(body, dict) else None
    kind = body.get("schemaType", "AVRO") if isinstance(body, dict) else None
    if not isinstance(text, str) or kind != "AVRO":
        raise _RefusedError(422, 42201, "Invalid schema: this registry keeps Avro only")
    try:
        parse(json.loads(text))
    except ValueError:
        raise _RefusedError(422, 42201, "Invalid schema") from None
    return text


RegistryReply = Callable[..., Any]


def _routes(subjects: Subjects) -> list[tuple[str, re.Pattern[str], RegistryReply]]:
    table: list[tuple[str, str, RegistryReply]] = [
        ("GET", "/", lambda body: {}),
        ("GET", "/subjects", subjects.names),
        ("GET", "/subjects/{}/versions", subjects.versions),
        ("GET", "/subjects/{}/versions/{}", subjects.version),
        ("GET", "/subjects/{}/versions/{}/schema", subjects.version_text),
        ("POST", "/subjects/{}/versions", subjects.register),
        ("POST", "/subjects/{}", subjects.look_up),
        ("DELETE", "/subjects/{}", subjects.forget),
        ("DELETE", "/subjects/{}/versions/{}", subjects.forget_version),
        ("GET", "/schemas/types", lambda body: ["AVRO"]),
        ("GET", "/schemas/ids/{}", subjects.schema),
        ("GET", "/schemas/ids/{}/schema", subjects.schema_text),
        ("GET", "/schemas/ids/{}/versions", subjects.used_as),
        ("POST", "/compatibility/subjects/{}/versions/{}", subjects.check),
        ("GET", "/config", subjects.level),
        ("GET", "/config/{}", subjects.level),
        ("PUT", "/config", subjects.set_level),
        ("PUT", "/config/{}", subjects.set_level),
        ("DELETE", "/config/{}", subjects.drop_level),
        ("GET", "/mode", subjects.mode),
        ("GET", "/mode/{}", subjects.mode),
        ("PUT", "/mode", subjects.set_mode),
        ("PUT", "/mode/{}", subjects.set_mode),
    ]
    return [(method, re.compile(path.replace("{}", "([^/]+)") + "/?"), answer) for method, path, answer in table]


class EmbeddedRegistry:
    """A context manager. With `username` and `password`, requests without them get 401."""

    def __init__(self, port: int = 0, *, username: str | None = None, password: str | None = None) -> None:
        self.subjects = Subjects()
        self.requests: deque[str] = deque(maxlen=1000)
        """Method and path of the last requests served."""
        self._faults: deque[int] = deque()
        self._routes = _routes(self.subjects)
        self._expected = None
        if username is not None:
            token = base64.b64encode(f"{username}:{password or ''}".encode()).decode("ascii")
            self._expected = f"Basic {token}".encode()
        handler = type("Handler", (_Handler,), {"registry": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", port), handler)
        self._server.daemon_threads = True
        self._thread: threading.Thread | None = None
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def start(self) -> EmbeddedRegistry:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="registry", daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        if self._thread is not None:
            self._server.shutdown()
            self._thread.join()
            self._thread = None
        self._server.server_close()

    def __enter__(self) -> EmbeddedRegistry:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def fail_next(self, status: int, times: int = 1) -> None:
        """Answer the next `times` requests with `status`."""
        self._faults.extend([status] * times)

    def answer(self, method: str, path: str, authorization: str | None, body: bytes) -> tuple[int, Any]:
        """Status and JSON value for a request."""
        self.requests.append(f"{method} {path}")
        try:
            if self._faults:
                raise _RefusedError(self._faults[0], self._faults.popleft(), "scripted fault")
            if self._expected is not None and not hmac.compare_digest(self._expected, (authorization or "").encode()):
                raise _RefusedError(401, 401, "Unauthorized")
            return 200, self._dispatch(method, path, body)
        except _RefusedError as refusal:
            return refusal.status, {"error_code": refusal.code, "message": refusal.message}

    def _dispatch(self, method: str, path: str, body: bytes) -> Any:
        try:
            document = json.loads(body) if body else None
        except ValueError:
            raise _RefusedError(400, 400, "Malformed JSON") from None
        known = False
        for verb, pattern, answer in self._routes:
            match = pattern.fullmatch(path)
            known = known or match is not None
            if match is not None and verb == method:
                return answer(document, *(unquote(part) for part in match.groups()))
        raise (
            _RefusedError(405, 405, "HTTP 405 Method Not Allowed")
            if known
            else _RefusedError(404, 404, "HTTP 404 Not Found")
        )


class _Handler(BaseHTTPRequestHandler):
    registry: ClassVar[EmbeddedRegistry]
    protocol_version = "HTTP/1.1"
    # Small answers on a kept connection: without this each waits for the client's delayed acknowledgement.
    disable_nagle_algorithm = True

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        if length > _MAX_BODY:
            self.send_error(413)
            return
        body = self.rfile.read(length)
        path = urlsplit(self.path).path
        status, value = self.registry.answer(self.command, path, self.headers.get("Authorization"), body)
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", _CONTENT_TYPE)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PUT = do_DELETE = _serve  # noqa: N815 (the names that http.server looks for)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (http.server's own name)
        """Say nothing: tests and demonstrations have their own output."""
