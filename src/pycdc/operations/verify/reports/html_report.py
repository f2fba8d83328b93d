"""The HTML page of a verification: one file without scripts and without anything from elsewhere, light and dark."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape

from pycdc.observability.page_files import report_style
from pycdc.operations.humanize import duration, number
from pycdc.operations.verify.result import ComparisonMethod, Difference, PointInTime, TableResult, Verification
from pycdc.printable import printable


def html(found: Verification) -> str:
    """Return the page."""
    verdict = _verdict(found)
    body = "".join(
        (
            f"<h1>Verification of {_text(found.pipeline)}</h1>",
            f'<p><span class="verdict {"good" if found.equal else "bad"}">{verdict}</span> ',
            f'<span class="quiet">{_text(found.started)}, {duration(found.seconds)}</span></p>',
            "" if found.exact else _inexact(),
            _summary(found),
            *map(_table, found.tables),
        )
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{_text(found.pipeline)}: {verdict}</title><style>{report_style()}</style></head>"
        f"<body><main>{body}</main></body></html>\n"
    )


def _verdict(found: Verification) -> str:
    differing = sum(sum(table.differing.values()) for table in found.tables)
    failed = sum(table.problem is not None for table in found.tables)
    problems = [f"{number(differing)} differences"] if differing else []
    problems += [f"{number(failed)} tables not compared"] if failed else []
    return ", ".join(problems) or "equal"


def _inexact() -> str:
    return (
        '<section><span class="verdict bad">not exact</span> The databases were compared twice with a pause between, '
        "because no common point could be had. A difference may be a change that was on its way.</section>"
    )


def _summary(found: Verification) -> str:
    rows = [
        ("source", found.source),
        ("target", found.target),
        ("configuration", found.configuration),
        ("digest", found.digest),
        ("rows", f"{number(sum(t.source_rows for t in found.tables))} compared"),
        ("keys in flight", f"{number(sum(t.in_flight for t in found.tables))} compared one by one"),
        *_points(found.points),
        *((f"left out: {name}", reason) for name, reason in found.left_out.items()),
    ]
    return f"<section><h2>What was compared</h2>{_pairs(rows)}</section>"


def _points(points: Iterable[PointInTime]) -> Iterator[tuple[str, str]]:
    for point in points:
        vector = ", ".join(f"{partition}@{offset}" for partition, offset in point.vector.items())
        yield "point", f"{point.lsn}, and in the target {vector}"
        yield (
            "waited",
            f"{point.waited_for_capture:.2f} s for the capture, {point.waited_for_apply:.2f} s for the pipeline",
        )


def _table(table: TableResult) -> str:
    rows = [
        *([] if table.problem is None else [("not compared", table.problem)]),
        ("from", ", ".join(table.sources)),
        ("rows", f"{number(table.source_rows)} in the source, {number(table.target_rows)} in the target"),
        ("ranges", f"{number(table.ranges)}, of which {number(table.differing_ranges)} differ"),
        ("columns", ", ".join(table.columns)),
        *((f"not compared: {name}", reason) for name, reason in table.not_compared.items()),
        *([("through the route", table.why_routed or "")] if table.method is ComparisonMethod.ROUTED else []),
        *(("note", note) for note in table.notes),
        ("seconds", f"{table.seconds:.1f}"),
    ]
    counts = ", ".join(f"{number(count)} {kind.value}" for kind, count in sorted(table.differing.items()))
    problems = ", ".join([*([counts] if counts else []), *([] if table.problem is None else ["not compared"])])
    verdict = (
        '<span class="verdict good">equal</span>' if table.equal else f'<span class="verdict bad">{problems}</span>'
    )
    shown = "" if not table.differing else _differences(table)
    return f"<section><header><h2>{_text(table.table)}</h2>{verdict}</header>{_pairs(rows)}{shown}</section>"


def _differences(table: TableResult) -> str:
    rows = "".join(map(_difference, table.differences))
    rest = sum(table.differing.values()) - len(table.differences)
    more = f'<p class="quiet">and {number(rest)} more</p>' if rest > 0 else ""
    return f"<table><tr><th>kind</th><th>key</th><th>columns</th><th></th></tr>{rows}</table>{more}"


def _difference(one: Difference) -> str:
    key = ", ".join(f"{_text(name)} {_text(value)}" for name, value in one.key.items())
    columns = ", ".join(map(_text, one.columns))
    if one.source is not None and one.target is not None:
        columns = "<br>".join(
            f"{_text(name)}: <code>{_value(one.source[name])}</code> in the source, "
            f"<code>{_value(one.target.get(name))}</code> in the target"
            for name in one.source
        )
    note = "; ".join([*(["in flight"] if one.in_flight else []), *([one.explanation] if one.explanation else [])])
    return f"<tr><td>{one.kind.value}</td><td><code>{key}</code></td><td>{columns}</td><td>{_text(note)}</td></tr>"


def _pairs(rows: Iterable[tuple[str, str]]) -> str:
    return f"<dl>{''.join(f'<dt>{_text(name)}</dt><dd>{_text(value)}</dd>' for name, value in rows)}</dl>"


def _value(text: str | None) -> str:
    return "NULL" if text is None else _text(text)


def _text(text: str) -> str:
    return escape(printable(text))
