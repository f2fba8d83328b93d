"""The documentation is true: its code runs, its links lead somewhere, its tables agree with the code."""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, get_args

import psycopg
import pytest
import yaml
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from pydantic import BaseModel

from pycdc import errors
from pycdc.config import load_migration, load_text
from pycdc.config.migration import MigrationConfig
from pycdc.config.pipeline import ApplyPipeline, CapturePipeline
from pycdc.config.postgres_source import PostgresSourceConfig
from pycdc.config.values import DEBEZIUM, CompatibilityConfig
from pycdc.connectors.postgres.catalog.catalog import Catalog
from pycdc.connectors.postgres.catalog.metadata import CopySource
from pycdc.connectors.postgres.catalog.slots_and_publications import Admin
from pycdc.connectors.postgres.snapshot.copy_reader import copy_rows
from pycdc.model.event import Partition
from pycdc.observability.metrics import exposition, registry
from pycdc.observability.progress import ParkedCount, PartitionPlace, Progress, TableSnapshot
from pycdc.observability.verify_progress import VerifyProgress
from tests.observability.lagging import Lagging

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")])
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
GENERATED = {"docs/configuration.md", "docs/cli.md", "docs/migration-reference.md", "docs/types.md"}
"""Written by the code; whoever generates them tests them."""

FENCE = re.compile(r"^( *)```([\w-]*)\n(.*?)^\1```$", re.M | re.S)
LINK = re.compile(r"(?<!!)\[[^\]\n]+\]\(([^)\s]+)\)")
VARIABLE = re.compile(r"\$\{([A-Z_]+)\}")


class Block(NamedTuple):
    page: str
    language: str
    text: str


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def prose(name: str) -> str:
    """The page without its code blocks."""
    return FENCE.sub("", text_of(name))


def blocks(*languages: str, page: str | None = None) -> list[Block]:
    return [
        Block(name, match[2], textwrap.dedent(match[3]))
        for name in NAMES
        if page in (None, name)
        for match in FENCE.finditer(text_of(name))
        if match[2] in languages
    ]


def ids(found: list[Block]) -> list[str]:
    return [f"{block.page}-{number}" for number, block in enumerate(found)]


