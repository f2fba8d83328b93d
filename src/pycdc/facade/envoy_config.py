"""Envoy's configuration as plain data: the bootstrap, which never changes, and the routes, which a file brings.

A read that moves is matched by a `runtime_fraction` in front of the old system's route, not by `weighted_clusters`: so
it has a retry policy of its own. It goes to an aggregate of both clusters, whose retry goes to the next priority: what
the new system fails to answer, or not in time, the old one does.

Writes that are held and queued go to a second, internal listener, which decides by the same routes: it answers 503 with
a header of its own while they are held. The first listener asks it again on that header alone, so a write waits there
until the routes change, and reaches a system once.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from pycdc.config.facade import FacadeConfig, FacadeRouteConfig, FacadeSampleConfig, address
from pycdc.config.runtime import TracingConfig
from pycdc.facade.route_weights import RouteWeight

ROUTES: Final = "facade"
"""The route configuration's name, and the prefix of the listener's statistics."""
COOKIE: Final = "pycdc-writer"

HELD: Final = "x-pycdc-held"
"""On an answer: that the write reached nobody. On a request: that it is asked within the façade."""

_TYPE: Final = "type.googleapis.com/envoy."
_COLLECTOR: Final = "pycdc-tracing"
_QUEUE: Final = "pycdc-queue"
_FAULT: Final = "envoy.filters.http.fault"
_TRY_SECONDS: Final = 0.1
"""Seconds after which a write that waits asks again."""
_LONGEST_PAUSE: Final = 330.0
"""Seconds, the most that `max_pause` and `settle` of a cut-over allow."""
_EDGES: Final = (1, 2, 3, 5, 7, 10, 15, 20, 30, 40, 50, 75, 100, 150, 200, 250, 300, 400, 500, 750)
"""Milliseconds, the edges of Envoy's histograms; beyond them by seconds."""
_LIMITS: Final = {
    "thresholds": [dict.fromkeys(("max_connections", "max_pending_requests", "max_requests", "max_retries"), 100_000)]
}
"""Envoy's own would refuse what the old system took without it, and try only three requests again at a time."""


def fallback(cluster: str) -> str:
    """Return the aggregate that asks `cluster` first, and the old system where that fails."""
    return f"{cluster}-else-old"


def access_log_file(routes_file: Path) -> Path:
    """Return where Envoy writes the reads that are sampled."""
    return routes_file.parent.parent / "reads.log"


def bootstrap(config: FacadeConfig, routes_file: Path) -> dict[str, Any]:
    targets = sorted({route.to for route in config.routes.values() if route.reads})
    return {
        "node": {"id": "pycdc-facade", "cluster": "pycdc"},
        "admin": {"address": _socket(*address(config.admin))},
        "bootstrap_extensions": [
            {
                "name": "envoy.bootstrap.internal_listener",
                "typed_config": {"@type": f"{_TYPE}extensions.bootstrap.internal_listener.v3.InternalListener"},
            }
        ],
        "stats_flush_interval": "0.5s",
        "stats_config": {
            "histogram_bucket_settings": [
                {"match": {"suffix": "upstream_rq_time"}, "buckets": [*_EDGES, *range(1000, 61_000, 1000)]}
            ]
        },
        "static_resources": {
            "listeners": [_listener(config, routes_file), _queue_listener(routes_file)],
            "clusters": [
                _queue_cluster(),
                *(_cluster(name, url) for name, url in config.clusters.items()),
                *(_aggregate(name) for name in targets),
                *([] if config.tracing is None else [_cluster(_COLLECTOR, config.tracing.endpoint)]),
            ],
        },
    }


def routes(config: FacadeConfig, weights: Mapping[str, RouteWeight], version: str) -> dict[str, Any]:
    """Return the discovery response that holds the routes."""
    listed = [one for name, route in config.routes.items() for one in _route(config, route, weights[name])]
    listed.append({"match": {"prefix": "/"}, "route": _to("old", config)})
    return {
        "version_info": version,
        "resources": [
            {
                "@type": f"{_TYPE}config.route.v3.RouteConfiguration",
                "name": ROUTES,
                # Envoy ignores a file that says the same again, and keeps telling the version before it.
                "virtual_hosts": [{"name": f"version-{version}", "domains": ["*"], "routes": listed}],
            }
        ],
    }


def _route(config: FacadeConfig, route: FacadeRouteConfig, weight: RouteWeight) -> Iterator[dict[str, Any]]:
    if not route.reads:
        yield from _writes(config, route, weight)
        return
    if config.read_your_writes:
        for cluster in ("old", route.to):
            yield {"match": _match(route, wrote=cluster), "route": _to(cluster, config)}
    if weight.percent:
        match = _match(route)
        if weight.percent < 100:
            match["runtime_fraction"] = {"default_value": {"numerator": weight.percent, "denominator": "HUNDRED"}}
        yield {"match": match, "route": _to(fallback(route.to), config) | _second_try(config)}
    yield {"match": _match(route), "route": _to("old", config)}


