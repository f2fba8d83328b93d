"""A user's browser, as far as a façade sees it: one connection, and cookies."""

from __future__ import annotations

import http.client
import re
import time

_MAX_AGE = re.compile(r"max-age=(\d+)", re.IGNORECASE)


class Browser:
    """Asks over one connection, and over another one after an error. `headers` are those of the last answer."""

    def __init__(self, port: int, seconds: float = 30.0, **cookies: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=seconds)
        self.cookies = cookies
        self._until: dict[str, float] = {}
        self.headers: dict[str, str] = {}

    def ask(self, method: str, path: str, body: str | None = None) -> tuple[int, str]:
        """Return status and body. Raises OSError, HTTPException."""
        now = time.monotonic()
        cookies = "; ".join(
            f"{name}={value}" for name, value in self.cookies.items() if self._until.get(name, now) >= now
        )
        try:
            self._connection.request(method, path, body, {"Cookie": cookies} if cookies else {})
            answer = self._connection.getresponse()
            text = answer.read().decode()
        except (OSError, http.client.HTTPException):
            self.close()
            raise
        self.headers = {name.lower(): value for name, value in answer.getheaders()}
        if given := self.headers.get("set-cookie"):
            name, _, value = given.partition(";")[0].partition("=")
            self.cookies[name] = value
            if age := _MAX_AGE.search(given):
                self._until[name] = time.monotonic() + int(age[1])
        return answer.status, text

    def close(self) -> None:
        self._connection.close()
