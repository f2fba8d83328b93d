"""Write the reference pages from the code: ``python -m scripts.docs.configuration_page``; a test keeps them current."""

from __future__ import annotations

import re
import sys
import typing
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from pycdc.cli import main
from pycdc.cli.app import COMMANDS
from pycdc.cli.option_texts import explanation
from pycdc.config.migration import MigrationConfig
from pycdc.config.pipeline import ApplyPipeline, CapturePipeline
from pycdc.config.validation_errors import model, plain

_CONFIGURATION = """\
# Configuration

<!-- Made by `python -m scripts.docs.configuration_page` from src/pycdc/config: change that. -->

A pipeline is a YAML file (JSON is YAML too). This is a whole one:

```yaml
name: shop
source:
  postgres:
    dsn: ${SHOP_DSN}
    tables: [public.orders, "public.customer_*"]
sink:
  kafka:
    brokers: localhost:9092
    registry: http://localhost:8081
```

`pycdc init` prints one for a database, `pycdc doctor` checks it against the servers, and `pycdc schema` prints
a JSON Schema, with which editors complete and check it:

```sh
pycdc schema > pycdc.schema.json    # then, as the file's first line:
# yaml-language-server: $schema=pycdc.schema.json
```

**Variables.** In any value, `${NAME}` is the environment variable of that name, `${NAME:-default}` has a default for
when it is not set or empty, and `${file:/run/secrets/dsn}` is a file's text without its last newline. `$${` stands for
`${`. A variable that is missing is an error.

**Mistakes** are told all at once, each with its line, its place and what to write instead; keys that stand twice and
keys that do not exist are mistakes. Values are never shown, in errors, logs or anywhere else. The exit code is 2.

A section with nothing under it has its defaults. Options without a default have to be there.
"""

_MIGRATION = """\
# Migration reference

<!-- Made by `python -m scripts.docs.configuration_page` from src/pycdc/config: change that. -->

The options of a migration's file, which [moving a bounded context](migration.md) explains. Variables and mistakes are
treated as in [a pipeline's configuration](configuration.md).
"""

_COMMANDS = """\
# Command line

<!-- Made by `python -m scripts.docs.configuration_page` from src/pycdc/cli: change that. -->

`pycdc COMMAND --help` prints the same. CONFIG is the path of a [configuration](configuration.md), or `-` for standard
input. `pycdc --debug COMMAND` shows tracebacks and logs what happens inside.

| exit code | meaning |
|---|---|
| 0 | fine |
| 1 | failed while running |
| 2 | bad configuration or usage; nothing was started |
| 3 | the environment is not ready: a server lacks something, or going on would lose rows |
| 4 | `pycdc apply --check`: something is to be changed |
| 130 | interrupted at once (a second signal) or declined |

Errors go to standard error as `error: …` and `try: …`. Results go to standard output, as JSON with `--json`. Colours
are left out where `NO_COLOR` is set or the output is no terminal.
"""


def configuration() -> str:
    """docs/configuration.md"""
    return _CONFIGURATION + "".join(_section((CapturePipeline, ApplyPipeline), ()))


def migration() -> str:
    """docs/migration-reference.md"""
    return _MIGRATION + "".join(_section((MigrationConfig,), ()))


def commands() -> str:
    """docs/cli.md"""
    return _COMMANDS + "".join(part for name in COMMANDS for part in _command(name))


def _section(variants: tuple[type[BaseModel], ...], place: tuple[str, ...]) -> Iterator[str]:
    """One section: where the two directions have different ones there, with the options of both."""
    title = f"`{'.'.join(place)}`" if place else "Top level"
    yield f"\n## {title}\n\n{_prose(variants[0].__doc__)}\n\n"
    yield "| option | type | default | |\n|---|---|---|---|\n"
    inner = []
    for name in dict.fromkeys(name for section in variants for name in section.model_fields):
        having = [section for section in variants if name in section.model_fields]
        infos = [section.model_fields[name] for section in having]
        default = _default(infos[0]) if len(having) == len(variants) or not infos[0].is_required() else ""
        yield f"| `{name}` | {_type(infos[0])} | {default} | {_cell(explanation(having[0], name))} |\n"
        below = tuple(dict.fromkeys(found for info in infos if (found := model(_element(info.annotation))) is not None))
        if below:
            kind = infos[0].annotation
            suffix = "" if below[0] is model(kind) else _SUFFIXES[typing.get_origin(plain(kind))]
            inner.append((below, (*place, name + suffix)))
    for sections, where in inner:
        yield from _section(sections, where)


