"""Which trace a record belongs to, in W3C's words: the header `traceparent`, `00-<trace>-<span>-<flags>`.

Source: https://www.w3.org/TR/trace-context/. A trace that is not sampled is not carried: its header would cost as much
as that of one that is, and nobody would see it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

PREFIX: Final = "pycdc.trace"
"""Of the transactional logical message whose content is the `traceparent` of its transaction."""
HEADER: Final = "traceparent"
_SAMPLED: Final = 1
_FORM: Final = re.compile(
    rb"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?", re.S
)
_LONGEST: Final = 512


def sampled(content: bytes | None) -> bytes | None:
    """Return the traceparent of a trace that is sampled, None for anything else: any role may write such messages."""
    if content is None or len(content) > _LONGEST:
        return None
    found = _FORM.fullmatch(content.strip())
    if found is None or not int(found[3], 16) & _SAMPLED:
        return None
    return b"00-" + found[1] + b"-" + found[2] + b"-01"


def of_headers(headers: Iterable[tuple[str, bytes | None]]) -> bytes | None:
    """Return the traceparent of a record, the last where it has several."""
    found = [value for name, value in headers if name == HEADER]
    return sampled(found[-1]) if found else None
