"""The configurations of the migration: four pipelines, the façade and the group, as the files that pycdc reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

TABLES = [
    {"old": "public.stock", "new": "public.stock_levels"},
    {"old": "public.stock_moves", "new": "public.stock_adjusted"},
    {"old": "public.stock_reservations", "new": "public.reservations"},
]
PIPELINES = ("monolith", "to-inventory", "inventory", "to-monolith")
"""A capture of each side, and what applies it to the other."""
SAGA_PIPELINES = ("shop-events", "inventory-events", "sagas")
"""The events of both sides, and what follows the orders by them. They stay when the inventory has moved."""
EVENTS = ("orders", "inventory", "payments")
"""What events are about: the ends of their topics' names."""


class Ports(NamedTuple):
    facade: int
    monolith: int
    service: int
    gates: int


def topics(run: str) -> list[str]:
    """Return all topics of a run, whose names begin with its own."""
    return [
        f"{run}-monolith.public.stock",
        f"{run}-monolith.public.stock_moves",
        f"{run}-inventory.public.stock_levels",
        f"{run}-inventory.public.stock_adjusted",
        f"{run}-monolith.public.stock_reservations",
        f"{run}-inventory.public.reservations",
    ]


def event_topics(run: str) -> list[str]:
    return [f"{run}.{name}" for name in EVENTS]


def write(folder: Path, run: str, monolith: str, service: str, brokers: str, ports: Ports) -> Path:
    """Write all files; return the migration's. `monolith` and `service` are the databases' connection strings."""
    kafka = {"brokers": brokers, "format": "json"}
    stock, moves, levels, adjusted, reserved, reservations = topics(run)
    to_service = {
        stock: ("stock_levels", {"item_id": "sku"}, {"available": "on_hand", "version": "version"}),
        moves: ("stock_adjusted", {"id": "id"}, {"item_id": "sku", "delta": "quantity", "order_id": "order_id"}),
        reserved: ("reservations", {"order_id": "order_id"}, {"item_id": "sku", **_RESERVED}),
    }
    to_monolith = {
        levels: ("stock", {"sku": "item_id"}, {"on_hand": "available", "version": "version"}),
        adjusted: ("stock_moves", {"id": "id"}, {"sku": "item_id", "quantity": "delta", "order_id": "order_id"}),
        reservations: ("stock_reservations", {"order_id": "order_id"}, {"sku": "item_id", **_RESERVED}),
    }
    documents = {
        "monolith": _capture(f"{run}-monolith", monolith, [one["old"] for one in TABLES], "initial", kafka),
        "inventory": _capture(f"{run}-inventory", service, [one["new"] for one in TABLES], "never", kafka),
        "to-inventory": _apply(f"{run}-to-inventory", service, to_service, kafka),
        "to-monolith": _apply(f"{run}-to-monolith", monolith, to_monolith, kafka),
        "shop-events": _events(f"{run}-shop-events", monolith, "public.orders", run, kafka),
        "inventory-events": _events(f"{run}-inventory-events", service, "public.reservations", run, kafka),
        "sagas": _sagas(f"{run}-sagas", monolith, run, kafka),
    }
    migration = folder / "migration.yaml"
    documents["to-inventory"]["http"] = {"port": ports.gates, "migration": str(migration)}
    for name, document in documents.items():
        (folder / f"{name}.yaml").write_text(json.dumps(document, indent=1), encoding="utf-8")
    migration.write_text(json.dumps(_migration(monolith, service, ports), indent=1), encoding="utf-8")
    return migration


def give_up_the_way_back(migration: Path) -> None:
    """Let the façade's guard take no reads back any more: neither pipelines nor old tables will be there."""
    document = json.loads(migration.read_text(encoding="utf-8"))
    document["facade"]["gates"] = {"max_error_ratio": 1, "max_p99": 3600}
    migration.write_text(json.dumps(document, indent=1), encoding="utf-8")


