"""The contrast of a text with its ground, as a browser shows them."""

from __future__ import annotations

import re

COLORS = """element => {
    let ground = element;
    while (ground && getComputedStyle(ground).backgroundColor === "rgba(0, 0, 0, 0)") ground = ground.parentElement;
    return [getComputedStyle(element).color, getComputedStyle(ground || document.body).backgroundColor];
}"""


def contrast(*colors: str) -> float:
    """As WCAG 2.2 defines it, of ``rgb(r, g, b)``."""

    def luminance(color: str) -> float:
        parts = [int(part) / 255 for part in re.findall(r"\d+", color)[:3]]
        red, green, blue = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    dark, light = sorted(map(luminance, colors))
    return (light + 0.05) / (dark + 0.05)
