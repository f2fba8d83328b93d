"""What strangers named is shown in one line, without a sign that acts on the terminal, and SQL keeps its meaning."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycdc.clients.quoting import quoted
from pycdc.errors import EnvironmentNotReady
from pycdc.operations.doctor.finding import Finding, failed
from pycdc.printable import json_printable, lines, printable, sql_printable

HOSTILE = (
    "a\nALTER ROLE mallory SUPERUSER;",
    "\x1b]0;owned\x07",
    "a\r\\! id",
    "\x9b31m",
    "evil\u202egnp.exe",
    "a\u2028b\u2029c\x85d",
    "zero\u200bwidth\ufeff",
    "tag\U000e0041",
    "\x00\x7f",
    "lone \ud800 surrogate",
)


def acts(sign: str) -> bool:
    """Whether a terminal may obey it, or it hides: by Unicode's categories, not by Python's `isprintable`."""
    return unicodedata.category(sign) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")


@pytest.mark.parametrize("name", HOSTILE)
def test_no_sign_of_a_name_acts_on_the_terminal(name: str) -> None:
    assert not any(map(acts, printable(name)))


@given(st.text(st.characters(codec=None)))
def test_whatever_a_name_is_it_is_shown_in_one_line(name: str) -> None:
    shown = printable(name)
    assert not any(map(acts, shown))
    assert len(shown.splitlines()) <= 1


@pytest.mark.parametrize("name", ["orders", "Größe", "注文", "ça va", "😀", 'a"b', "back\\slash"])
def test_what_can_be_seen_stays_as_it_is(name: str) -> None:
    assert printable(name) == name


@given(st.dictionaries(st.text(), st.text()))
def test_json_means_the_same(value: dict[str, str]) -> None:
    written = json_printable(json.dumps(value, indent=2, ensure_ascii=False))
    assert json.loads(written) == value
    assert not any(acts(sign) for sign in written if sign != "\n")


def test_errors_and_findings_show_names_in_one_line() -> None:
    error = EnvironmentNotReady(f"no table {HOSTILE[0]}", hint=f"create {HOSTILE[1]}")
    assert "\n" not in error.fact
    assert "\x1b" not in error.hint
    finding = failed(f"no {HOSTILE[0]}", HOSTILE[1], path=HOSTILE[2], fix=f"make {HOSTILE[0]}")
    assert not any(map(acts, "".join((finding.title, finding.detail, finding.path, finding.fix))))


def test_a_remedy_of_several_lines_has_only_those_that_we_wrote() -> None:
    finding: Finding = failed("title", fix=lines("first", f"second {HOSTILE[0]}"))
    assert finding.fix.split("\n") == ["first", "second a\\u000aALTER ROLE mallory SUPERUSER;"]


@pytest.mark.parametrize(
    ("statement", "spelled"),
    [
        ('SELECT "a\nb"', 'SELECT U&"a\\+00000Ab"'),
        ('SELECT "plain", "back\\sl\x1bash"', 'SELECT "plain", U&"back\\\\sl\\+00001Bash"'),
        ("SELECT 'a\nb'", "SELECT E'a\\u000ab'"),
        ("SELECT 'it''s\\\n'", "SELECT E'it''s\\\\\\u000a'"),
        ("SELECT  E'a\\\\\n'", "SELECT  E'a\\\\\\u000a'"),
        ('SELECT "x"\nFROM "y\n"', 'SELECT "x"\nFROM U&"y\\+00000A"'),
    ],
)
def test_sql_spells_strange_signs_of_names_and_strings_out(statement: str, spelled: str) -> None:
    assert sql_printable(statement) == spelled


def test_a_name_of_a_remedy_keeps_its_quotes() -> None:
    assert quoted("public", 'a"; DROP TABLE x; --\n') == '"public".U&"a""; DROP TABLE x; --\\+00000A"'
