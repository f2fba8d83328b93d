"""`pycdc schema`: the configuration's JSON Schema, for completion and checks in editors."""

from __future__ import annotations

import json
import typing
from collections.abc import Iterator
from typing import Any

import click
from pydantic import BaseModel

from pycdc.cli.option_texts import explanation
from pycdc.config.pipeline import ApplyPipeline, CapturePipeline
from pycdc.config.values import PRESETS

_VARIABLE = {"type": "string", "pattern": r"\$\{.+\}"}
_PLAIN = ("integer", "number", "boolean")


@click.command()
def schema() -> None:
    """Print the configuration's JSON Schema.

    Editors complete and check a file whose first line is `# yaml-language-server: $schema=pycdc.schema.json`.
    """
    click.echo(json.dumps(json_schema(), indent=2, ensure_ascii=False))


def json_schema() -> dict[str, Any]:
    """Return what the loader accepts: the models, and the shorter forms that it takes too."""
    definitions: dict[str, Any] = {}
    for root in (CapturePipeline, ApplyPipeline):
        made = root.model_json_schema()
        definitions |= {**made.pop("$defs"), root.__name__: made}
    models = {section.__name__: section for section in _sections(CapturePipeline | ApplyPipeline)}
    for name, section in definitions.items():
        for option, described in section["properties"].items():
            described["description"] = explanation(models[name], option)
    capture, apply = definitions[CapturePipeline.__name__], definitions[ApplyPipeline.__name__]
    capture["properties"]["compatibility"] = _or(
        capture["properties"]["compatibility"], {"enum": sorted(PRESETS), "type": "string"}
    )
    registry = definitions["KafkaSinkConfig"]["properties"]["registry"]
    registry["anyOf"].insert(0, {"type": "string", "format": "uri"})
    for root_schema in (capture, apply):
        transforms = root_schema["properties"]["transforms"]
        transforms["items"] = {"anyOf": [transforms["items"], {"type": "string"}]}
    for section in definitions.values():
        for name, option in section.get("properties", {}).items():
            section["properties"][name] = _with_variables(_emptied(option, definitions))
    from_kafka = {"required": ["source"], "properties": {"source": {"type": "object", "required": ["kafka"]}}}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "pycdc pipeline",
        "if": from_kafka,
        "then": {"$ref": f"#/$defs/{ApplyPipeline.__name__}"},
        "else": {"$ref": f"#/$defs/{CapturePipeline.__name__}"},
        "$defs": definitions,
    }


def _sections(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the sections that an annotation names, and those of their options."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        for option in annotation.model_fields.values():
            yield from _sections(option.annotation)
    for part in typing.get_args(annotation):
        yield from _sections(part)


def _or(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {key: first[key] for key in ("description", "default", "title") if key in first}
    rest = {key: value for key, value in first.items() if key not in described}
    return {"anyOf": [rest, second], **described}


def _emptied(option: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """Accept null for a section: a heading with nothing under it is a section of defaults."""
    target = option.get("$ref", "").rpartition("/")[2]
    if target and "required" not in definitions.get(target, {"required": ()}):
        return _or(option, {"type": "null"})
    return option


def _with_variables(option: dict[str, Any]) -> dict[str, Any]:
    """`${PORT}` may stand for a number."""
    return _or(option, _VARIABLE) if option.get("type") in _PLAIN or "enum" in option else option
