"""Texts of dates and times, so that Postgres reads what they say.

Java's ISO years have a sign (``-0043``, ``+10000``) that Postgres does not read, and where a column has no zone it
passes over an offset in silence: such a time is told in UTC, as all others are.
"""

from __future__ import annotations

import re
from typing import Final

from pycdc.model.event import Unwritable
from pycdc.rows.codecs.civil import DAY, SCALE, civil_of, days_of, iso_time
from pycdc.rows.codecs.dates import INFINITE_ISO
from pycdc.rows.codecs.timestamps import INFINITE

TIMES: Final = frozenset(("timestamp", "timestamptz", "date", "time", "timetz"))
RANGES: Final = frozenset(("tsrange", "tsmultirange", "daterange", "datemultirange"))
"""Types whose bounds have no zone."""
USUAL: Final = re.compile(r"(?!0000)\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:\.\d{1,6})?").fullmatch
"""A timestamp that says no more than its column holds."""
_ISO: Final = re.compile(
    r"(?:([+-]?\d{4,9})-(\d\d)-(\d\d))?(?:(?:^|[T ])(\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,12}))?)?)?"
    r" ?(Z|[+-]\d\d(?::?\d\d(?::?\d\d)?)?)?( BC)?",
    re.IGNORECASE,
)
_OFFSET: Final = re.compile(
    r"(?:\d:\d\d(?::\d\d)?|T\d\d(?:\d\d){0,2}|(?<![\d.-])\d{6})(?:[.,]\d+)?\s*(?:[AP]M\s*)?[+-]\d", re.IGNORECASE
)
"""An offset behind a time of day, in whatever way the time is written."""
_WORD: Final = re.compile(r"[A-Za-z_]{3,}")
_NO_ZONE: Final = re.compile(
    r"jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?"
    r"|nov(?:ember)?|dec(?:ember)?|(?:sun|mon|tues?|wed(?:s|nes)?|thu(?:rs?)?|fri|sat(?:ur)?)(?:day)?"
    r"|infinity|epoch|today|tomorrow|yesterday|now|allballs|empty",
    re.IGNORECASE,
)
_PRESENT: Final = re.compile(r"\s*(?:now|today|tomorrow|yesterday)\b", re.IGNORECASE)
_INFINITE_ISO: Final = {
    **{text: word.decode() for policy in INFINITE_ISO.values() for word, text in policy.items()},
    **{
        str(units["iso"][end]): word
        for units in INFINITE.values()
        for end, word in enumerate(("infinity", "-infinity"))
    },
}
"""What overflows leave of Debezium's infinite dates and timestamps."""


def utc_text(text: str, base: str) -> str:
    """Return `text` for a column of type `base`, one of TIMES. Raises Unwritable, without the column's name."""
    found = _ISO.fullmatch(text) if text else None
    if found is None:
        return _foreign(text, base)
    year, _, _, hour, *_, zone, era = found.groups()
    signed = year is not None and not era and (year[0] in "+-" or int(year) == 0)
    keeps_zone = base in ("timestamptz", "timetz")
    if not signed and (zone is None or keeps_zone):
        return text
    if year is None:
        return _time_of_day(found)
    if text in _INFINITE_ISO and base in ("date", "timestamp"):
        return _INFINITE_ISO[text]
    return _timestamp(found, base) if hour is not None else _date(_days(found))


def _foreign(text: str, base: str) -> str:
    """Leave to Postgres what is not ISO 8601, but for a zone, which it would pass over."""
    if base not in ("timestamptz", "timetz"):
        require_no_zone(text)
    return text


def require_no_zone(text: str) -> None:
    """Raise Unwritable for a text with a zone, for a column without one."""
    if _OFFSET.search(text) is not None:
        raise Unwritable("a time with an offset that is not ISO 8601's, for a column without a zone")
    if not all(map(_NO_ZONE.fullmatch, _WORD.findall(text))):
        raise Unwritable("a time with the name of a zone, or another word, for a column without one")


def require_fixed(text: str) -> None:
    """Raise Unwritable for a word that means another time whenever it is read."""
    if _PRESENT.match(text) is not None:
        raise Unwritable(
            "a word for the present, which would be the time at which the record is applied: send the time"
        )


def _days(found: re.Match[str]) -> int:
    year = 1 - int(found[1]) if found[9] else int(found[1])
    return days_of(year, int(found[2]), int(found[3]))


def _micros(found: re.Match[str]) -> int:
    """Return the microseconds of the day, in UTC: less than none and more than a day's too."""
    _, _, _, hour, minute, second, fraction, zone, _ = found.groups()
    micros = (int(hour) * 3600 + int(minute) * 60 + int(second or 0)) * 1_000_000
    if fraction:
        micros += int(fraction[:6]) * SCALE[len(fraction[:6])] + (fraction[6:7] >= "5")
    if zone is None or zone in "Zz":
        return micros
    digits = zone[1:].replace(":", "")
    east = int(digits[:2]) * 3600 + int(digits[2:4] or 0) * 60 + int(digits[4:6] or 0)
    return micros - (east if zone[0] == "+" else -east) * 1_000_000


def _time_of_day(found: re.Match[str]) -> str:
    micros = _micros(found)
    return iso_time(micros if micros == DAY else micros % DAY)


def _timestamp(found: re.Match[str], base: str) -> str:
    micros = _days(found) * DAY + _micros(found)
    days, of_day = divmod(micros, DAY)
    if base == "time":
        return iso_time(of_day)
    zone = "+00" if base in ("timestamptz", "timetz") and (found[8] is not None) else ""
    return _date(days, "" if base == "date" else f" {iso_time(of_day)}{zone}")


def _date(days: int, time: str = "") -> str:
    year, month, day = civil_of(days)
    return f"{year if year > 0 else 1 - year:04d}-{month:02d}-{day:02d}{time}{'' if year > 0 else ' BC'}"
