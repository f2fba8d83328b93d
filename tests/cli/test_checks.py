"""Each check, from facts to findings."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from pycdc.clients.kafka_topics import Cluster, TopicDurability
from pycdc.clients.kafka_transactions import TransactionLimits
from pycdc.config import validate_capture
from pycdc.config.kafka import KafkaSinkConfig
from pycdc.config.pipeline import CapturePipeline
from pycdc.config.postgres_source import PostgresSourceConfig
from pycdc.connectors.postgres.catalog.metadata import (
    PublicationMetadata,
    PublishedTable,
    ServerMetadata,
    SlotMetadata,
    StandbySlot,
    TableMetadata,
    TableRef,
)
from pycdc.connectors.postgres.catalog.privileges import RoleMetadata, TableRights
from pycdc.connectors.postgres.failover_check import failover_problems
from pycdc.connectors.postgres.publication.writability import Failing
from pycdc.connectors.postgres.start_check import StartAt, StartDecision
from pycdc.errors import EnvironmentNotReady, PositionGap
from pycdc.interfaces import Checkpoint
from pycdc.model.change import Lsn, Position
from pycdc.operations.doctor.durability import PARKED, POSITION, durability_findings
from pycdc.operations.doctor.exactly_once import transaction_findings
from pycdc.operations.doctor.failover import standby_finding
from pycdc.operations.doctor.finding import Finding
from pycdc.operations.doctor.finding import FindingStatus as Status
from pycdc.operations.doctor.kafka import topic_findings
from pycdc.operations.doctor.publication import publication_findings
from pycdc.operations.doctor.routes import key_findings
from pycdc.operations.doctor.server import clock_finding, headroom_findings, replication_finding, server_findings
from pycdc.operations.doctor.slot import setting_findings, slot_findings, start_finding
from pycdc.operations.doctor.tables import identity_findings, match_findings, reading_findings
from pycdc.sinks.postgres.preflight import RouteInspection

SERVER = ServerMetadata(
    version=160004,
    system_identifier="1",
    timeline=1,
    database="shop",
    database_oid=5,
    encoding="UTF8",
    wal_level="logical",
    current_lsn=Lsn(1000),
    in_recovery=False,
    max_replication_slots=10,
    used_replication_slots=1,
    max_wal_senders=10,
    max_slot_wal_keep_size=None,
    wal_sender_timeout=60.0,
    idle_slot_timeout=0.0,
    output_plugins=None,
    role="cdc",
    role_replicates=True,
)
ROLE = RoleMetadata("cdc", creates=True, used_wal_senders=0)
SLOT = SlotMetadata(
    name="pycdc_shop",
    plugin="pgoutput",
    database="shop",
    temporary=False,
    active_pid=None,
    confirmed_flush=Lsn(900),
    restart_lsn=Lsn(800),
    wal_status="reserved",
    safe_wal_size=None,
    retained_bytes=200,
    invalidation=None,
    failover=False,
    synced=False,
)
USERS = TableRef(1, "public", "users", rows_estimate=10)
RIGHTS = TableRights(1, selectable=True, reachable=True, owned=True, row_security=False, size=8192)
PUBLICATION = PublicationMetadata(
    name="pycdc_shop",
    all_tables=False,
    operations=frozenset({"insert", "update", "delete", "truncate"}),
    via_partition_root=False,
    generated_columns=False,
    owner="cdc",
    owned=True,
    tables=(PublishedTable("public", "users"),),
    covered=frozenset({1}),
)


def config(**postgres: Any) -> CapturePipeline:
    return validate_capture(
        {"name": "shop", "source": {"postgres": {"dsn": "host=db", **postgres}}, "sink": {"console": {}}}
    )


def bad(findings: Any) -> list[Finding]:
    return [finding for finding in findings if finding.status is not Status.OK]


def only(findings: Any) -> Finding:
    found = bad(findings)
    assert len(found) == 1, found
    return found[0]


def test_a_server_that_is_ready_has_no_findings_but_good_ones() -> None:
    assert bad(server_findings(SERVER)) == []
    assert bad(headroom_findings(SERVER, ROLE, None)) == []


@pytest.mark.parametrize(
    ("change", "status", "title", "fix"),
    [
        (
            {"wal_level": "replica"},
            Status.FAILED,
            "wal_level is replica",
            "ALTER SYSTEM SET wal_level = 'logical';",
        ),
        ({"in_recovery": True, "version": 150008}, Status.FAILED, "the server is a standby", "use the primary"),
        ({"in_recovery": True}, Status.WARNING, "the server is a standby", ""),
        ({"version": 190001}, Status.WARNING, "Postgres 19 is newer", ""),
        ({"encoding": "SQL_ASCII"}, Status.WARNING, "no encoding", ""),
    ],
)
def test_what_a_server_lacks_is_found(change: dict[str, Any], status: Status, title: str, fix: str) -> None:
    finding = only(server_findings(replace(SERVER, **change)))
    assert finding.status is status
    assert title in finding.title
    assert fix in finding.fix
    assert finding.path


def test_slots_and_senders_must_be_free_unless_ours_are_there() -> None:
    full = replace(SERVER, used_replication_slots=10)
    busy = replace(ROLE, used_wal_senders=10)
    slots, senders = bad(headroom_findings(full, busy, None))
    assert (slots.status, senders.status) == (Status.FAILED, Status.FAILED)
    assert "max_replication_slots = 15" in slots.fix
    assert "max_wal_senders = 15" in senders.fix
    assert bad(headroom_findings(full, busy, replace(SLOT, active_pid=7))) == []


def test_a_role_that_may_not_replicate_is_told_the_grant() -> None:
    assert replication_finding(ROLE, None).status is Status.OK
    refusal = EnvironmentNotReady("permission denied", hint="ALTER ROLE … REPLICATION")
    finding = replication_finding(ROLE, refusal)
    assert finding.status is Status.FAILED
    assert 'ALTER ROLE "cdc" REPLICATION;' in finding.fix
    other = replication_finding(ROLE, EnvironmentNotReady("no pg_hba.conf entry", hint="add a line"))
    assert other.fix == "add a line"


def test_clocks_that_differ_are_a_warning() -> None:
    assert clock_finding(-0.5).status is Status.OK
    assert "5.0 s ahead of" in clock_finding(5.0).title
    assert "5.0 s behind" in clock_finding(-5.0).title


def test_a_pattern_that_matches_nothing_is_found_with_what_was_meant() -> None:
    source = PostgresSourceConfig.model_validate({"dsn": "x", "tables": ["users", "usrs"]})
    finding = only(match_findings(source, [USERS], [1, 0], ["public.users", "public.orders"]))
    assert (finding.status, finding.path) == (Status.WARNING, "source.postgres.tables[1]")
    assert finding.fix == "did you mean public.users?"
    assert bad(match_findings(source, [], [0, 0], ["public.zzz"]))[0].status is Status.FAILED
    everything = only(match_findings(source, [], [1, 1], []))
    assert everything.path == "source.postgres.exclude_tables"


@pytest.mark.parametrize(
    ("change", "title", "fix"),
    [
        ({"selectable": False}, "may not read public.users", 'GRANT SELECT ON "public"."users" TO "cdc";'),
        ({"reachable": False}, "may not use schema public", 'GRANT USAGE ON SCHEMA "public" TO "cdc";'),
        ({"row_security": True}, "row security hides rows", 'ALTER ROLE "cdc" BYPASSRLS;'),
    ],
)
def test_rows_that_a_snapshot_could_not_read_are_found(change: dict[str, bool], title: str, fix: str) -> None:
    rights = {1: replace(RIGHTS, **change)}
    finding = only(reading_findings("cdc", [USERS], rights, config().source.postgres))
    assert finding.status is Status.FAILED
    assert title in finding.title
    assert finding.fix == fix
    assert bad(reading_findings("cdc", [USERS], rights, config(snapshot="never").source.postgres)) == []


@pytest.mark.parametrize(
    ("fails", "key", "operations", "status"),
    [
        (False, ("id",), PUBLICATION.operations, None),
        (True, (), PUBLICATION.operations, Status.FAILED),
        (True, ("id",), PUBLICATION.operations, Status.FAILED),
        (False, (), PUBLICATION.operations, Status.WARNING),
        (True, (), frozenset({"insert"}), Status.WARNING),
    ],
)
def test_a_table_whose_updates_would_fail_is_found(
    fails: bool, key: tuple[str, ...], operations: frozenset[str], status: Status | None
) -> None:
    facts = TableMetadata(1, "public", "users", "r", "d", {}, key, True)
    failing = [Failing(USERS, "has no replica identity", 'ALTER TABLE "public"."users" REPLICA IDENTITY FULL')]
    found = bad(identity_findings([facts], failing if fails else [], operations))
    assert [finding.status for finding in found] == ([] if status is None else [status])
    if status is Status.FAILED:
        assert "UPDATE and DELETE on public.users fail in the application" in found[0].title
        assert found[0].detail == "it has no replica identity"
        assert 'ALTER TABLE "public"."users" REPLICA IDENTITY FULL;' in found[0].fix


def published(
    present: PublicationMetadata | None, settings: CapturePipeline | None = None, **changes: Any
) -> list[Finding]:
    rights = {1: replace(RIGHTS, owned=changes.get("owned", True))}
    role = replace(ROLE, creates=changes.get("creates", True))
    tables = changes.get("tables", [USERS])
    return bad(publication_findings(settings or config(), present, tables, role, rights))


def test_a_publication_that_fits_or_can_be_made_is_fine() -> None:
    assert published(PUBLICATION) == []
    assert published(None) == []


@pytest.mark.parametrize(
    ("settings", "changes", "title", "path"),
    [
        ({"manage_publication": False}, {}, "publication pycdc_shop does not exist", "manage_publication"),
        ({}, {"creates": False}, "role cdc may not create it", "manage_publication"),
        ({}, {"owned": False}, "role cdc does not own public.users", "manage_publication"),
    ],
)
def test_a_publication_that_cannot_be_made_comes_with_the_statement(
    settings: dict[str, Any], changes: dict[str, Any], title: str, path: str
) -> None:
    (finding,) = published(None, config(**settings), **changes)
    assert finding.status is Status.FAILED
    assert title in finding.title
    assert finding.path == f"source.postgres.{path}"
    assert 'CREATE PUBLICATION "pycdc_shop" FOR TABLE ONLY "public"."users";' in finding.fix


@pytest.mark.parametrize(
    ("change", "status", "title", "fix"),
    [
        ({"tables": (), "covered": frozenset()}, Status.WARNING, "public.users will be added", ""),
        (
            {"tables": (), "covered": frozenset(), "owned": False},
            Status.FAILED,
            "may not add them",
            "ADD TABLE ONLY",
        ),
        ({"operations": frozenset({"insert", "delete"})}, Status.FAILED, "leaves out update", "SET (publish = "),
        (
            {"tables": (PublishedTable("public", "users", row_filter="id > 5"),)},
            Status.WARNING,
            "filters the rows",
            "",
        ),
        (
            {"tables": (PublishedTable("public", "users", ("id",)),)},
            Status.WARNING,
            "has 1 column of public.users",
            "",
        ),
        (
            {"tables": (PublishedTable("public", "users"), PublishedTable("public", "log"))},
            Status.WARNING,
            "public.log published, but not captured",
            "",
        ),
    ],
)
def test_what_a_publication_leaves_out_is_found(change: dict[str, Any], status: Status, title: str, fix: str) -> None:
    (finding,) = published(replace(PUBLICATION, **change))
    assert finding.status is status
    assert title in finding.title
    assert fix in finding.fix


def test_truncates_are_missed_only_where_they_are_wanted() -> None:
    without = replace(PUBLICATION, operations=frozenset({"insert", "update", "delete"}))
    assert published(without) == []
    wanted = config().model_copy(update={"envelope": config().envelope.model_copy(update={"skip": []})})
    assert "leaves out truncate" in published(without, wanted)[0].title


def test_partitions_are_expected_under_the_name_that_the_publication_uses() -> None:
    tables = [TableRef(2, "public", "part", "p"), TableRef(3, "public", "part_1", root=2)]
    leaves = replace(PUBLICATION, tables=(PublishedTable("public", "part_1"),), covered=frozenset({2, 3}))
    assert published(leaves, tables=tables) == []
    (finding,) = published(leaves, config(via_partition_root=True), tables=tables)
    assert "publish_via_partition_root = true" in finding.fix


def test_a_start_is_told_before_it_happens() -> None:
    gap = PositionGap("slot pycdc_shop is gone", hint="start over")
    assert start_finding(config(), None, gap).status is Status.FAILED
    assert start_finding(config(snapshot="when_needed"), None, gap).status is Status.WARNING
    resume = StartDecision(StartAt.RESUME, Lsn(900), "checkpoint and slot agree")
    stored = Checkpoint(Position(Lsn(900)))
    assert start_finding(config(), stored, resume).title == "streaming goes on at 0/384"
    create = StartDecision(StartAt.CREATE, Lsn(0), "neither checkpoint nor slot exist")
    assert start_finding(config(), None, create).title == "slot pycdc_shop will be created, after a snapshot"
    assert start_finding(config(snapshot="never"), None, create).title == "slot pycdc_shop will be created"


@pytest.mark.parametrize(
    ("change", "limit", "status"),
    [
        ({}, 10**12, Status.OK),
        ({}, None, Status.WARNING),
        ({"retained_bytes": 2 * 2**30}, None, Status.WARNING),
        ({"retained_bytes": 2 * 2**30, "active_pid": 7}, None, Status.WARNING),
        ({"retained_bytes": 600, "active_pid": 7}, 1000, Status.WARNING),
        ({"wal_status": "unreserved"}, 1000, Status.FAILED),
    ],
)
def test_a_slot_that_endangers_the_server_is_found(change: dict[str, Any], limit: int | None, status: Status) -> None:
    server = replace(SERVER, max_slot_wal_keep_size=limit)
    found = bad(slot_findings(replace(SLOT, **change), server))
    assert [finding.status for finding in found] == ([] if status is Status.OK else [status])


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({}, []),
        ({"idle_slot_timeout": 600.0}, [Status.WARNING]),
        ({"output_plugins": ""}, []),
        ({"output_plugins": "test_decoding, pgoutput"}, []),
        ({"output_plugins": "test_decoding"}, [Status.FAILED]),
    ],
)
def test_settings_that_take_slots_away_are_found(change: dict[str, Any], status: list[Status]) -> None:
    assert [finding.status for finding in setting_findings(replace(SERVER, **change))] == status


def test_topics_that_cannot_be_made_are_found() -> None:
    sink = KafkaSinkConfig.model_validate({"brokers": "b:9092", "format": "json"})
    cluster = Cluster(3, frozenset({"shop.public.a"}))
    topics = ["shop.public.a", "shop.public.b", "shop.public.c"]
    refusal = EnvironmentNotReady("the user may not create topics", hint="give it the ACLs")
    found = list(topic_findings(sink, cluster, topics, {"shop.public.b": refusal}, {}))
    assert [finding.status for finding in found] == [
        Status.OK,
        Status.OK,
        Status.FAILED,
        Status.OK,
    ]
    assert found[1].title == "1 topic exists"
    assert found[3].title == "1 topic can be created"
    off = KafkaSinkConfig.model_validate({"brokers": "b", "format": "json", "topics": {"create": False}})
    commands = {topic: f"kafka-topics --create --topic {topic}" for topic in topics}
    finding = only(topic_findings(off, cluster, topics, {}, commands))
    assert finding.path == "sink.kafka.topics.create"
    assert finding.fix.count("\n") == 1


def _record(*fields: str) -> str:
    return json.dumps({"type": "record", "name": "R", "fields": [{"name": name, "type": "int"} for name in fields]})


def test_a_route_that_asks_for_more_than_the_message_key_is_warned_of() -> None:
    schemas = {"shop.t-key": _record("id"), "shop.t-value": _record("before", "after", "op"), "events-key": "?"}
    routes = [
        RouteInspection(0, "public.t", "shop.*", (), (), asked=("id", "code"), key=("id", "code"), reused=True),
        RouteInspection(1, "public.u", "shop.t", (), (), asked=("id",), key=("id",), reused=True),
    ]
    (finding,) = key_findings({"events": 3, "shop.t": 3}, routes, schemas.get)
    assert (finding.status, finding.path) == (Status.WARNING, "sink.postgres.routes[0]")
    assert "code" in finding.title
    assert "REPLICA IDENTITY FULL" in (finding.fix or "")
    schemas["shop.t-value"] = _record("sku")
    assert [*key_findings({"shop.t": 3}, routes, schemas.get)] == []


@pytest.mark.parametrize(("partitions", "reused"), [(3, True), (1, True), (3, False)])
def test_a_route_whose_key_passes_from_row_to_row_is_refused_where_partitions_are_several(
    partitions: int, reused: bool
) -> None:
    schemas = {"t-key": _record("id"), "t-value": _record("before", "after", "op")}
    route = RouteInspection(0, "public.t", "t", (), (), key=("code",), reused=reused)
    found = [*key_findings({"t": partitions}, [route], schemas.get)]
    assert [finding.status for finding in found] == ([Status.FAILED] if partitions > 1 and reused else [])
    assert all("key_reuse: never" in (finding.fix or "") for finding in found)


@pytest.mark.parametrize(
    ("limits", "brokers", "expected"),
    [
        (TransactionLimits(900.0, 3, 2, allowed=True), 3, []),
        (TransactionLimits(900.0, 1, 1, allowed=True), 1, []),
        (TransactionLimits(30.0, 3, 2, allowed=True), 3, ["transaction_timeout: 30"]),
        (TransactionLimits(900.0, 3, 2, allowed=False), 3, ["--transactional-id pycdc-shop"]),
        (TransactionLimits(900.0, 1, 1, allowed=True), 3, ["replication.factor=3", "min.isr=2"]),
        (TransactionLimits(), 3, ["cannot be seen", "cannot be seen"]),
    ],
)
def test_what_exactly_once_asks_of_brokers(limits: TransactionLimits, brokers: int, expected: list[str]) -> None:
    sink = KafkaSinkConfig(brokers="b:9092", format="json", delivery="exactly_once")
    found = list(transaction_findings(sink, "pycdc-shop", limits, brokers))
    wrong = [finding for finding in found if finding.status is not Status.OK]
    assert len(wrong) == len(expected)
    assert all(said in finding.fix + finding.title for said, finding in zip(expected, wrong, strict=True))


@pytest.mark.parametrize(
    ("found", "status", "expected"),
    [
        (TopicDurability(3, 3, 2), Status.OK, []),
        (TopicDurability(1, 1, 1), Status.OK, []),
        (TopicDurability(3, 1, 1), Status.WARNING, ["kafka-reassign-partitions", "min.insync.replicas=2"]),
        (TopicDurability(3, 3, 1), Status.WARNING, ["min.insync.replicas=2"]),
        (TopicDurability(3, 2, None), Status.WARNING, ["partition 0 of pycdc-offsets-shop"]),
        (TopicDurability(3, 1, 2), Status.FAILED, ["min.insync.replicas=1"]),
    ],
)
def test_the_topic_of_positions_survives_a_broker(found: TopicDurability, status: Status, expected: list[str]) -> None:
    wrong = list(durability_findings("pycdc-offsets-shop", found, POSITION))
    assert {finding.status for finding in wrong} <= {status}
    assert len(wrong) == len(expected)
    assert all(said in finding.fix for said, finding in zip(expected, wrong, strict=True))


def test_parked_rows_that_a_broker_could_take_along_are_named() -> None:
    replicas, in_sync = durability_findings("shop.parked", TopicDurability(3, 1, 1), PARKED)
    assert replicas.title == "parked rows are on 1 of 3 brokers"
    assert in_sync.title == "a parked row counts as stored once a single broker has it"
    assert {replicas.path, in_sync.path} == {"parking"}


NEW = replace(SERVER, version=170002)
FAILOVER_SLOT = replace(SLOT, failover=True)
PRESENT = [StandbySlot("standby", active=True)]


@pytest.mark.parametrize(
    ("server", "slot", "standbys", "fact", "remedy"),
    [
        (SERVER, SLOT, [], "since Postgres 17, and the server is 16", "leave out"),
        (NEW, SLOT, PRESENT, "slot pycdc_shop is no failover slot", "start the pipeline anew"),
        (NEW, replace(SLOT, two_phase=True), PRESENT, "slot pycdc_shop is no failover slot", "with two_phase"),
        (NEW, FAILOVER_SLOT, [], "changes may be delivered that no standby has", "SET synchronized_standby_slots"),
        (NEW, FAILOVER_SLOT, [*PRESENT, StandbySlot("b", active=False)], "until a standby reads slot b", "start the"),
    ],
)
def test_what_keeps_a_slot_from_coming_along_is_named(
    server: ServerMetadata, slot: SlotMetadata, standbys: list[StandbySlot], fact: str, remedy: str
) -> None:
    (found,) = failover_problems(slot, server, standbys)
    assert fact in found.fact
    assert remedy in found.remedy
    assert found.blocks == ("until" in fact)


def test_a_slot_that_comes_along_has_no_problems() -> None:
    assert list(failover_problems(FAILOVER_SLOT, NEW, PRESENT)) == []
    assert list(failover_problems(None, NEW, PRESENT)) == []


@pytest.mark.parametrize(
    ("slot", "title", "fix"),
    [
        (None, "has no slot pycdc_shop", "sync_replication_slots = on"),
        (FAILOVER_SLOT, "has a slot pycdc_shop of its own", "pg_drop_replication_slot('pycdc_shop')"),
        (replace(FAILOVER_SLOT, synced=True, temporary=True), "cannot take slot pycdc_shop over yet", "wait"),
        (replace(FAILOVER_SLOT, synced=True, invalidation="rows_removed"), "cannot take slot pycdc_shop over", "wait"),
    ],
)
def test_a_standby_that_could_not_go_on_is_found(slot: SlotMetadata | None, title: str, fix: str) -> None:
    finding = standby_finding("the standby", "pycdc_shop", slot)
    assert finding.status is Status.WARNING
    assert title in finding.title
    assert fix in finding.fix
    assert finding.path


def test_a_standby_that_has_the_slot_is_good() -> None:
    assert standby_finding("the standby", "s", replace(FAILOVER_SLOT, synced=True)).status is Status.OK
