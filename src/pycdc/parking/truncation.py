"""Cut a row until its topic takes it."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Final

from pycdc.errors import RecordTooLarge
from pycdc.model.change import Routing, Run
from pycdc.rows.truncation import Sizes, longest, truncated

HEADER: Final = "__pycdc.truncated"
"""A JSON object: the columns that were cut, and how many bytes each had as Postgres writes it."""
_CLOSE: Final = 64
"""Bytes by which a cut may be deeper than it had to be; of long ones a part of their length."""


def fitting(runs: list[Run], names: Collection[str], try_out: Callable[[list[Run]], None]) -> list[Run] | None:
    """Return the runs cut no more than necessary, with a header that says so; None where that is not enough.

    `try_out` raises RecordTooLarge for what does not fit.
    """
    low, high = 0, max((longest(run, names) for run in runs), default=0)
    best = _tried(runs, names, low, try_out)
    if best is None or not high:
        return None
    while high - low > max(_CLOSE, low // _CLOSE):
        middle = (low + high) // 2
        made = _tried(runs, names, middle, try_out)
        low, high, best = (low, middle, best) if made is None else (middle, high, made)
    return best


def _tried(
    runs: list[Run], names: Collection[str], most: int, try_out: Callable[[list[Run]], None]
) -> list[Run] | None:
    made = [_marked(*truncated(run, names, most)) for run in runs]
    try:
        try_out(made)
    except RecordTooLarge:
        return None
    return made


def _marked(run: Run, sizes: Sizes) -> Run:
    if sizes:
        routing, header = run.routing or Routing(), (HEADER, json.dumps(sizes).encode())
        run.routing = replace(routing, headers=(*routing.headers, header))
    return run
