"""As much of JSON Schema as the reports' schemas use."""

from __future__ import annotations

from typing import Any


def problems(
    value: Any, schema: dict[str, Any], place: str = "$", definitions: dict[str, Any] | None = None
) -> list[str]:
    """What of a document its schema does not allow."""
    definitions = schema.get("$defs", {}) if definitions is None else definitions
    if "$ref" in schema:
        schema = {**schema, **definitions[schema["$ref"].removeprefix("#/$defs/")]}
    kinds = {
        "object": dict,
        "array": list,
        "string": str,
        "integer": int,
        "number": int | float,
        "boolean": bool,
        "null": type(None),
    }
    out = []
    wanted = schema.get("type", [])
    allowed = [wanted] if isinstance(wanted, str) else wanted
    if allowed and not any(isinstance(value, kinds[one]) for one in allowed):
        out.append(f"{place}: {type(value).__name__}")
    if "enum" in schema and value not in schema["enum"]:
        out.append(f"{place}: {value}")
    if "const" in schema and value != schema["const"]:
        out.append(f"{place}: {value}")
    if isinstance(value, dict):
        known, more = schema.get("properties", {}), schema.get("additionalProperties", True)
        out += [f"{place}: no {name}" for name in schema.get("required", ()) if name not in value]
        for name, inner in value.items():
            if name not in known and more is False:
                out.append(f"{place}: {name} is not known")
            elif name in known or isinstance(more, dict):
                out += problems(inner, known.get(name, more), f"{place}.{name}", definitions)
    if isinstance(value, list):
        for n, one in enumerate(value):
            out += problems(one, schema["items"], f"{place}[{n}]", definitions)
    return out
