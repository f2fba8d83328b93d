"""The publication against the configuration: what is not published is missed in silence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pycdc.clients.quoting import quoted
from pycdc.config.pipeline import CapturePipeline
from pycdc.connectors.postgres.catalog.metadata import PublicationMetadata, TableRef, missing_tables
from pycdc.connectors.postgres.catalog.privileges import RoleMetadata, TableRights
from pycdc.connectors.postgres.catalog.slots_and_publications import add_tables_sql, create_publication_sql
from pycdc.connectors.postgres.publication.reconcile_plan import ReconcilePlan
from pycdc.operations.doctor.finding import Finding, failed, ok, warning
from pycdc.operations.humanize import plural
from pycdc.printable import lines

PUBLICATION = "source.postgres.publication"
MANAGED = "source.postgres.manage_publication"
_ALL = ("insert", "update", "delete", "truncate")


def publication_findings(
    config: CapturePipeline,
    present: PublicationMetadata | None,
    tables: Sequence[TableRef],
    role: RoleMetadata,
    rights: Mapping[int, TableRights],
) -> Iterator[Finding]:
    if present is None:
        yield _absent(config, tables, role, rights)
        return
    yield ok(f"publication {present.name} exists", f"owner {present.owner}")
    yield from _contents(config, present, tables, rights)
    yield from _operations(config, present)
    yield from _parts(present)
    if config.source.postgres.via_partition_root != present.via_partition_root and any(t.kind == "p" for t in tables):
        wanted = str(config.source.postgres.via_partition_root).lower()
        yield failed(
            f"publish_via_partition_root is not {wanted}, as configured",
            "partitions come under other names",
            path="source.postgres.via_partition_root",
            fix=f"ALTER PUBLICATION {quoted(present.name)} SET (publish_via_partition_root = {wanted});",
        )


def drift_findings(found: ReconcilePlan) -> Iterator[Finding]:
    """Yield what somebody changed about the publication since the pipeline stored its position."""
    for drift in found.drift:
        fix = "pycdc apply" if drift.repairable else "pycdc teardown, then pycdc run"
        yield failed(drift.fact, "what was written meanwhile is lost to the slot", path=PUBLICATION, fix=fix)
    for narrowed in found.narrowed:
        yield failed(narrowed.fact, "such changes were missed", path=PUBLICATION, fix="pycdc apply")
    for left in found.left_out:
        if not left.table.logged:
            yield warning(str(left), path="source.postgres.tables", fix=f"{left.remedy};")


def _absent(
    config: CapturePipeline, tables: Sequence[TableRef], role: RoleMetadata, rights: Mapping[int, TableRights]
) -> Finding:
    source, name = config.source.postgres, config.publication
    statement = create_publication_sql(name, tables, via_partition_root=source.via_partition_root) + ";"
    if not source.manage_publication:
        return failed(f"publication {name} does not exist", path=MANAGED, fix=statement)
    if not role.creates:
        return failed(
            f"publication {name} does not exist, and role {role.name} may not create it",
            path=MANAGED,
            fix=lines(f"GRANT CREATE ON DATABASE … TO {quoted(role.name)};", "-- or let an owner run:", statement),
        )
    foreign = _not_owned(tables, rights)
    if foreign:
        return failed(
            f"publication {name} does not exist, and role {role.name} does not own {_some(foreign)}",
            "only owners may publish a table",
            path=MANAGED,
            fix=lines(statement, "-- run by an owner or superuser"),
        )
    return ok(f"publication {name} will be created", plural(len(tables), "table"))


def _contents(
    config: CapturePipeline, present: PublicationMetadata, tables: Sequence[TableRef], rights: Mapping[int, TableRights]
) -> Iterator[Finding]:
    missing = missing_tables(tables, present)
    if missing:
        names = _some([str(table) for table in missing])
        statement = add_tables_sql(present.name, missing) + ";"
        if not config.source.postgres.manage_publication:
            yield failed(f"{names} missing in the publication", path=PUBLICATION, fix=statement)
        elif not present.owned or _not_owned(missing, rights):
            yield failed(
                f"{names} missing in the publication, and this role may not add them",
                path=PUBLICATION,
                fix=lines(statement, "-- run by the owner"),
            )
        else:
            waits = config.source.postgres.tables_added == "ignore"
            then = "pycdc apply adds them" if waits else "a pipeline that has begun reads their rows too"
            yield warning(f"{names} {'not in' if waits else 'will be added to'} the publication", then)
    else:
        yield ok("all tables are published", plural(len(tables), "table"))
    wanted = {str(table) for table in tables}
    extra = [str(table) for table in present.tables if str(table) not in wanted]
    if extra:
        yield warning(
            f"{_some(extra)} published, but not captured",
            "the server decodes and sends their rows in vain",
            path="source.postgres.tables",
        )


def _operations(config: CapturePipeline, present: PublicationMetadata) -> Iterator[Finding]:
    lacking = [name for name in _ALL if name not in present.operations]
    skipped = {"c": "insert", "u": "update", "d": "delete", "t": "truncate"}
    wanted = [name for name in lacking if name not in {skipped[letter] for letter in config.envelope.skip}]
    if wanted:
        yield failed(
            f"the publication leaves out {' and '.join(wanted)}",
            "such changes would be missed in silence",
            path=PUBLICATION,
            fix=f"ALTER PUBLICATION {quoted(present.name)} SET (publish = 'insert, update, delete, truncate');",
        )
    else:
        yield ok("the publication has all operations that are wanted")


def _parts(present: PublicationMetadata) -> Iterator[Finding]:
    for table in present.tables:
        if table.row_filter:
            yield warning(
                f"the publication filters the rows of {table}",
                "rows that do not match are missed; the snapshot leaves them out too",
                path=PUBLICATION,
            )
        if table.columns is not None:
            yield warning(
                f"the publication has {plural(len(table.columns), 'column')} of {table}",
                ", ".join(table.columns),
                path=PUBLICATION,
            )


def _not_owned(tables: Sequence[TableRef], rights: Mapping[int, TableRights]) -> list[str]:
    return [str(table) for table in tables if table.oid in rights and not rights[table.oid].owned]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
