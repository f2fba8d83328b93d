"""Hypothesis strategies for what Postgres' output functions print."""

from __future__ import annotations

import json

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from pycdc.rows.codecs.civil import iso_date, iso_time

DAY = 86_400_000_000


def _digits(number: int, scale: int) -> str:
    digits = str(abs(number)).rjust(scale + 1, "0")
    sign = "-" if number < 0 else ""
    return sign + (f"{digits[:-scale]}.{digits[-scale:]}" if scale else digits)


def _date(days: int) -> str:
    """As Postgres prints dates: no signs, an era."""
    iso = iso_date(days)
    if iso.startswith(("-", "0000")):
        year, month, day = iso.lstrip("-").split("-")
        return f"{int(year) + 1:04d}-{month}-{day} BC"
    return iso.lstrip("+")


def _timestamp(micros: int, precision: int, zone: str = "") -> str:
    days, of_day = divmod(micros // 10 ** (6 - precision) * 10 ** (6 - precision), DAY)
    day, _, era = _date(days).partition(" ")
    return f"{day} {iso_time(of_day)}{zone}" + (f" {era}" if era else "")


def fixed(precision: int, scale: int) -> SearchStrategy[str]:
    limit = 10**precision - 1
    return st.integers(-limit, limit).map(lambda number: _digits(number, scale))


def number() -> SearchStrategy[str]:
    return st.builds(_digits, st.integers(-(10**60), 10**60), st.integers(0, 30))


DATES = st.one_of(
    st.integers(-2_440_550, 2_145_031_948).map(_date),
    st.integers(-50_000, 50_000).map(_date),
    st.sampled_from(["infinity", "-infinity"]),
)
TIMES = st.one_of(st.integers(0, DAY), st.just(0), st.integers(0, 86_400).map(lambda s: s * 1_000_000)).map(iso_time)
_MICROS = st.one_of(
    st.integers(-210_863_520_000_000_000, 9_223_371_331_200_000_000),
    st.integers(-(10**16), 10**16),
    st.integers(-(10**7), 10**7),
    st.integers(0, 2 * 10**9).map(lambda seconds: seconds * 1_000_000),
)


def timestamps(precision: int = 6) -> SearchStrategy[str]:
    return st.one_of(_MICROS.map(lambda m: _timestamp(m, precision)), st.sampled_from(["infinity", "-infinity"]))


def zoned(precision: int = 6) -> SearchStrategy[str]:
    return st.one_of(
        st.builds(_timestamp, _MICROS, st.just(precision), st.sampled_from(["+00", "+02", "-05:30", "+00:00:30"])),
        st.sampled_from(["infinity", "-infinity"]),
    )


TIMETZ = st.builds(
    lambda time, sign, hours, rest: f"{time}{sign}{hours:02d}{rest}",
    TIMES,
    st.sampled_from("+-"),
    st.integers(0, 15),
    st.sampled_from(["", ":30", ":59:59"]),
)


def _interval(years: int, months: int, days: int, micros: int) -> str:
    parts = [
        f"{n} {unit}" + ("" if n == 1 else "s") for n, unit in ((years, "year"), (months, "mon"), (days, "day")) if n
    ]
    if micros or not parts:
        hours, rest = divmod(abs(micros), 3_600_000_000)
        clock = f"{hours:02d}:{iso_time(rest)[3:]}"
        parts.append(("-" if micros < 0 else "+" if parts and days < 0 else "") + clock)
    return " ".join(parts)


INTERVALS = st.builds(
    _interval,
    st.integers(-100_000, 100_000),
    st.integers(-11, 11),
    st.integers(-1_000_000, 1_000_000),
    st.integers(-(10**16), 10**16),
)
FLOATS = st.floats().map(lambda f: repr(f).replace("inf", "Infinity").replace("nan", "NaN"))
SINGLES = st.floats(width=32).map(lambda f: repr(f).replace("inf", "Infinity").replace("nan", "NaN"))
BYTES = st.binary().map(lambda raw: "\\x" + raw.hex())
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
UUIDS = st.uuids().map(str)
JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS, lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner)
).map(json.dumps)
MONEY = st.integers(-(2**63), 2**63 - 1).map(
    lambda cents: f"{'-' if cents < 0 else ''}${abs(cents) // 100:,}.{abs(cents) % 100:02d}"
)


def _escaped(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


HSTORES = st.dictionaries(TEXTS, st.none() | TEXTS).map(
    lambda found: ", ".join(f"{_escaped(k)}=>{'NULL' if v is None else _escaped(v)}" for k, v in found.items())
)


def _needs_quotes(text: str) -> bool:
    special = any(c in '{},"\\' or c in " \t\n\r\v\f" for c in text)
    return special or text == "" or text.upper() == "NULL"


def literal(items: list[str | None]) -> str:
    """As array_out prints it."""
    parts = ["NULL" if item is None else _escaped(item) if _needs_quotes(item) else item for item in items]
    return "{" + ",".join(parts) + "}"


def arrays(items: SearchStrategy[str], *, nulls: bool = True) -> SearchStrategy[str]:
    return st.lists(st.none() | items if nulls else items).map(literal)


POINTS = st.builds(lambda x, y: f"({x},{y})", FLOATS, FLOATS)