def _capture(name: str, dsn: str, tables: list[str], snapshot: str, kafka: dict[str, Any]) -> dict[str, Any]:
    source = {"dsn": dsn, "tables": tables, "snapshot": snapshot}
    return {"name": name, "source": {"postgres": source}, "sink": {"kafka": kafka}, **_COMMON}


def _events(name: str, dsn: str, table: str, run: str, kafka: dict[str, Any]) -> dict[str, Any]:
    """Bring the events that services write as logical messages. `table`: a capture needs one."""
    outbox = {"messages": "outbox", "topic": f"{run}.{{route}}"}
    return {**_capture(name, dsn, [table], "never", kafka), "outbox": outbox}


def _sagas(name: str, dsn: str, run: str, kafka: dict[str, Any]) -> dict[str, Any]:
    """Follow the orders; one that takes too long is cancelled, by the shop's own outbox."""
    order = {
        "topics": event_topics(run),
        "start": "OrderPlaced",
        "steps": ["ItemReserved", "PaymentTaken"],
        "success": "OrderConfirmed",
        "failure": ["PaymentRefused", "OrderWithdrawn", "OrderCancelled"],
        "compensations": {"ItemReserved": "ReservationReleased", "PaymentTaken": "PaymentRefunded"},
        "time_limit": 60,
        "on_timeout": {"message": "outbox", "aggregatetype": "orders", "type": "CancelOrder"},
    }
    source = {**kafka, "topics": event_topics(run), "options": _READING}
    # A schema of its own: the migration takes that of its pipelines away in the end.
    sink = {"dsn": dsn, "bookkeeping": "sagas", "routes": [], "sagas": {"order": order}}
    return {"name": name, "source": {"kafka": source}, "sink": {"postgres": sink}, **_COMMON}


def _apply(
    name: str, dsn: str, routes: Mapping[str, tuple[str, dict[str, str], dict[str, str]]], kafka: dict[str, Any]
) -> dict[str, Any]:
    written = [
        {"topic": topic, "table": f"public.{table}", "key": key, "set": columns}
        for topic, (table, key, columns) in routes.items()
    ]
    source = {**kafka, "topics": list(routes), "options": _READING}
    sink = {"postgres": {"dsn": dsn, "routes": written}}
    return {"name": name, "source": {"kafka": source}, "sink": sink, **_COMMON}


def _migration(monolith: str, service: str, ports: Ports) -> dict[str, Any]:
    return {
        "facade": {
            "listen": f"127.0.0.1:{ports.facade}",
            "clusters": {"old": f"http://127.0.0.1:{ports.monolith}", "new": f"http://127.0.0.1:{ports.service}"},
            "routes": {
                **{name: {"path": f"/api/inventory/{name}", "methods": ["POST"]} for name in _WRITES},
                "read-item": {"path": "/api/inventory/{itemId}"},
            },
            "bake": 2,
            "min_requests": 0,
            # Wide enough for a busy machine: the figures say what was reached.
            "gates": {"urls": [f"http://127.0.0.1:{ports.gates}/gates/inventory"], "max_p99": 5},
        },
        "groups": {
            "inventory": {
                "capture": "monolith.yaml",
                "apply": "to-inventory.yaml",
                "reverse_capture": "inventory.yaml",
                "reverse_apply": "to-monolith.yaml",
                "old_dsn": monolith,
                "new_dsn": service,
                "tables": TABLES,
                "routes": list(_WRITES),
                "reads": ["read-item"],
                "max_pause": 30,
                "gates": {"max_lag": 30, "max_transaction": 30},
                "decommission": {"quiet": 1, "archive": "archive"},
            }
        },
    }


_READING = {"fetch.wait.max.ms": 10, "group.instance.id": "one"}
"""One process reads: after a kill the next one has its partitions at once, not when the group misses the dead one."""
_WRITES = ("adjust", "reserve", "release")
_RESERVED = {"pieces": "pieces", "released": "released"}
_COMMON: dict[str, Any] = {"checkpoint": {"interval": 0.02}, "http": {"enabled": False}, "retries": {"max_delay": 0.5}}
