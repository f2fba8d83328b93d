"""What changed between two Avro schemas, field by field, for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def differences(old: Any, new: Any) -> list[str]:
    """Return one line for each field that was removed, added or changed. `old` and `new` are schemas as JSON values."""
    before, after = dict(_fields(old)), dict(_fields(new))
    lines = [f"- {path}: {before[path][0]}" for path in before if path not in after]
    for path, (label, default) in after.items():
        if path not in before:
            lines.append(f"+ {path}: {label}, {'with' if default else 'without'} a default")
        elif before[path][0] != label:
            lines.append(f"~ {path}: {before[path][0]} became {label}")
        elif before[path][1] and not default:
            lines.append(f"~ {path}: {label} lost its default")
    return lines


def _fields(schema: Any, path: str = "") -> Iterator[tuple[str, tuple[str, bool]]]:
    """Each field's path (``before.qty``), the label of its type and whether it has a default, records' fields too."""
    if isinstance(schema, list):
        for branch in schema:
            yield from _fields(branch, path)
    elif isinstance(schema, dict):
        kind = schema["type"]
        if isinstance(kind, dict | list):
            yield from _fields(kind, path)
        elif kind == "record":
            for field in schema["fields"]:
                name = f"{path}.{field['name']}" if path else field["name"]
                yield name, (_label(field["type"]), "default" in field)
                yield from _fields(field["type"], name)
        elif kind in ("array", "map"):
            yield from _fields(schema["items" if kind == "array" else "values"], f"{path}[]")


def _label(schema: Any) -> str:
    if isinstance(schema, str):
        return schema
    if isinstance(schema, list):
        # Where null stands says only what the default is.
        optional = "optional " if "null" in schema else ""
        return optional + " or ".join(_label(branch) for branch in schema if branch != "null")
    kind = schema["type"]
    if isinstance(kind, dict | list):
        return _label(kind)
    if kind in ("record", "enum", "fixed"):
        return str(schema["name"])
    if kind in ("array", "map"):
        return f"{kind} of {_label(schema['items' if kind == 'array' else 'values'])}"
    if schema.get("logicalType") == "decimal":
        return f"decimal({schema.get('precision')},{schema.get('scale', 0)})"
    meaning = schema.get("connect.name") or schema.get("logicalType")
    return f"{kind} ({meaning})" if meaning else str(kind)
