"""The JUnit document of a verification, for CI: one test case a table."""

from __future__ import annotations

from xml.etree import ElementTree

from pycdc.operations.verify.result import Verification
from pycdc.printable import printable


def junit(found: Verification) -> bytes:
    """Return the XML. It names kinds, keys and columns, never values."""
    failed = sum(not table.equal for table in found.tables)
    suite = ElementTree.Element(
        "testsuite",
        name=f"pycdc verify {found.pipeline}",
        tests=str(len(found.tables)),
        failures=str(failed),
        errors="0",
        skipped="0",
        time=f"{found.seconds:.3f}",
        timestamp=found.started.partition("+")[0],
    )
    for table in found.tables:
        case = ElementTree.SubElement(
            suite, "testcase", classname=found.pipeline, name=table.table, time=f"{table.seconds:.3f}"
        )
        if table.equal:
            continue
        counts = ", ".join(f"{count} {kind.value}" for kind, count in sorted(table.differing.items()))
        failure = ElementTree.SubElement(case, "failure", type="differences", message=counts)
        failure.text = "\n".join(
            printable(f"{one.kind.value} {dict(one.key)} {', '.join(one.columns)} {one.explanation or ''}".rstrip())
            for one in table.differences
        )
    ElementTree.indent(suite)
    out: bytes = ElementTree.tostring(suite, encoding="utf-8", xml_declaration=True)
    return out + b"\n"
