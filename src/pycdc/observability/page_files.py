"""The files of the pages: documents, styles and scripts."""

from __future__ import annotations

from base64 import b64encode
from functools import cache
from hashlib import sha256
from importlib import resources
from typing import Final

HTML: Final = "text/html; charset=utf-8"
_STYLE: Final = "text/css; charset=utf-8"
_SCRIPT: Final = "text/javascript; charset=utf-8"

PAGES: Final = {"/": ("index.html", HTML)} | {
    f"/{name}": (name, _STYLE if name.endswith(".css") else _SCRIPT)
    for name in ("colors.css", "page.css", "charts.js", "connection.js", "elements.js", "migration.js", "pipeline.js")
}
"""Path to the name of a file and its content type."""


@cache
def page_file(name: str) -> bytes:
    return (resources.files("pycdc.observability") / "page" / name).read_bytes()


@cache
def report_style() -> str:
    """Return the style of a verification's report, which stands in the report itself."""
    return (page_file("colors.css") + page_file("report.css")).decode()


@cache
def content_policy() -> str:
    """Return what a browser may load for a page.

    Its own scripts and styles, the style of a report, and nothing else that a name might smuggle in.
    """
    report = b64encode(sha256(report_style().encode()).digest()).decode()
    return (
        f"default-src 'none'; script-src 'self'; style-src 'self' 'sha256-{report}'; connect-src 'self'; "
        "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
