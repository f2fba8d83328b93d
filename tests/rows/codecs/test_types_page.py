from __future__ import annotations

from pathlib import Path

from scripts.docs.types_page import types_markdown

PAGE = Path(__file__).parents[3] / "docs" / "types.md"


def test_the_page_of_types_is_what_the_codecs_do() -> None:
    """If this fails: ``python -m scripts.docs.types_page > docs/types.md``."""
    assert PAGE.read_text() == types_markdown()
