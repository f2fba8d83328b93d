"""Logical messages that are larger than Kafka takes: in parts, to the dead letters.

Any role may write a logical message of any size, so none may end the pipeline. A row that is too large does, since
consumers would miss it in its topic. The parts of a message, in their order, are the value that its record would have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from pycdc.observability.logger import get_logger

log = get_logger()

_LEAST: Final = 512
_ROOM: Final = 2048
"""Bytes for the headers of a part, and for what a batch takes beside records."""


@dataclass(frozen=True, slots=True)
class Oversized:
    """`source` is the topic whose records go to the topic `target` in parts; `count` is told of each record."""

    source: str
    target: str
    count: Callable[[str], None]

    def parts(self, key: bytes | None, value: bytes | None, limit: int, most: int) -> Iterator[dict[str, Any]]:
        """Yield records of at most `most` bytes, which the target takes. `limit` is what the source's topic takes."""
        data = value or b""
        size = max(_LEAST, most - _ROOM - len(key or b""))
        count = max(1, -(-len(data) // size))
        self.count(self.source)
        log.warning(
            "a logical message is more than its topic takes, and goes to the dead letters",
            topic=self.target,
            parts=count,
            bytes=len(data),
            limit=limit,
            hint=f"raise max.message.bytes of {self.source}, or set source.postgres.messages: false",
        )
        reason = f"a record of {len(key or b'') + len(data)} bytes, and topic {self.source} takes {limit}".encode()
        for number in range(count):
            yield {
                "key": key,
                "value": data[number * size : (number + 1) * size],
                "headers": [
                    ("__pycdc.error", b"RecordTooLarge"),
                    ("__pycdc.reason", reason),
                    ("__pycdc.topic", self.source.encode()),
                    ("__pycdc.part", b"%d/%d" % (number + 1, count)),
                ],
            }
