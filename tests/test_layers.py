"""The architecture, read from the imports: layers import downwards only, and each driver has its one place."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "pycdc"

LAYERS = (
    ("printable",),
    ("errors", "process_pool", "version"),
    ("model",),
    ("engine_interfaces",),
    ("interfaces", "config"),
    ("observability",),
    ("rows",),
    ("clients",),
    ("connectors", "transforms", "serialization", "sinks", "offsets", "testing"),
    ("checkpoint",),
    ("parking", "pipeline", "snapshot_worker", "table_validation"),
    ("build", "facade"),
    ("operations",),
    ("api",),
    ("demo",),
    ("cli",),
    ("__main__",),
)
"""From the ground up. Names of one line do not import each other, but for `BESIDE`."""

BESIDE = {("sinks", "serialization")}
"""A sink may use serialization."""

HOMES = {
    "psycopg": ("clients", "connectors.postgres", "sinks.postgres", "offsets.postgres", "operations", "demo"),
    "confluent_kafka": (
        "clients",
        "connectors.kafka",
        "sinks.kafka",
        "offsets.kafka",
        "demo",
    ),
    "click": ("cli",),
    "opentelemetry": ("observability.spans",),
    "rich": ("cli",),
}
"""Where a library may be imported, `TYPE_CHECKING` included."""

COMPILES = "rows._codegen"
"""The only module that turns text into code."""


class Import(NamedTuple):
    """`module` imports `target`, both dotted; those of pycdc without the leading ``pycdc``, "" for the front door."""

    module: str
    target: str
    line: int
    own: bool

    def __str__(self) -> str:
        return f"{self.module}, line {self.line}, imports {self.target or 'pycdc itself'}"


@functools.cache
def modules() -> dict[str, ast.Module]:
    """Every module's syntax tree by its dotted name, ``cli`` for ``cli/__init__.py``; the front door stays out."""
    trees = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        if name:
            trees[name] = ast.parse(path.read_text(encoding="utf-8"), str(path))
    return trees


def layer(module: str) -> int:
    top = module.partition(".")[0]
    return next(index for index, names in enumerate(LAYERS) if top in names)


def imports() -> Iterator[Import]:
    for module, tree in modules().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                yield from (_import(module, alias.name, node.lineno) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield from (_import(module, name, node.lineno) for name in _from(module, node))


def _from(module: str, node: ast.ImportFrom) -> Iterator[str]:
    """What a ``from`` statement imports: submodules where they are named, else the module that holds the names."""
    base = node.module or ""
    if node.level:
        package = (SOURCE / Path(*module.split(".")) / "__init__.py").exists()
        parents = ["pycdc", *module.split(".")]
        base = ".".join(part for part in (*parents[: len(parents) - node.level + package], node.module) if part)
    for alias in node.names:
        full = f"{base}.{alias.name}"
        yield full if full.removeprefix("pycdc.") in modules() else base


def _import(module: str, target: str, line: int) -> Import:
    own = target == "pycdc" or target.startswith("pycdc.")
    return Import(module, target.removeprefix("pycdc").removeprefix(".") if own else target, line, own)


def test_every_module_stands_in_a_layer() -> None:
    known = {name for names in LAYERS for name in names}
    strangers = sorted({module.partition(".")[0] for module in modules()} - known)
    assert not strangers, f"say in LAYERS where {', '.join(strangers)} belongs"


def test_layers_import_downwards_only() -> None:
    wrong = []
    for found in imports():
        if not found.own or found.target == "":
            continue
        here, there = found.module.partition(".")[0], found.target.partition(".")[0]
        if here == there or (here, there) in BESIDE:
            continue
        if layer(here) <= layer(there):
            wrong.append(str(found))
    assert not wrong, "\n".join(wrong)


def test_the_engine_does_not_go_through_its_own_front_door() -> None:
    """``import pycdc`` is for users: inside, a name is imported from where it is defined."""
    wrong = [str(one) for one in imports() if one.own and one.target == "" and layer(one.module) < layer("demo")]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("library", HOMES)
def test_a_library_is_imported_at_home_only(library: str) -> None:
    wrong = []
    for found in imports():
        at_home = any(found.module == home or found.module.startswith(f"{home}.") for home in HOMES[library])
        if found.target.partition(".")[0] == library and not at_home:
            wrong.append(str(found))
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("library", HOMES)
def test_every_home_is_a_part_of_the_architecture(library: str) -> None:
    assert {home.partition(".")[0] for home in HOMES[library]} <= {name for names in LAYERS for name in names}


def defined_names(tree: ast.Module) -> Iterator[str]:
    """Yield the public classes and type aliases that a module defines: of the assigned names, those in CamelCase."""
    for node in tree.body:
        names = []
        if isinstance(node, ast.ClassDef):
            names = [node.name]
        elif isinstance(node, ast.Assign):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
        yield from (name for name in names if name[0].isupper() and not name.isupper())


def test_a_public_name_stands_for_one_class() -> None:
    """A name in two modules means two things to whoever reads an import. What is re-exported is defined once."""
    homes: dict[str, list[str]] = {}
    for module, tree in modules().items():
        for name in defined_names(tree):
            if len(name) > 1:  # one letter is a type variable
                homes.setdefault(name, []).append(module)
    twice = {name: found for name, found in homes.items() if len(found) > 1}
    assert not twice


def test_one_module_turns_text_into_code() -> None:
    wrong = [
        f"{module}, line {node.lineno}, calls {node.func.id}"
        for module, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("exec", "eval", "compile")
        and module != COMPILES
    ]
    assert not wrong, "\n".join(wrong)


def test_importing_the_front_door_loads_no_driver() -> None:
    """Whoever wants the types, the errors or the version does not wait for Kafka's and Postgres' libraries."""
    eager: set[str] = set()
    waiting = ["__init__"]
    seen = set()
    trees = {**modules(), "__init__": ast.parse((SOURCE / "__init__.py").read_text(encoding="utf-8"))}
    while waiting:
        module = waiting.pop()
        if module in seen or module not in trees:
            continue
        seen.add(module)
        for node in trees[module].body:  # what runs at import: neither functions nor TYPE_CHECKING blocks
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = list(_from(module, node))
            else:
                continue
            eager.update(names)
            waiting += [name.removeprefix("pycdc.") for name in names if name.startswith("pycdc.")]
    drivers = {name.partition(".")[0] for name in eager} & {"psycopg", "confluent_kafka", "click", "rich", "fastavro"}
    assert "pycdc.model.change" in eager
    assert not drivers
