"""Two small systems behind a façade, and clients that keep asking through it."""

from __future__ import annotations

import http.client
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

SECONDS = 10.0


class Upstream:
    """A system with one number. `GET /api/stock/N` tells its name and the number, `POST /api/stock` adds 1 to it.

    `status` and `delay` say how it answers from now on; `gate` is the status of `/gate`.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.status = 200
        self.delay = 0.0
        self.gate = 200
        self.number = 0
        self.gone = False
        self.asked: Counter[str] = Counter()
        self._lock = threading.Lock()
        upstream = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                upstream.answer(self)

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                upstream.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients that went away
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        if self.gone:
            request.close_connection = True
            return
        self.asked[f"{request.command} {request.path}"] += 1
        if request.path == "/gate":
            self._send(request, self.gate, "lag is 7 s" if self.gate != 200 else "")
            return
        time.sleep(self.delay)
        with self._lock:
            self.number += request.command == "POST" and self.status == 200
            body = f"{self.name} {self.number}"
        self._send(request, self.status, body)

    def _send(self, request: BaseHTTPRequestHandler, status: int, body: str) -> None:
        data = body.encode()
        request.send_response(status)
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        request.wfile.write(data)
        request.wfile.flush()

    def stop(self) -> None:
        """End, and answer nothing more on connections that are open."""
        self.gone = True
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Browser:
    """One client with one connection and its cookies."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
        self.cookie = ""
        self.headers: dict[str, str] = {}

    def ask(self, method: str, path: str) -> tuple[int, str]:
        headers = {"Cookie": f"theme=dark; {self.cookie}"} if self.cookie else {}
        self._connection.request(method, path, headers=headers)
        answer = self._connection.getresponse()
        body = answer.read().decode()
        self.headers = {name.lower(): value for name, value in answer.getheaders()}
        given = answer.getheader("set-cookie")
        if given is not None:
            self.cookie = given.partition(";")[0]
        return answer.status, body

    def close(self) -> None:
        self._connection.close()


class Load:
    """Clients that read without a pause until the block ends. `counts` is (status, system) to how many."""

    def __init__(self, port: int, clients: int = 4) -> None:
        self.counts: Counter[tuple[int, str]] = Counter()
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._read, args=(port, number)) for number in range(clients)]

    def _read(self, port: int, number: int) -> None:
        browser = Browser(port)
        while not self._ended.wait(0.004):
            try:
                status, body = browser.ask("GET", f"/api/stock/{number}")
            except (OSError, http.client.HTTPException):
                status, body = 0, "none"
                browser.close()
            self.counts[status, body.partition(" ")[0]] += 1
        browser.close()

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    @property
    def failed(self) -> int:
        return sum(count for (status, _), count in self.counts.items() if status != 200)

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()


class Replication:
    """Brings the number of one system to the other, `lag` seconds later; never while `broken`."""

    def __init__(self, source: Upstream, target: Upstream, lag: float) -> None:
        self.lag = lag
        self.broken = False
        self._source, self._target = source, target
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._carry)

    def _carry(self) -> None:
        waiting: list[tuple[float, int]] = []
        while not self._ended.wait(0.005):
            now = time.monotonic()
            waiting.append((now, self._source.number))
            while waiting and waiting[0][0] <= now - self.lag and not self.broken:
                self._target.number = waiting.pop(0)[1]

    def __enter__(self) -> Replication:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()


def stale_reads(port: int, clients: int, until: Callable[[], bool]) -> tuple[int, int]:
    """Let each client write and read its write at once, again and again; return the reads, and those that were older.

    The number is shared and grows: a client has read its own write if it reads at least what its write answered.
    """
    reads, stale = Counter[str](), Counter[str]()

    def client() -> None:
        browser = Browser(port)
        while not until():
            status, written = browser.ask("POST", "/api/stock")
            assert status == 200
            for _ in range(5):
                status, read = browser.ask("GET", "/api/stock/1")
                assert status == 200
                reads["all"] += 1
                stale["all"] += int(read.split()[1]) < int(written.split()[1])
                time.sleep(0.01)
        browser.close()

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return reads["all"], stale["all"]
