"""The files of the pages: documents, styles and scripts."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Final

_DOCUMENT: Final = "text/html; charset=utf-8"
_STYLE: Final = "text/css; charset=utf-8"
_SCRIPT: Final = "text/javascript; charset=utf-8"

PAGES: Final = {"/": ("index.html", _DOCUMENT)} | {
    f"/{name}": (name, _STYLE if name.endswith(".css") else _SCRIPT)
    for name in ("colors.css", "page.css", "charts.js", "connection.js", "elements.js", "pipeline.js")
}
"""Path to the name of a file and its content type."""


@cache
def page_file(name: str) -> bytes:
    return (resources.files("pycdc.observability") / "page" / name).read_bytes()
