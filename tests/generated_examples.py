"""How many examples a property is tried with: few in `make test`, twenty times as many in `make chaos-examples`."""

from __future__ import annotations

import os
from typing import Any, Final

from hypothesis import settings

FACTOR: Final = float(os.environ.get("PYCDC_EXAMPLES", "1"))


def examples(count: int, **others: Any) -> settings:
    """Try a property with `count` examples, times PYCDC_EXAMPLES. How long one takes is the machine's business."""
    return settings(max_examples=round(count * FACTOR), deadline=None, **others)
