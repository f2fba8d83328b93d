"""The mark on what pycdc writes into a database, by which the capture of that database knows it again.

Two marks, because each has what the other lacks: a transactional logical message may be written by any role; a
replication origin needs a grant, and is seen by other tools too (Postgres' own ``origin = none``, Debezium).
"""

from __future__ import annotations

import json
from typing import Final

MESSAGE_PREFIX: Final = "pycdc.origin"
"""Of the logical message that is the first statement of each transaction."""
_ORIGIN: Final = "pycdc:"


def mark(pipeline: str) -> str:
    """The content of the message."""
    return json.dumps({"pipeline": pipeline})


def pipeline_of_mark(content: bytes) -> str | None:
    """The pipeline that wrote the message, None for content that is not a mark's."""
    try:
        document = json.loads(content)
    except ValueError:
        return None
    name = document.get("pipeline") if isinstance(document, dict) else None
    return name if isinstance(name, str) else None


def origin_name(pipeline: str, worker: int) -> str:
    """A replication origin belongs to one session at a time, so each worker has its own."""
    return f"{origin_prefix(pipeline)}{worker}"


def origin_prefix(pipeline: str) -> str:
    """What the names of all of a pipeline's origins begin with."""
    return f"{_ORIGIN}{pipeline}:"


def pipeline_of_origin(name: str) -> str | None:
    """The pipeline that an origin belongs to, None for somebody else's."""
    if not name.startswith(_ORIGIN):
        return None
    return name.removeprefix(_ORIGIN).rpartition(":")[0]
