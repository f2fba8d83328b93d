"""The JUnit document of a verification, for CI: one test case a table."""

from __future__ import annotations

from xml.etree import ElementTree

from pycdc.operations.verify.result import TableResult, Verification
from pycdc.printable import printable


def junit(found: Verification) -> bytes:
    """Return the XML. It names kinds, keys and columns, never values."""
    failed = sum(bool(table.differing) for table in found.tables)
    errors = sum(table.problem is not None for table in found.tables)
    suite = ElementTree.Element(
        "testsuite",
        name=f"pycdc verify {found.pipeline}",
        tests=str(len(found.tables)),
        failures=str(failed),
        errors=str(errors),
        skipped="0",
        time=f"{found.seconds:.3f}",
        timestamp=found.started.partition("+")[0],
    )
    properties = ElementTree.SubElement(suite, "properties")
    ElementTree.SubElement(properties, "property", name="exact", value="true" if found.exact else "false")
    for table in found.tables:
        case = ElementTree.SubElement(
            suite, "testcase", classname=found.pipeline, name=printable(table.table), time=f"{table.seconds:.3f}"
        )
        if table.problem is not None:
            ElementTree.SubElement(case, "error", type="not compared", message=table.problem)
        if table.differing:
            _add_failure(case, table)
        _add_output(case, [*table.notes, *(f"{name} not compared: {why}" for name, why in table.not_compared.items())])
    inexact = [] if found.exact else ["not exact: two passes without a common point"]
    _add_output(suite, [*inexact, *(f"{name} left out: {why}" for name, why in found.left_out.items())])
    ElementTree.indent(suite)
    out: bytes = ElementTree.tostring(suite, encoding="utf-8", xml_declaration=True)
    return out + b"\n"


def _add_output(parent: ElementTree.Element, lines: list[str]) -> None:
    if lines:
        ElementTree.SubElement(parent, "system-out").text = "\n".join(map(printable, lines))


def _add_failure(case: ElementTree.Element, table: TableResult) -> None:
    counts = ", ".join(f"{count} {kind.value}" for kind, count in sorted(table.differing.items()))
    failure = ElementTree.SubElement(case, "failure", type="differences", message=counts)
    failure.text = "\n".join(
        printable(f"{one.kind.value} {dict(one.key)} {', '.join(one.columns)} {one.explanation or ''}".rstrip())
        for one in table.differences
    )
