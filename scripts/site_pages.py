"""MkDocs' hooks for the documentation site: pages from outside docs/, and links as a site needs them.

The pages are written to be read in the repository. Those that lie outside docs/ (the README, the changelog, the
examples) become pages of the site. Links between pages are rewritten; those to other files of the repository lead to
`PYCDC_REPOSITORY`, the address of a branch's files at a forge, or become plain text where that is not set.
"""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]

ELSEWHERE = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "examples/capture/README.md": "examples/capture.md",
    "examples/inventory/README.md": "examples/inventory.md",
    "examples/inventory/DOMAIN.md": "examples/inventory-domain.md",
    "examples/two-way/README.md": "examples/two-way.md",
    "examples/workflow/README.md": "examples/workflow.md",
}
"""Pages from outside docs/: their place in the repository, and on the site."""

_LINK = re.compile(r"(?P<text>!?\[(?:[^\[\]]|\[[^\]]*\])+\])\((?P<target>[^)\s]+)\)")
_FENCE = re.compile(r"^( *)```.*?^\1```$", re.M | re.S)


def source_of(page: str) -> str:
    """The place in the repository of a page of the site."""
    return next((source for source, name in ELSEWHERE.items() if name == page), f"docs/{page}")


def page_of(source: str) -> str | None:
    """The page of the site that a file of the repository is, None where it is none."""
    if source in ELSEWHERE:
        return ELSEWHERE[source]
    inside = source.startswith("docs/") and (ROOT / source).is_file()
    return source.removeprefix("docs/") if inside else None


def relinked(text: str, page: str, repository: str = "") -> str:
    """The text of `page` with the links that it has on the site. Code blocks stay."""
    out, at = [], 0
    for fence in _FENCE.finditer(text):
        out += [_relinked(text[at : fence.start()], page, repository), fence[0]]
        at = fence.end()
    return "".join([*out, _relinked(text[at:], page, repository)])


def _relinked(text: str, page: str, repository: str) -> str:
    folder = posixpath.dirname(source_of(page))

    def link(match: re.Match[str]) -> str:
        label, target = match["text"], match["target"]
        path, hash_sign, anchor = target.partition("#")
        if not path or re.match(r"[a-z]+:", target):
            return match[0]
        source = posixpath.normpath(posixpath.join(folder, path))
        found = page_of(source)
        if found is not None:
            return f"{label}({posixpath.relpath(found, posixpath.dirname(page) or '.')}{hash_sign}{anchor})"
        if not (ROOT / source).exists():
            return match[0]  # MkDocs says that it is broken
        return f"{label}({repository.rstrip('/')}/{source})" if repository else label[1:-1]

    return _LINK.sub(link, text)


def slug(heading: str, separator: str = "-") -> str:
    """The anchor of a heading, as forges make it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", separator)


# What MkDocs calls


def on_config(config: Any) -> Any:
    config["mdx_configs"].setdefault("toc", {})["slugify"] = slug
    return config


def on_files(files: Any, config: Any) -> Any:
    from mkdocs.structure.files import File

    for source, page in ELSEWHERE.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    return relinked(markdown, page.file.src_uri, os.environ.get("PYCDC_REPOSITORY", ""))
