"""Pieces of YAML that commands print."""

from __future__ import annotations

import json
import re
from typing import Final

from pycdc.printable import json_printable

_WORDS: Final = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}


def scalar(text: str) -> str:
    """Write a value: plain where that is safe, otherwise quoted as JSON, which YAML reads alike."""
    if re.fullmatch(r"[A-Za-z_](?:[A-Za-z0-9_./:-]*[A-Za-z0-9_/])?", text) and text.lower() not in _WORDS:
        return text
    return json_printable(json.dumps(text.replace("${", "$${"), ensure_ascii=False))
