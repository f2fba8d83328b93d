"""Charts as SVG text: bars beside each other, and curves over a logarithmic axis. No library, no fonts, no scripts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 720, 320
LEFT, RIGHT, TOP, BOTTOM = 70, 20, 40, 60
COLOURS = ("#0b6e99", "#d9822b", "#5a5a5a", "#8f398f")
_STYLE = "font-family:sans-serif;font-size:12px;fill:#333"

Points = Sequence[tuple[float, float]]


def bars(title: str, unit: str, values: Mapping[str, float]) -> str:
    """A horizontal bar for each name."""
    step, longest = 34, max(values.values())
    body = []
    for row, (name, value) in enumerate(values.items()):
        y = TOP + row * step
        length = (WIDTH - 330) * value / longest
        body.append(_text(190, y + 16, name, anchor="end"))
        body.append(f'<rect x="200" y="{y}" width="{length:.1f}" height="22" fill="{COLOURS[row % len(COLOURS)]}"/>')
        body.append(_text(206 + length, y + 16, f"{value:,.4g} {unit}" if value < 100 else f"{value:,.0f} {unit}"))
    return _document(title, TOP + len(values) * step + 10, body)


def curves(title: str, x_name: str, y_name: str, series: Mapping[str, Points], *, log_x: bool = False) -> str:
    """A line for each series. The vertical axis is logarithmic, and so is the other with `log_x`."""
    every = [point for points in series.values() for point in points]
    xs = [_scaled(x, log_x) for x, _ in every]
    ys = [_scaled(max(y, 1e-3), True) for _, y in every]
    low, high = math.floor(min(ys)), math.ceil(max(ys) + 1e-9)
    across = _Axis(min(xs), max(xs), LEFT, WIDTH - RIGHT)
    up = _Axis(low, max(high, low + 1), HEIGHT - BOTTOM, TOP)
    body = [_text(WIDTH / 2, HEIGHT - 12, x_name, anchor="middle"), _text(8, TOP - 12, y_name)]
    for power in range(low, max(high, low + 1) + 1):
        y = up.at(power)
        body.append(f'<line x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}" stroke="#ddd"/>')
        body.append(_text(LEFT - 8, y + 4, _number(10.0**power), anchor="end"))
    for x in sorted({x for points in series.values() for x, _ in points}):
        body.append(_text(across.at(_scaled(x, log_x)), HEIGHT - BOTTOM + 18, _number(x), anchor="middle"))
    for index, (name, points) in enumerate(series.items()):
        colour = COLOURS[index % len(COLOURS)]
        line = " ".join(
            f"{across.at(_scaled(x, log_x)):.1f},{up.at(_scaled(max(y, 1e-3), True)):.1f}" for x, y in points
        )
        body.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        body.append(f'<rect x="{LEFT + 10}" y="{TOP + 4 + index * 18}" width="12" height="12" fill="{colour}"/>')
        body.append(_text(LEFT + 28, TOP + 15 + index * 18, name))
    return _document(title, HEIGHT, body)


class _Axis:
    def __init__(self, low: float, high: float, first: float, last: float) -> None:
        self._low, self._first = low, first
        self._scale = (last - first) / ((high - low) or 1.0)

    def at(self, value: float) -> float:
        return self._first + (value - self._low) * self._scale


def _scaled(value: float, logarithmic: bool) -> float:
    return math.log10(value) if logarithmic else value


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"


def _text(x: float, y: float, text: str, *, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" style="{_STYLE}">{escape(text)}</text>'


def _document(title: str, height: float, body: list[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" role="img">'
    back = f'<rect width="{WIDTH}" height="{height:.0f}" fill="#fff"/>'
    name = f'<title>{escape(title)}</title><text x="8" y="18" style="{_STYLE};font-weight:bold">{escape(title)}</text>'
    return "\n".join([head, back, name, *body, "</svg>", ""])
