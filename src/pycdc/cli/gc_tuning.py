"""How often a pipeline's process looks for cyclic garbage, of which it makes next to none.

A batch of small transactions is some thousand objects that live for a moment. With Python's defaults they made the
collector walk the heap up to 1,300 times for 240,000 changes, imported modules included: a third of the CPU, and
pauses of 10 ms and more. See docs/performance.md.
"""

from __future__ import annotations

import gc
from typing import Final

THRESHOLD: Final = 20_000
"""Container objects alive beyond those of the last collection: more than a batch of the default size makes."""


def reduce_gc() -> None:
    """Freeze the objects that are there once a process has started, and collect the others rarely.

    This is for processes of pycdc's own: a library has no say in its host's.
    """
    gc.freeze()
    gc.set_threshold(THRESHOLD, *gc.get_threshold()[1:])
