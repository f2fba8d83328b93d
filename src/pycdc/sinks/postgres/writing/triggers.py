"""Triggers of the tables that are written to: which of them may do what no event tells."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

TRIGGERS: Final = """SELECT DISTINCT g.tgname, g.tgtype & 3 = 3, f.proname, l.lanname, f.prosrc
FROM pg_trigger g
JOIN pg_proc f ON f.oid = g.tgfoid
JOIN pg_language l ON l.oid = f.prolang
WHERE (g.tgrelid = %s OR g.tgrelid IN (SELECT relid FROM pg_partition_tree(%s)))
    AND NOT g.tgisinternal AND g.tgenabled IN ('O', 'A')
ORDER BY 1"""
SPARING: Final = "suppress_redundant_updates_trigger"
_KEEPS_TO_ITS_ROW: Final = frozenset(
    (SPARING, "tsvector_update_trigger", "tsvector_update_trigger_column", "moddatetime")
)
_WORDS: Final = """now clock_timestamp statement_timestamp transaction_timestamp timezone date_trunc lower upper trim
btrim ltrim rtrim coalesce nullif greatest least concat length replace substring md5 round abs to_char to_tsvector
gen_random_uuid current_setting if elsif and or not in return"""
_QUIET: Final = frozenset(_WORDS.split())
"""What may stand before a parenthesis in a function that writes nowhere: functions that only compute, and words."""
_COMMENTS_AND_TEXTS: Final = re.compile(r"--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'", re.DOTALL)
_WORDS_THAT_REACH_OUT: Final = re.compile(
    r"\b(?:insert|update|delete|merge|copy|truncate|select|perform|execute|call|with|into|query|open|notify|lock|set"
    r"|create|drop|alter|import)\b",
    re.IGNORECASE,
)
_RETURNED: Final = re.compile(r"\breturn\s+(\w+)", re.IGNORECASE)
_CALL: Final = re.compile(r'([\w.]+|")\s*\(')


@dataclass(frozen=True, slots=True)
class Trigger:
    """A trigger that fires for what the pipeline writes. `before_row`: it sees each row before it is written."""

    name: str
    before_row: bool
    function: str
    language: str
    source: str

    @property
    def can_refuse(self) -> bool:
        """Whether it can keep a row from being written, by returning NULL."""
        if not self.before_row or self.language == "internal":
            return False
        returned = {word.lower() for word in _RETURNED.findall(self.source)}
        return self.language != "plpgsql" or not returned <= {"new", "old"}

    @property
    def spares_equal_rows(self) -> bool:
        return self.function == SPARING

    @property
    def keeps_to_its_row(self) -> bool:
        """Whether it is proven that it changes nothing but the row: what a row becomes depends on no other then."""
        if self.language in ("internal", "c"):
            return self.function in _KEEPS_TO_ITS_ROW
        return self.language == "plpgsql" and self.before_row and _only_computes(self.source)


def _only_computes(source: str) -> bool:
    """By its words alone: what is not known to be harmless may do anything."""
    if "\\" in source or "$" in source:
        return False  # a text may end elsewhere than it seems
    text = _COMMENTS_AND_TEXTS.sub(" ", source)
    calls = (found.lower().removeprefix("pg_catalog.") for found in _CALL.findall(text))
    return not _WORDS_THAT_REACH_OUT.search(text) and all(call in _QUIET for call in calls)
