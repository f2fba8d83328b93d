"""The folder of a verification's reports."""

from __future__ import annotations

import json
from pathlib import Path

from pycdc.errors import ConfigError
from pycdc.operations.verify.reports.html_report import html
from pycdc.operations.verify.reports.json_report import document
from pycdc.operations.verify.reports.junit_report import junit
from pycdc.operations.verify.result import Verification


def write_reports(found: Verification, folder: Path) -> list[Path]:
    """Write report.json, report.html and junit.xml; return their paths. Raises ConfigError where that is impossible."""
    contents = {
        "report.json": (json.dumps(document(found), indent=2, ensure_ascii=False) + "\n").encode(),
        "report.html": html(found).encode(),
        "junit.xml": junit(found),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            (folder / name).write_bytes(content)
    except OSError as error:
        raise ConfigError(
            f"the reports cannot be written into {folder} ({error.strerror})", hint="name another folder with --report"
        ) from None
    return [folder / name for name in contents]