def _writes(config: FacadeConfig, route: FacadeRouteConfig, weight: RouteWeight) -> Iterator[dict[str, Any]]:
    """Held, or at one of both systems. A write is never sent twice: only one that reached nobody is tried again."""
    if weight.held:
        queued = config.held_writes == "queue"
        if queued:
            yield _queued(config, route, weight.held_until - time.time())
        yield _refused(config, route, again=queued)
        return
    cluster = route.to if weight.percent else "old"
    out: dict[str, Any] = {
        "match": _match(route),
        "route": _to(cluster, config) | {"retry_policy": {"retry_on": "connect-failure", "num_retries": 2}},
        "request_headers_to_remove": [HELD],
        "response_headers_to_remove": [HELD],
    }
    if config.read_your_writes:
        cookie = f"{COOKIE}={cluster}; Max-Age={config.read_your_writes}; Path=/; HttpOnly; SameSite=Lax"
        out["response_headers_to_add"] = [_header("set-cookie", cookie)]
    yield out


def _refused(config: FacadeConfig, route: FacadeRouteConfig, *, again: bool) -> dict[str, Any]:
    """`again`: the queue's answer, which comes after `_TRY_SECONDS`."""
    out: dict[str, Any] = {
        "match": _match(route),
        "direct_response": {"status": 503, "body": {"inline_string": "writes are paused for a moment\n"}},
        "response_headers_to_add": [_header("retry-after", str(config.retry_after))],
    }
    if again:
        out["response_headers_to_add"].append(_header(HELD, "1"))
        delay = {"fixed_delay": f"{_TRY_SECONDS:g}s", "percentage": {"numerator": 100}}
        out["typed_per_filter_config"] = {_FAULT: _fault() | {"delay": delay}}
    return out


def _queued(config: FacadeConfig, route: FacadeRouteConfig, seconds: float) -> dict[str, Any]:
    """Ask the internal listener for so many seconds. A body beyond Envoy's buffer, 1 MiB, is asked for once."""
    seconds = min(max(seconds, 0.0), _LONGEST_PAUSE)
    match = _match(route)
    match["headers"].append({"name": HELD, "present_match": True, "invert_match": True})
    return {
        "match": match,
        "route": {
            "cluster": _QUEUE,
            "timeout": f"{config.timeout and config.timeout + seconds:g}s",
            "retry_policy": {
                "retry_on": "retriable-headers",
                "retriable_headers": [{"name": HELD, "present_match": True}],
                "num_retries": math.ceil(seconds / _TRY_SECONDS),
                "retry_back_off": {"base_interval": "0.001s", "max_interval": "0.001s"},
            },
        },
        "request_headers_to_add": [_header(HELD, "1")],
        "response_headers_to_remove": [HELD],
    }


def _header(key: str, value: str) -> dict[str, Any]:
    return {"header": {"key": key, "value": value}, "append_action": "APPEND_IF_EXISTS_OR_ADD"}


def _match(route: FacadeRouteConfig, wrote: str = "") -> dict[str, Any]:
    headers = [_regex_header(":method", "|".join(route.methods))]
    if wrote:
        headers.append(_regex_header("cookie", rf"(?:.*;\s*)?{COOKIE}={wrote}(?:\s*;.*)?"))
    return {"safe_regex": {"regex": path_regex(route.path)}, "headers": headers}


def path_regex(path: str) -> str:
    """Return the expression of a path with `{name}` and `**`."""
    pieces = re.split(r"(\{\w+\}|\*\*$)", path)
    return "".join({"{": "[^/]+", "*": ".*"}[piece[0]] if n % 2 else re.escape(piece) for n, piece in enumerate(pieces))


def _regex_header(name: str, regex: str) -> dict[str, Any]:
    return {"name": name, "string_match": {"safe_regex": {"regex": regex}}}


def _to(cluster: str, config: FacadeConfig) -> dict[str, Any]:
    return {"cluster": cluster, "timeout": f"{config.timeout:g}s"}


def _second_try(config: FacadeConfig) -> dict[str, Any]:
    return {
        "retry_policy": {
            "retry_on": "5xx,reset,connect-failure",
            "num_retries": 1,
            "per_try_timeout": f"{config.slow_after:g}s",
            "retry_back_off": {"base_interval": "0.001s", "max_interval": "0.005s"},
            "retry_priority": {
                "name": "envoy.retry_priorities.previous_priorities",
                "typed_config": {
                    "@type": f"{_TYPE}extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig",
                    "update_frequency": 1,
                },
            },
        },
        # The first try goes on: where the old system is the slower one, its answer is waited for all the same.
        "hedge_policy": {"hedge_on_per_try_timeout": True},
    }