def rows(page: str, heading: str) -> Iterator[list[str]]:
    """The cells of the first table under a heading, without the table's own head."""
    section = text_of(page).split(f"\n{heading}\n", 1)[1]
    section = re.split(r"^#+ ", section, maxsplit=1, flags=re.M)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    for line in lines[2:]:
        yield [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def anchors(name: str) -> set[str]:
    """What GitHub makes of headings."""
    headings = re.findall(r"^#+ (.+)$", prose(name), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


# Form


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name: str) -> None:
    broken = []
    for target in LINK.findall(prose(name)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (ROOT / name).parent / path if path else ROOT / name
        if not file.exists() or (anchor and anchor not in anchors(str(file.resolve().relative_to(ROOT)))):
            broken.append(target)
    assert not broken


@pytest.mark.parametrize("block", blocks("python"), ids=ids(blocks("python")))
def test_python_compiles_and_imports_what_it_uses(block: Block) -> None:
    tree = ast.parse(block.text)
    imported = {
        alias.asname or alias.name.partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    used = {
        node.value.id for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    }
    known = {"pycdc", "os", "time", "contextlib", "signal", "asyncio"}
    assert used & known <= imported


@pytest.mark.parametrize("block", blocks("yaml"), ids=ids(blocks("yaml")))
def test_yaml_is_a_configuration_that_loads(block: Block, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in VARIABLE.findall(block.text):
        monkeypatch.setenv(name, "a-value")
    data = yaml.safe_load(block.text)
    if data.keys() <= MigrationConfig.model_fields.keys():
        path = tmp_path / "migration.yaml"
        path.write_text(block.text)
        load_migration(path)
        return
    assert data.keys() <= CapturePipeline.model_fields.keys(), "a fragment has the keys that it would have in the file"
    rest = {"name": "shop", "source": {"postgres": {"dsn": "x"}}, "sink": {"console": {}}}
    load_text(block.text if data.keys() >= rest.keys() else yaml.safe_dump({**rest, **data}))


PATHS = re.compile(
    r"^(?:name|(?:source\.(?:postgres|kafka)|sink\.(?:kafka|postgres|console|null|custom)|compatibility|values|rules\[\]|envelope|offsets"
    r"|checkpoint|retries|http)(?:\.[a-z_]+)+)(?=$|:|\s)"
)


@pytest.mark.parametrize("name", sorted(set(NAMES) - GENERATED - {"CHANGELOG.md"}))
def test_options_are_called_what_they_are_called_in_the_configuration(name: str) -> None:
    wrong = []
    for code in re.findall(r"`([^`\n]+)`", prose(name)):
        match = PATHS.match(code)
        if match and not any(_exists(match[0].replace("[]", ""), root) for root in (CapturePipeline, ApplyPipeline)):
            wrong.append(match[0])
    assert not wrong


def _exists(path: str, model: type[BaseModel]) -> bool:
    first, _, rest = path.partition(".")
    field = model.model_fields.get(first)
    if field is None:
        return False
    return not rest or any(_exists(rest, inner) for inner in _models(field.annotation))


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)


# Tables that repeat the code


def _subclasses(root: type[errors.PycdcError]) -> Iterator[type[errors.PycdcError]]:
    for one in root.__subclasses__():
        if one.__module__ == "pycdc.errors":
            yield one
        yield from _subclasses(one)


def test_every_error_is_documented_with_its_code_exit_code_and_whether_it_is_retried() -> None:
    documented = {cells[0].strip("`"): cells[1:4] for cells in rows("docs/errors.md", "## Classes")}
    expected = {
        one.__name__: [f"`{one.code}`", str(one.exit_code), "yes" if one.retry else "no"]
        for one in _subclasses(errors.PycdcError)
    }
    assert documented == expected


def test_every_switch_of_compatibility_is_documented_value_by_value() -> None:
    documented = {
        cells[0].strip("`"): (cells[1], cells[2])
        for cells in rows("docs/debezium.md", "## Switches of `compatibility`")
    }
    honest = CompatibilityConfig()
    expected = {
        name: (f"`{getattr(honest, name)}`", f"`{getattr(DEBEZIUM, name)}`")
        for name in CompatibilityConfig.model_fields
    }
    assert documented == expected
    for name, field in CompatibilityConfig.model_fields.items():
        section = text_of("docs/debezium.md").split(f"\n### `{name}`\n", 1)[1].split("\n### ", 1)[0]
        assert set(re.findall(r"^- `(\w+)`:", section, re.M)) == set(get_args(field.annotation)), name


def test_every_metric_is_documented() -> None:
    progress = Progress(lag=Lagging(0.0, 0), slot_retained=0, slot_safe=1, slot_full_in=1.0, last_message=1.0)
    progress.in_progress = progress.spooled_bytes = 1
    progress.operations["public.t", "c"] = progress.nulled["public.t", "c"] = 1
    progress.unknown_type("public.t", "geometry")
    progress.signal("table", "refused")
    progress.dead_letters["public.t"] = progress.parked_rows["public.t"] = 1
    progress.parked_now["public.t"], progress.truncated_rows["public.t"] = ParkedCount(1, 0.0), 1
    progress.refused["public.t"] = "why"
    table = TableSnapshot("public.t", estimated=1000)
    progress.snapshot.append(table)
    while table.rate is None:
        table.read(1)
    progress.partitions[Partition("t", 0)] = PartitionPlace(1, 2, 0.5)
    progress.applied["public.t", "upsert"] = progress.skipped["public.t", "RowMissing"] = 1
    progress.retried["r"] = progress.parked["r"] = progress.duplicates["t"] = progress.conflicts["t", "k", "d"] = 1
    progress.halted["t"] = "why"
    progress.hidden["back"] = progress.unclaimed["public.t"] = 1
    progress.xmin_ages["slot"] = 1
    progress.unwritable["public.t"], progress.has_origin = "why", True
    progress.sagas["order", "succeeded"], progress.stuck_sagas["order"] = 1, 0
    progress.verification = VerifyProgress(0.0, differences={("public.t", "missing"): 1})
    text = exposition(registry(progress)).decode()
    emitted = set(re.findall(r"^(pycdc_\w+?)(?:_bucket|_sum|_count)?\b", text, re.M)) | {"pycdc_position_lsn"}
    documented = set(re.findall(r"^\| `(pycdc_\w+)`", text_of("docs/operations.md"), re.M))
    assert documented == emitted


# What Postgres says


@pytest.mark.parametrize("block", blocks("sql", page="docs/operations.md"))
def test_the_monitoring_sql_of_operations_runs(block: Block, database: str) -> None:
    queries = [text for text in block.text.split(";") if text.strip().upper().startswith("SELECT")]
    with psycopg.connect(database, autocommit=True) as connection:
        for query in queries:
            later = "synced" in query and connection.info.server_version < 170000  # a slot of a standby: from 17 on
            if "pg_drop_replication_slot" not in query and not later:
                connection.execute(query.encode())


@pytest.fixture
def messages(database: str, postgres: Any) -> Iterator[dict[str, str]]:
    """What pycdc says for each right that a role lacks, by what was tried."""
    name = str(conninfo_to_dict(database)["dbname"])
    role, plain = f"{name}_capture", f"{name}_plain"
    with psycopg.connect(database, autocommit=True) as owner:
        for statement in (
            "CREATE TABLE orders (id int PRIMARY KEY)",
            "CREATE SCHEMA closed",
            "CREATE TABLE closed.t (id int PRIMARY KEY)",
            "CREATE TABLE hidden (id int PRIMARY KEY)",
            "ALTER TABLE hidden ENABLE ROW LEVEL SECURITY",
            "CREATE PUBLICATION theirs",
            f"CREATE ROLE {role} LOGIN REPLICATION",
            f"CREATE ROLE {plain} LOGIN",
            f"GRANT SELECT ON hidden TO {role}",
        ):
            owner.execute(statement.encode())
        capture, other = postgres.dsn(name, user=role), postgres.dsn(name, user=plain)
        with Catalog(database) as catalog:
            tables = catalog.tables(["orders"])
        said = {
            "stream": _refusal(lambda: Admin(other).create_slot("s")),
            "make the publication": _refusal(lambda: Admin(capture).create_publication("p", tables)),
            "extend the publication": _refusal(lambda: Admin(capture).add_tables("theirs", tables)),
            "read a table": _refusal(lambda: list(copy_rows(capture, None, CopySource("public", "orders", ("id",))))),
            "read a schema": _refusal(lambda: list(copy_rows(capture, None, CopySource("closed", "t", ("id",))))),
            "read hidden rows": _refusal(
                lambda: list(copy_rows(capture, None, CopySource("public", "hidden", ("id",))))
            ),
        }
        owner.execute(sql.SQL("GRANT CREATE ON DATABASE {} TO {}").format(sql.Identifier(name), sql.Identifier(role)))
        said["publish a table"] = _refusal(lambda: Admin(capture).create_publication("p", tables))
        yield said
        for one in (role, plain):
            owner.execute(f"DROP OWNED BY {one}".encode())
            owner.execute(f"DROP ROLE {one}".encode())


def _refusal(action: Any) -> str:
    with pytest.raises(errors.EnvironmentNotReady) as caught:
        action()
    return caught.value.fact


def test_a_missing_right_looks_as_operations_shows_it(messages: dict[str, str]) -> None:
    shown = [
        text
        for cells in rows("docs/operations.md", "### What a missing right looks like")
        for text in re.findall(r"`([^`]+)`", cells[0])
    ]
    unexplained = {tried: said for tried, said in messages.items() if not any(text in said for text in shown)}
    assert not unexplained


def test_the_limits_of_versions_are_those_of_the_code() -> None:
    from pycdc.clients import postgres as client

    oldest = client.OLDEST_VERSION // 10_000
    assert f"Postgres {oldest} to 18" in text_of("docs/operations.md")
    assert f"Postgres {oldest} to 18" in (PostgresSourceConfig.__doc__ or "")
