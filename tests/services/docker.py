"""Servers in containers, by ``testcontainers``, where a Docker engine answers."""

from __future__ import annotations

import importlib.util
import signal
from collections.abc import Mapping
from functools import cache
from typing import Any


@cache
def engine_answers() -> bool:
    if importlib.util.find_spec("testcontainers") is None:
        return False
    import docker  # type: ignore[import-untyped, unused-ignore]
    from docker.errors import DockerException  # type: ignore[import-untyped, unused-ignore]

    try:
        client = docker.from_env(timeout=5)
    except DockerException:
        return False
    try:
        return bool(client.ping())
    except DockerException:
        return False
    finally:
        client.close()


class Container:
    """The ``Control`` of one container. Its ports keep their numbers, so that a restart does not move the server."""

    def __init__(
        self, image: str, *, ports: Mapping[int, int], environment: Mapping[str, str], command: str = ""
    ) -> None:
        from testcontainers.core.container import DockerContainer  # type: ignore[import-not-found, unused-ignore]

        self._container = DockerContainer(image)
        for inside, outside in ports.items():
            # Not with_bind_ports: that one opens the port on every address of the machine.
            self._container.ports[str(inside)] = ("127.0.0.1", outside)
        for name, value in environment.items():
            self._container.with_env(name, value)
        if command:
            self._container.with_command(command)
        self._made = False

    @property
    def _wrapped(self) -> Any:
        return self._container.get_wrapped_container()

    @property
    def running(self) -> bool:
        if not self._made:
            return False
        self._wrapped.reload()
        return bool(self._wrapped.status in ("created", "running", "paused", "restarting"))

    def start(self) -> None:
        if not self._made:
            self._container.start()
            self._made = True
        elif not self.running:
            self._wrapped.start()

    def signal(self, number: int) -> None:
        if not self.running:
            return
        if number == signal.SIGSTOP:
            self._wrapped.pause()
        elif number != signal.SIGCONT:
            self._wrapped.kill(signal=int(number))
        elif self._wrapped.status == "paused":
            self._wrapped.unpause()

    def wait(self, timeout: float) -> None:
        from requests import exceptions  # type: ignore[import-untyped, unused-ignore]

        try:
            self._wrapped.wait(timeout=timeout)
        except (exceptions.ConnectionError, exceptions.ReadTimeout):
            raise TimeoutError(f"the container still runs after {timeout} s") from None

    def log_text(self) -> str:
        return str(self._wrapped.logs().decode(errors="replace")) if self._made else ""

    def close(self) -> None:
        if self._made:
            self._container.stop()
            self._made = False
