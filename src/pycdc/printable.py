"""Names and words of strangers as a terminal, a log line, a comment of SQL and a remedy may show them.

Tables, columns, topics, fields and roles are named by whoever may make one, and errors quote them. A line break in a
name would begin a line of its own (a remedy, a command of psql), an escape sequence would paint over the terminal, and
a sign that turns the direction of writing would show another name than the one that is there.
"""

from __future__ import annotations

import re
from typing import Final

_QUOTED: Final = re.compile(r"""\bE'(?:[^'\\]|''|\\.)*'|'(?:[^']|'')*'|"(?:[^"]|"")*\"""", re.DOTALL)
"""A string or a quoted identifier in SQL."""


class Lines(str):
    """Text whose line breaks were written by us: every name in it was made printable before."""

    __slots__ = ()


def printable(text: str) -> str:
    """Return `text` in one line, characters that do not show by their numbers; `Lines` stay as they are."""
    if isinstance(text, Lines) or text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else escaped(sign) for sign in text)


def lines(*parts: str) -> Lines:
    """Text of several lines, each made printable."""
    return Lines("\n".join(map(printable, parts)))


def escaped(sign: str) -> str:
    """Write a character as JSON and Python do: backslash, u and four digits, ``001b`` for instance."""
    code = ord(sign)
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def json_printable(document: str) -> str:
    """JSON that means the same, without signs that are not to be seen but the line breaks between its parts."""
    if document.isprintable():
        return document
    return "".join(sign if sign.isprintable() or sign == "\n" else _json_escaped(sign) for sign in document)


def _json_escaped(sign: str) -> str:
    code = ord(sign)
    if code <= 0xFFFF:
        return f"\\u{code:04x}"
    high, low = divmod(code - 0x10000, 0x400)
    return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"


def sql_printable(statement: str) -> str:
    """Return SQL that means the same, in which strange characters of quoted names and strings are spelled out.

    The server has to have standard_conforming_strings on, as it is by default.
    """
    if statement.isprintable():
        return statement
    spelled = _QUOTED.sub(lambda found: _spelled(found[0]), statement)
    return "\n".join(map(printable, spelled.split("\n")))


def _spelled(quoted: str) -> str:
    if quoted.isprintable():
        return quoted
    if quoted[0] == "E":
        return "".join(sign if sign.isprintable() else escaped(sign) for sign in quoted)
    doubled = quoted.replace("\\", "\\\\")
    if quoted[0] == "'":
        return "E" + "".join(sign if sign.isprintable() else escaped(sign) for sign in doubled)
    return "U&" + "".join(sign if sign.isprintable() else f"\\+{ord(sign):06X}" for sign in doubled)
