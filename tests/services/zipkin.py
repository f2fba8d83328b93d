"""A collector that speaks OTLP, and a real Zipkin behind it: Zipkin itself has no OTLP."""

from __future__ import annotations

import gzip
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from . import maven
from .process import ServerProcess, free_port, temporary_folder, wait_until_ready

ARCHIVE = maven.Archive("zipkin", "io.zipkin:zipkin-server:3.5.1:jar:exec")
JAVA_OPTIONS = ["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData"]
START_SECONDS = 180.0


class Collector:
    """Takes spans by OTLP over HTTP; `spans` are those that came, in Zipkin's form. `zipkin` is where they go on to."""

    def __init__(self, zipkin: str | None = None) -> None:
        self.spans: list[dict[str, Any]] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = body_of(self)
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                came = list(spans_of(body))
                if zipkin is not None and came:
                    post(f"{zipkin}/api/v2/spans", came)
                collector.spans += came
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def body_of(request: BaseHTTPRequestHandler) -> bytes:
    """The body of a request, in chunks or as a whole: Envoy sends the former, OpenTelemetry the latter."""
    if request.headers.get("Transfer-Encoding") != "chunked":
        return request.rfile.read(int(request.headers["Content-Length"]))
    parts = []
    while size := int(request.rfile.readline(), 16):
        parts.append(request.rfile.read(size))
        request.rfile.readline()
    request.rfile.readline()
    return b"".join(parts)


def spans_of(body: bytes) -> Iterator[dict[str, Any]]:
    """The spans of a request, as Zipkin's API takes them; their links as a tag."""
    request = ExportTraceServiceRequest()
    request.ParseFromString(body)
    for resource in request.resource_spans:
        names = {one.key: one.value.string_value for one in resource.resource.attributes}
        for span in (span for scope in resource.scope_spans for span in scope.spans):
            tags = {one.key: one.value.string_value or str(one.value.int_value) for one in span.attributes}
            yield {
                "traceId": span.trace_id.hex(),
                "id": span.span_id.hex(),
                **({"parentId": span.parent_span_id.hex()} if span.parent_span_id else {}),
                "name": span.name,
                "timestamp": span.start_time_unix_nano // 1000,
                "duration": max(1, (span.end_time_unix_nano - span.start_time_unix_nano) // 1000),
                "localEndpoint": {"serviceName": names.get("service.name", "")},
                "tags": {
                    **tags,
                    "status": str(span.status.code),
                    "links": " ".join(link.span_id.hex() for link in span.links),
                },
            }


def post(url: str, document: Any) -> None:
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, json.dumps(document).encode(), headers)
    with urllib.request.urlopen(request, timeout=60):
        pass


class Zipkin:
    """A server of our own, which keeps spans in memory."""

    def __init__(self) -> None:
        jar = next(maven.resolve(ARCHIVE).glob("*.jar"))
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        command = [maven.java(), *JAVA_OPTIONS, f"-Dserver.port={port}", "-jar", str(jar)]
        environment = {"QUERY_PORT": str(port), "STORAGE_TYPE": "mem", "SELF_TRACING_ENABLED": "false"}
        folder = temporary_folder("zipkin")
        self.control = ServerProcess(command, log=folder / "zipkin.log", cwd=folder, environment=environment)
        try:
            self.control.start()
            wait_until_ready(self.control, self._answers, name="zipkin", timeout=START_SECONDS)
        except BaseException:
            self.control.close()
            raise

    def trace(self, number: str) -> list[dict[str, Any]]:
        """The spans of a trace, as Zipkin shows them."""
        try:
            with urllib.request.urlopen(f"{self.url}/api/v2/trace/{number}", timeout=60) as answer:
                found: list[dict[str, Any]] = json.load(answer)
                return found
        except urllib.error.HTTPError as error:
            error.close()
            return []

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except urllib.error.HTTPError as error:
            error.close()
            return False
        except OSError:
            return False

    def close(self) -> None:
        self.control.close()
