"""A capture on a thread of this process, whose sink keeps the records."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from pycdc.config import validate_capture
from pycdc.config.pipeline import CapturePipeline
from pycdc.connectors.postgres.connector import PostgresConnector
from pycdc.interfaces import OffsetStore
from pycdc.model.change import Batch
from pycdc.observability.progress import Progress
from pycdc.offsets.memory import MemoryOffsetStore
from pycdc.pipeline import Loop
from tests.reading import PATIENCE, wait_for
from tests.recording import Recorded, RecordingSink


def config_for(dsn: str, *, name: str = "loop", checkpoint: float = 0.2, **source: Any) -> CapturePipeline:
    return validate_capture(
        {
            "name": name,
            "source": {"postgres": {"dsn": dsn, **source}},
            "sink": {"null": {}},
            "checkpoint": {"interval": checkpoint},
        }
    )


class Sink(RecordingSink):
    """`pause` is called before each batch, and may hold it back."""

    def __init__(self, config: CapturePipeline, offsets: OffsetStore) -> None:
        super().__init__(config, offsets)
        self.pause: Callable[[Batch], object] = lambda batch: None

    def write(self, batch: Batch) -> None:
        self.pause(batch)
        super().write(batch)


class Looping:
    """Runs from `start` to `stop`. Several with one `offsets` are instances of one pipeline."""

    def __init__(
        self, config: CapturePipeline, offsets: OffsetStore | None = None, stopping: threading.Event | None = None
    ) -> None:
        self.config = config
        self.offsets = offsets or MemoryOffsetStore()
        self.progress = Progress()
        self.sink = Sink(config, self.offsets)
        self.error: BaseException | None = None
        self.loop = Loop(
            lambda: PostgresConnector(config, self.progress, stopping=stopping),
            lambda: self.sink,
            self.offsets,
            config.checkpoint,
            config.retries,
            self.progress,
            stopping,
        )
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        try:
            self.loop.run()
        except BaseException as error:
            self.error = error

    def __enter__(self) -> Looping:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def stop(self) -> None:
        self.loop.stop()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "the pipeline did not stop"

    def until(self, condition: Callable[[], Any], timeout: float = PATIENCE) -> None:
        """Wait until `condition` holds; raise what ended the pipeline meanwhile."""
        wait_for(lambda: self.error is not None or condition(), timeout)
        if self.error is not None:
            raise self.error

    def until_streaming(self) -> Looping:
        self.until(lambda: self.progress.state == "streaming")
        return self

    def failure(self, timeout: float = PATIENCE) -> BaseException:
        wait_for(lambda: self.error is not None, timeout)
        assert self.error is not None
        return self.error

    @property
    def records(self) -> list[Recorded]:
        return self.sink.records

    def state(self, table: str, column: str) -> dict[Any, Any]:
        """What a consumer of the table's topic has by now, by `id`."""
        out: dict[Any, Any] = {}
        for record in list(self.records):
            if not record.topic.endswith(f".{table}"):
                continue
            after = None if record.value is None else record.value["after"]
            if after is None:
                out.pop(record.key["id"], None)
            else:
                out[after["id"]] = after[column]
        return out
