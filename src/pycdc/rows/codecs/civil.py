"""Dates and times as integers, from and to text, without `datetime`, whose years end at 9999 and know no BC.

Days count from 1970-01-01, microseconds from its midnight, in the proleptic Gregorian calendar, as in Postgres. The
caches make the usual shapes (a four-digit year, a whole second) two dictionary look-ups.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from pycdc.rows.codecs.codec import Text, Unrepresentable

DAY: Final = 86_400_000_000
"""Microseconds in a day."""
SCALE: Final = (0, 100_000, 10_000, 1_000, 100, 10, 1)
"""What a fraction of so many digits is multiplied by to give microseconds."""

_DATE = re.compile(rb"(\d{4,7})-(\d\d)-(\d\d)( BC)?")
_CLOCK = rb"(\d\d):(\d\d):(\d\d)(?:\.(\d{1,6}))?"
_ZONE = rb"([+-])(\d\d)(?::(\d\d))?(?::(\d\d))?"
_TIME = re.compile(_CLOCK)
_ZONED_TIME = re.compile(_CLOCK + _ZONE)
_USUAL = re.compile(rb"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d{1,6})?")
_TIMESTAMP = re.compile(rb"(\d{4,7}-\d\d-\d\d) (\d\d:\d\d:\d\d(?:\.\d{1,6})?)(?:" + _ZONE + rb")?( BC)?")


class Cache(dict[Text, int]):
    """Remembers what `compute` gives for at most `limit` texts; forgets all of them when full."""

    __slots__ = ("compute", "limit")

    def __init__(self, compute: Callable[[Text], int], limit: int) -> None:
        super().__init__()
        self.compute = compute
        self.limit = limit

    def __missing__(self, text: Text) -> int:
        result = self.compute(text)
        if len(self) >= self.limit:
            self.clear()
        self[text] = result
        return result


def days_of(year: int, month: int, day: int) -> int:
    """Days since the epoch; years are astronomical (0 is 1 BC). The year starts in March, so that leap days end it."""
    if not (1 <= month <= 12 and 1 <= day <= 31):
        raise ValueError("no such day")
    year -= month <= 2
    era, of_era = divmod(year, 400)
    of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    return era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719_468


def civil_of(days: int) -> tuple[int, int, int]:
    """Return year, month and day, the inverse of `days_of`."""
    era, of_era = divmod(days + 719_468, 146_097)
    year_of_era = (of_era - of_era // 1_460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted = (5 * of_year + 2) // 153
    month = shifted + 3 if shifted < 10 else shifted - 9
    return era * 400 + year_of_era + (month <= 2), month, of_year - (153 * shifted + 2) // 5 + 1


def date_days(text: Text) -> int:
    """``2020-02-29`` or ``0044-03-15 BC``, as days."""
    match = _DATE.fullmatch(text)
    if match is None:
        raise ValueError("not a date")
    year, month, day, era = match.groups()
    return days_of(1 - int(year) if era else int(year), int(month), int(day))


def time_micros(text: Text) -> int:
    """``13:14:15.123456``, as microseconds; ``24:00:00`` is a whole day."""
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError("not a time")
    hours, minutes, seconds, fraction = match.groups()
    return _clock(hours, minutes, seconds, fraction)


def zoned_time_micros(text: Text) -> tuple[int, int]:
    """``13:14:15+05:30``, as microseconds of the clock and seconds east of UTC."""
    match = _ZONED_TIME.fullmatch(text)
    if match is None:
        raise ValueError("not a time with a zone")
    hours, minutes, seconds, fraction, *zone = match.groups()
    return _clock(hours, minutes, seconds, fraction), _offset(*zone)


def timestamp_micros(text: Text) -> int:
    """``0044-03-15 12:00:00.5 BC``, as microseconds; a zone (``+02``) is taken off."""
    if _USUAL.fullmatch(text):
        fraction = int(text[20:]) * SCALE[len(text) - 20] if len(text) > 19 else 0
        return MIDNIGHTS[text[:10]] + SECONDS[text[11:19]] + fraction
    match = _TIMESTAMP.fullmatch(text)
    if match is None:
        raise ValueError("not a timestamp")
    date, time, sign, hours, minutes, seconds, era = match.groups()
    local = date_days(date + era if era else date) * DAY + time_micros(time)
    return local - _offset(sign, hours, minutes, seconds) * 1_000_000 if sign else local


def _clock(hours: bytes, minutes: bytes, seconds: bytes, fraction: bytes | None) -> int:
    whole = int(hours) * 3600 + int(minutes) * 60 + int(seconds)
    return whole * 1_000_000 + (int(fraction) * SCALE[len(fraction)] if fraction else 0)


def _offset(sign: bytes, hours: bytes, minutes: bytes | None, seconds: bytes | None) -> int:
    east = int(hours) * 3600 + int(minutes or 0) * 60 + int(seconds or 0)
    return -east if sign == b"-" else east


def iso_date(days: int) -> str:
    """As Java's ISO formats print it: four digits at least, a sign before 0000 and after 9999."""
    year, month, day = civil_of(days)
    sign = "-" if year < 0 else "+" if year > 9999 else ""
    return f"{sign}{abs(year):04d}-{month:02d}-{day:02d}"


def iso_time(micros: int, digits: int | None = None) -> str:
    """``13:14:15.12``: a fraction of `digits` digits, or as many as it needs."""
    seconds, fraction = divmod(micros, 1_000_000)
    whole = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    if digits is None:
        return f"{whole}.{fraction:06d}".rstrip("0") if fraction else whole
    return f"{whole}.{fraction:06d}"[: 9 + digits] if digits else whole


def iso_timestamp(micros: int, digits: int | None = None) -> str:
    days, of_day = divmod(micros, DAY)
    return f"{iso_date(days)}T{iso_time(of_day, digits)}Z"


def int64(number: int) -> int:
    """Return `number` if a long can hold it: microseconds do not reach the year 294276, nanoseconds not even 2263."""
    if -0x8000000000000000 <= number <= 0x7FFFFFFFFFFFFFFF:
        return number
    raise Unrepresentable("the value does not fit 64 bits")


def _midnight(text: Text) -> int:
    if len(text) != 10:
        raise ValueError("not a date of ten characters")
    return date_days(text) * DAY


MIDNIGHTS: Final = Cache(_midnight, 1 << 16)
"""``2020-02-29`` to the microseconds of its midnight."""
SECONDS: Final = Cache(time_micros, 1 << 17)
"""``13:14:15`` to microseconds since midnight."""
