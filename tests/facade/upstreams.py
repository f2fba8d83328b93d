"""Two small systems behind a façade, and clients that keep asking through it."""

from __future__ import annotations

import http.client
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from examples.inventory.browser import Browser
from examples.inventory.crowd import Crowd

SECONDS = 10.0


class Upstream:
    """A system with one number. `GET /api/stock/N` tells its name and the number, `POST /api/stock` adds 1 to it.

    `status`, `headers` and `delay` say how it answers from now on; `gate` is the status of `/gate`.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.status = 200
        self.delay = 0.0
        self.gate = 200
        self.headers: dict[str, str] = {}
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
        for name, value in self.headers.items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(data)
        request.wfile.flush()

    def stop(self) -> None:
        """End, and answer nothing more on connections that are open."""
        self.gone = True
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Load(Crowd):
    """Clients that read without a pause until the block ends. `counts` is (status, system) to how many."""

    def __init__(self, port: int, clients: int = 4) -> None:
        super().__init__(self._read, clients)
        self.counts: Counter[tuple[int, str]] = Counter()
        self._port = port

    def _read(self, number: int) -> None:
        browser = Browser(self._port, SECONDS)
        while not self.ended.wait(0.004):
            try:
                status, body = browser.ask("GET", f"/api/stock/{number}")
            except (OSError, http.client.HTTPException):
                status, body = 0, "none"
            self.counts[status, body.partition(" ")[0]] += 1
        browser.close()

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    @property
    def failed(self) -> int:
        return sum(count for (status, _), count in self.counts.items() if status != 200)


class Replication(Crowd):
    """Brings the number of one system to the other, `lag` seconds later; never while `broken`."""

    def __init__(self, source: Upstream, target: Upstream, lag: float) -> None:
        super().__init__(self._carry, 1)
        self.lag = lag
        self.broken = False
        self._source, self._target = source, target

    def _carry(self, _: int) -> None:
        waiting: list[tuple[float, int]] = []
        while not self.ended.wait(0.005):
            now = time.monotonic()
            waiting.append((now, self._source.number))
            while waiting and waiting[0][0] <= now - self.lag and not self.broken:
                self._target.number = waiting.pop(0)[1]


class Writers(Crowd):
    """Clients that write and read their write at once, again and again. Counts `reads`, and those that were `stale`.

    The number is shared and grows: a client has read its own write if it reads at least what its write answered.
    """

    def __init__(self, port: int, clients: int = 4) -> None:
        super().__init__(self._write, clients)
        self.reads = self.stale = 0
        self._port = port
        self._lock = threading.Lock()

    def _write(self, _: int) -> None:
        browser = Browser(self._port, SECONDS, theme="dark")
        while not self.ended.is_set():
            status, written = browser.ask("POST", "/api/stock")
            assert status == 200
            for _ in range(5):
                status, read = browser.ask("GET", "/api/stock/1")
                assert status == 200
                with self._lock:
                    self.reads += 1
                    self.stale += int(read.split()[1]) < int(written.split()[1])
                time.sleep(0.01)
        browser.close()


class Posts(Crowd):
    """Writes that are begun one each 10 ms, whether those before have their answers or not, each over a connection of
    its own. The write with number N is `POST /api/stock?N`. The block ends once all have their answers."""

    def __init__(self, port: int) -> None:
        super().__init__(self._begin, 1)
        self.begun = 0
        self.answers: dict[int, tuple[int, str]] = {}
        self._port = port

    def _begin(self, _: int) -> None:
        with ThreadPoolExecutor(400, "posts") as executor:
            while not self.ended.wait(0.01):
                executor.submit(self._post, self.begun)
                self.begun += 1

    def _post(self, number: int) -> None:
        browser = Browser(self._port, 60.0)
        try:
            self.answers[number] = browser.ask("POST", f"/api/stock?{number}", f"body of {number}")
        except (OSError, http.client.HTTPException) as error:
            self.answers[number] = (0, repr(error))
        browser.close()
