"""Numbers as people read them."""

from __future__ import annotations


def size(count: int) -> str:
    """Bytes: ``512 B``, ``1.5 MB`` (powers of 1024)."""
    value, unit = float(count), "B"
    for unit in ("B", "kB", "MB", "GB", "TB", "PB"):
        if value < 1024 or unit == "PB":
            break
        value /= 1024
    return f"{count} B" if unit == "B" else f"{value:.1f} {unit}"


def number(count: int | float) -> str:
    """Write a count: ``1,234,567``."""
    return f"{count:,.0f}"


def duration(seconds: float) -> str:
    """Write a duration: ``340 ms``, ``4.2 s``, ``3 min 20 s``, ``2 h 5 min``, ``3 d 4 h``."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} d {hours % 24} h"


def plural(count: int, noun: str) -> str:
    """Write a count with its noun: ``1 table``, ``3 tables``."""
    return f"{number(count)} {noun}{'' if count == 1 else 's'}"