def _element(annotation: Any) -> Any:
    """What a list or a map is of, or the annotation itself."""
    kind = plain(annotation)
    return plain(typing.get_args(kind)[-1]) if typing.get_origin(kind) in _SUFFIXES else kind


_SUFFIXES: Final[dict[Any, str]] = {list: "[]", dict: ".NAME"}


def _prose(text: str | None) -> str:
    """A docstring without its indentation."""
    paragraphs = re.split(r"\n\s*\n", (text or "").strip())
    return "\n\n".join(re.sub(r"\s*\n\s*", "\n", paragraph.strip()) for paragraph in paragraphs)


def _cell(text: str | None) -> str:
    return re.sub(r"\s+", " ", text or "").replace("|", "\\|").strip()


def _type(info: FieldInfo) -> str:
    bounds = {type(item).__name__.lower(): item for item in info.metadata}
    name = _kind(info.annotation)
    limits = [
        f"{sign} {getattr(bounds[key], key):g}"
        for key, sign in (("gt", ">"), ("ge", "≥"), ("lt", "<"), ("le", "≤"))
        if key in bounds
    ]
    return ", ".join([name, *limits])


def _kind(annotation: Any) -> str:
    kind = plain(annotation)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if model(kind) is not None:
        return "section"
    if origin is typing.Literal:
        return ", ".join(f"`{word}`" for word in arguments)
    if origin is list:
        return f"list of {_kind(arguments[0])}" if model(arguments[0]) is None else "list of sections"
    if origin is dict:
        return f"map of {_kind(arguments[1])}" if model(arguments[1]) is None else "map of sections"
    return _NAMES.get(kind, "text or number")


_NAMES = {
    str: "text",
    SecretStr: "text, secret",
    bool: "boolean",
    int: "integer",
    float: "number",
    datetime: "time",
    Any: "anything",
}


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "**required**"
    default = info.get_default(call_default_factory=True)
    if default is None:
        return ""
    if isinstance(default, BaseModel):
        return "see below"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, list):
        return f"`[{', '.join(_quoted(item) for item in default)}]`"
    if isinstance(default, dict):
        return "`{}`"
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"


def _quoted(item: object) -> str:
    return str(item) if re.fullmatch(r"[A-Za-z0-9_]+", str(item)) else f'"{item}"'


def _command(name: str) -> Iterator[str]:
    context = main.make_context("pycdc", [], resilient_parsing=True)
    command = main.get_command(context, name)
    assert command is not None
    members = getattr(command, "commands", None)
    if members is None:
        yield from _usage(name, command, "##")
        return
    yield f"\n## `pycdc {name}`\n\n{_prose(command.help)}\n"
    for inner, member in members.items():
        yield from _usage(f"{name} {inner}", member, "###")


def _usage(name: str, command: Any, heading: str) -> Iterator[str]:
    arguments = [item for item in command.params if item.param_type_name == "argument"]
    options = [item for item in command.params if item.param_type_name == "option"]
    usage = " ".join(["pycdc", name, *(["[OPTIONS]"] if options else []), *(item.metavar or "" for item in arguments)])
    yield f"\n{heading} `pycdc {name}`\n\n```\n{usage}\n```\n\n{_prose(command.help)}\n"
    if options:
        yield "\n| option | | default |\n|---|---|---|\n"
    for option in options:
        yield _option(option)


def _option(option: Any) -> str:
    """One row. A default that the help tells stays there."""
    help_text, _, told = _cell(option.help).partition("[default: ")
    names = ", ".join(f"`{name}`" for name in [*option.opts, *option.secondary_opts])
    choices = getattr(option.type, "choices", None)
    if choices is not None:
        names += " " + ", ".join(choices)
    elif not option.is_flag:
        names += " TEXT"
    default = told.rstrip("] ")
    if option.show_default and not default:
        default = f"`{option.default}`"
    required = "**required**" if option.required else default
    return f"| {names} | {help_text.strip()} | {required} |\n"


def write(folder: Path) -> None:
    """Write all pages."""
    (folder / "configuration.md").write_text(configuration(), encoding="utf-8")
    (folder / "migration-reference.md").write_text(migration(), encoding="utf-8")
    (folder / "cli.md").write_text(commands(), encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1] if len(sys.argv) > 1 else "docs"))
