"""The documentation site, without building it: every page is listed, and every link leads to a page of the site."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from scripts.site_pages import ELSEWHERE, page_of, relinked, slug, source_of

from tests.test_docs import FENCE, LINK, anchors

ROOT = Path(__file__).parents[1]
SITE: dict[str, Any] = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
PAGES = sorted([str(page.relative_to(ROOT / "docs")) for page in ROOT.glob("docs/**/*.md")] + list(ELSEWHERE.values()))


def listed(entries: list[Any]) -> Iterator[str]:
    for entry in entries:
        if isinstance(entry, str):
            yield entry
        else:
            for inner in entry.values():
                yield from listed(inner)


def test_the_navigation_names_every_page_once() -> None:
    assert sorted(listed(SITE["nav"])) == [page for page in PAGES if not re.match(r"decisions/\d", page)]


def test_the_index_of_the_decisions_names_each_with_its_title_and_date() -> None:
    text = (ROOT / "docs/decisions/README.md").read_text(encoding="utf-8")
    lines = re.findall(r"^\| (\d+) \| \[(.+)\]\((.+)\) \| ([\d-]+) \| .*\|$", text, re.M)
    files = sorted((ROOT / "docs/decisions").glob("[0-9]*.md"))
    assert [name for _, _, name, _ in lines] == [file.name for file in files]
    for number, (said, title, name, date) in enumerate(lines, 1):
        assert (int(said), int(name[:4])) == (number, number)
        begin = (ROOT / "docs/decisions" / name).read_text(encoding="utf-8")
        assert begin.startswith(f"# {number}. {title}\n\nDate: {date}\n")


def test_every_page_of_the_repository_for_readers_is_on_the_site() -> None:
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")]
    assert not [page for page in pages if page_of(str(page.relative_to(ROOT))) is None]


def test_titles_are_there_and_tell_pages_apart() -> None:
    first = [(ROOT / source_of(page)).read_text(encoding="utf-8").splitlines()[0] for page in PAGES]
    assert all(re.match(r"# \S", line) for line in first)
    assert len(set(first)) == len(first)


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_pages_of_the_site(page: str) -> None:
    text = relinked((ROOT / source_of(page)).read_text(encoding="utf-8"), page)
    broken = []
    for target in LINK.findall(FENCE.sub("", text)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        found = posixpath.normpath(posixpath.join(posixpath.dirname(page), path)) if path else page
        if found not in PAGES or (anchor and anchor not in {slug(one) for one in headings(found)}):
            broken.append(target)
    assert not broken


def headings(page: str) -> list[str]:
    return re.findall(r"^#+ (.+)$", FENCE.sub("", (ROOT / source_of(page)).read_text(encoding="utf-8")), re.M)


def test_anchors_are_those_of_the_repository() -> None:
    assert all({slug(one) for one in headings(page)} == anchors(source_of(page)) for page in PAGES)


def test_links_to_other_files_lead_to_the_repository_or_become_text() -> None:
    text = "[kill](../tests/faults/test_kill.py), [types](types.md#a), [readme](../README.md)\n\n```\n[a](../b)\n```\n"
    assert relinked(text, "guarantees.md").startswith("kill, ")
    at_a_forge = relinked(text, "guarantees.md", "https://forge.example/pycdc/blob/main")
    assert "[kill](https://forge.example/pycdc/blob/main/tests/faults/test_kill.py)" in at_a_forge
    assert "[types](types.md#a), [readme](index.md)" in at_a_forge
    assert "```\n[a](../b)\n```" in at_a_forge


def test_a_link_that_leads_nowhere_stays_one_for_the_build_to_refuse() -> None:
    assert relinked("[gone](gone.md)", "guarantees.md") == "[gone](gone.md)"


def test_the_site_loads_nothing_from_elsewhere() -> None:
    assert SITE["theme"]["font"] is False
    assert not {"extra_css", "extra_javascript"} & SITE.keys()
    assert "mermaid" not in (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
