"""The JSON document of a verification: versioned, described by `report.schema.json` beside this module."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any, Final

from pycdc.errors import ConfigError
from pycdc.operations.verify.result import (
    ComparisonMethod,
    Difference,
    DifferenceKind,
    PointInTime,
    TableResult,
    Verification,
)
from pycdc.version import __version__

VERSION: Final = 1
SCHEMA: Final = Path(__file__).with_name("report.schema.json")


def document(found: Verification) -> dict[str, Any]:
    """Return the document. It holds keys, and values only where the verification kept them."""
    return {
        "version": VERSION,
        "pycdc": __version__,
        "pipeline": found.pipeline,
        "command": list(found.command),
        "configuration": found.configuration,
        "equal": found.equal,
        "exact": found.exact,
        "started": found.started,
        "seconds": round(found.seconds, 3),
        "source": found.source,
        "target": found.target,
        "digest": found.digest,
        "points": [_point(point) for point in found.points],
        "tables": [_table(table) for table in found.tables],
        "left_out": dict(found.left_out),
    }


def _point(point: PointInTime) -> dict[str, Any]:
    return {
        "lsn": point.lsn,
        "low": dict(point.low),
        "high": dict(point.high),
        "vector": dict(point.vector),
        "waited_for_capture": round(point.waited_for_capture, 3),
        "waited_for_apply": round(point.waited_for_apply, 3),
    }


def _table(table: TableResult) -> dict[str, Any]:
    return {
        "table": table.table,
        "sources": list(table.sources),
        "equal": table.equal,
        "problem": table.problem,
        "method": table.method.value,
        "why_routed": table.why_routed,
        "key": list(table.key),
        "key_fields": list(table.key_fields),
        "columns": list(table.columns),
        "not_compared": dict(table.not_compared),
        "source_rows": table.source_rows,
        "target_rows": table.target_rows,
        "in_flight": table.in_flight,
        "ranges": table.ranges,
        "differing_ranges": table.differing_ranges,
        "seconds": round(table.seconds, 3),
        "notes": list(table.notes),
        "differing": {kind.value: count for kind, count in sorted(table.differing.items())},
        "differences": [_difference(one) for one in table.differences],
    }


def _difference(one: Difference) -> dict[str, Any]:
    out: dict[str, Any] = {"kind": one.kind.value, "key": dict(one.key), "in_flight": one.in_flight}
    if one.columns:
        out["columns"] = list(one.columns)
    if one.source is not None and one.target is not None:
        out["source"], out["target"] = dict(one.source), dict(one.target)
    if one.explanation is not None:
        out["explanation"] = one.explanation
    return out


def read(path: Path) -> Verification:
    """Return the verification that a report holds; `path` is the document or its folder. Raises ConfigError."""
    place = path / "report.json" if path.is_dir() else path
    try:
        found = json.loads(place.read_text(encoding="utf-8"))
        version = found["version"]
        if version != VERSION:
            raise ConfigError(
                f"the report at {place} is of version {version}, and this pycdc reads version {VERSION}",
                hint="verify again",
            )
        return verification(found)
    except OSError as error:
        raise ConfigError(
            f"the report at {place} cannot be read ({error.strerror})", hint="name report.json or its folder"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ConfigError(
            f"{place} is no report of a verification", hint="name the report.json of `pycdc verify --report`"
        ) from None


def verification(found: dict[str, Any]) -> Verification:
    """Return the verification that a document of the current version tells."""
    names = ("pipeline", "started", "source", "target", "digest", "configuration", "seconds", "exact")
    return Verification(
        command=tuple(found["command"]),
        **{name: found[name] for name in names},
        points=[PointInTime(**point) for point in found["points"]],
        tables=[_table_of(table) for table in found["tables"]],
        left_out=found.get("left_out", {}),
    )


def _table_of(found: dict[str, Any]) -> TableResult:
    name = found["table"]
    same = ("why_routed", "not_compared", "source_rows", "target_rows", "in_flight", "ranges", "differing_ranges")
    return TableResult(
        table=name,
        sources=tuple(found["sources"]),
        method=ComparisonMethod(found["method"]),
        key=tuple(found["key"]),
        key_fields=tuple(found["key_fields"]),
        columns=tuple(found["columns"]),
        problem=found.get("problem"),
        seconds=found["seconds"],
        notes=list(found["notes"]),
        differing=Counter({DifferenceKind(kind): count for kind, count in found["differing"].items()}),
        differences=[_difference_of(name, one) for one in found["differences"]],
        **{field: found[field] for field in same},
    )


def _difference_of(table: str, found: dict[str, Any]) -> Difference:
    return Difference(
        table,
        DifferenceKind(found["kind"]),
        found["key"],
        tuple(found.get("columns", ())),
        found["in_flight"],
        found.get("source"),
        found.get("target"),
        found.get("explanation"),
    )