def _listener(config: FacadeConfig, routes_file: Path) -> dict[str, Any]:
    manager = _manager(ROUTES, routes_file) | {"use_remote_address": True}
    if config.tracing is not None:
        manager["tracing"] = _tracing(config.tracing)
    if config.sample is not None:
        manager["access_log"] = [_access_log(config.sample, access_log_file(routes_file))]
    return _listens(ROUTES, manager) | {"address": _socket(*address(config.listen))}


def _access_log(settings: FacadeSampleConfig, file: Path) -> dict[str, Any]:
    gets = {"header": {"name": ":method", "string_match": {"exact": "GET"}}}
    share = {
        "runtime_key": "pycdc.sample",
        "percent_sampled": {"numerator": round(1_000_000 * settings.share), "denominator": "MILLION"},
        "use_independent_randomness": True,
    }
    headers = {name.lower(): f"%REQ({name})%" for name in settings.headers}
    line = {"path": "%REQ(:PATH)%", "host": "%REQ(:AUTHORITY)%", "headers": headers}
    return {
        "name": "envoy.access_loggers.file",
        "filter": {"and_filter": {"filters": [{"header_filter": gets}, {"runtime_filter": share}]}},
        "typed_config": {
            "@type": f"{_TYPE}extensions.access_loggers.file.v3.FileAccessLog",
            "path": str(file),
            "log_format": {"json_format": line},
        },
    }


def _queue_listener(routes_file: Path) -> dict[str, Any]:
    """Within Envoy, without a port."""
    manager = _manager(_QUEUE, routes_file)
    manager["http_filters"].insert(0, {"name": _FAULT, "typed_config": _fault()})
    return _listens(_QUEUE, manager) | {"internal_listener": {}}


def _queue_cluster() -> dict[str, Any]:
    endpoint = {"endpoint": {"address": {"envoy_internal_address": {"server_listener_name": _QUEUE}}}}
    return {
        "name": _QUEUE,
        "type": "STATIC",
        "load_assignment": {"cluster_name": _QUEUE, "endpoints": [{"lb_endpoints": [endpoint]}]},
        "circuit_breakers": _LIMITS,
    }


def _listens(name: str, manager: dict[str, Any]) -> dict[str, Any]:
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    return {"name": name, "filter_chains": [{"filters": filters}]}


def _fault() -> dict[str, Any]:
    return {"@type": f"{_TYPE}extensions.filters.http.fault.v3.HTTPFault"}


def _manager(name: str, routes_file: Path) -> dict[str, Any]:
    router = {
        "name": "envoy.filters.http.router",
        "typed_config": {"@type": f"{_TYPE}extensions.filters.http.router.v3.Router"},
    }
    return {
        "@type": f"{_TYPE}extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "normalize_path": True,
        "merge_slashes": True,
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "rds": {
            "route_config_name": ROUTES,
            "config_source": {
                "resource_api_version": "V3",
                "path_config_source": {
                    "path": str(routes_file),
                    "watched_directory": {"path": str(routes_file.parent)},
                },
            },
        },
        "http_filters": [router],
    }


def _tracing(settings: TracingConfig) -> dict[str, Any]:
    uri = {"uri": f"{settings.endpoint}/v1/traces", "cluster": _COLLECTOR, "timeout": "1s"}
    tracer = {
        "@type": f"{_TYPE}config.trace.v3.OpenTelemetryConfig",
        "http_service": {"http_uri": uri},
        "service_name": settings.service or "facade",
    }
    return {
        "provider": {"name": "envoy.tracers.opentelemetry", "typed_config": tracer},
        "random_sampling": {"value": 100 * settings.sample},
    }


def _cluster(name: str, url: str) -> dict[str, Any]:
    parts = urlsplit(url)
    endpoint = {"endpoint": {"address": _socket(str(parts.hostname), parts.port or 80)}}
    return {
        "name": name,
        "type": "STRICT_DNS",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
        "circuit_breakers": _LIMITS,
    }


def _aggregate(name: str) -> dict[str, Any]:
    return {
        "name": fallback(name),
        "connect_timeout": "1s",
        "lb_policy": "CLUSTER_PROVIDED",
        "circuit_breakers": _LIMITS,
        "cluster_type": {
            "name": "envoy.clusters.aggregate",
            "typed_config": {
                "@type": f"{_TYPE}extensions.clusters.aggregate.v3.ClusterConfig",
                "clusters": [name, "old"],
            },
        },
    }


def _socket(host: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": host, "port_value": port}}
