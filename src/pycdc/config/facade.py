"""The façade: which requests move from one system to another, in which steps, and what sends them back."""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from pycdc.config.runtime import TracingConfig
from pycdc.config.section import InvalidValue, Section

READ_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing (RFC 9110): only these are split by weight and asked a second time."""

_NAME = r"^[a-z][a-z0-9-]{0,39}$"
Name = Annotated[str, Field(pattern=_NAME)]
_METHOD = re.compile(r"[A-Z]+")
_HEADER = re.compile(r"[A-Za-z0-9-]+")
_ADDRESS = re.compile(r"([\w.-]+|\[[0-9a-fA-F:]+\]):(\d{1,5})")


class FacadeRouteConfig(Section):
    """Requests of one kind. Routes are tried in their order; what matches none goes to the old system."""

    path: str
    """The whole path. `{name}` stands for one segment, `**` at the end for any rest: `/api/inventory/{itemId}`."""
    methods: Annotated[list[str], Field(min_length=1)] = ["GET", "HEAD"]
    """Its methods. A route with GET, HEAD and OPTIONS only is one of reads, which move by weight; any other is one of
    writes, which moves at once, by `pycdc cutover`."""
    to: Name = "new"
    """The cluster that takes it over."""

    @field_validator("path")
    @classmethod
    def _path_is_absolute(cls, value: str) -> str:
        if not value.startswith("/") or "?" in value or "#" in value:
            raise InvalidValue("is no path", "begin with `/`, and leave the query out")
        if "**" in value[:-2] or "{" in re.sub(r"\{\w+\}", "", value):
            raise InvalidValue("has a pattern that is not known", "write `{name}` for a segment, `**` at the end only")
        return value

    @field_validator("methods")
    @classmethod
    def _methods_are_tokens(cls, value: list[str]) -> list[str]:
        if not all(_METHOD.fullmatch(one) for one in value):
            raise InvalidValue("has something that is no method", "write methods as in `[GET, HEAD]`")
        return value

    @property
    def reads(self) -> bool:
        return READ_METHODS.issuperset(self.methods)


class FacadeGatesConfig(Section):
    """What must hold while a part of the requests goes to the new system. A breach sends all of them back."""

    max_error_ratio: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Of the requests that the new system got: answers with 5xx, no answer in `slow_after`, broken connections."""
    min_errors: Annotated[int, Field(ge=1)] = 3
    """So many of them at least within the window: a single one among few requests is no breach."""
    max_p99: Annotated[float, Field(gt=0)] = 0.25
    """Seconds that the new system takes for 99 of 100 answers."""
    window: Annotated[float, Field(ge=1, le=300)] = 4.0
    """Seconds over which Envoy's statistics are judged."""
    urls: list[str] = []
    """Gates that are asked each second over HTTP: 200 is open, all else is a breach, and so are three requests in a
    row without an answer. pycdc's own tells lag, verification, parked rows and conflicts: `/gates/GROUP` of a status
    server."""
    token: SecretStr | None = None
    """Sent to them as `Authorization: Bearer …`."""

    @field_validator("urls")
    @classmethod
    def _urls_are_http(cls, value: list[str]) -> list[str]:
        if any(urlsplit(one).scheme not in ("http", "https") or not urlsplit(one).hostname for one in value):
            raise InvalidValue("has something that is no URL", "write `http://host:port/path`")
        return value


class FacadeSampleConfig(Section):
    """Reads that `pycdc facade sample` asks of both systems, to compare the answers."""

    share: Annotated[float, Field(gt=0, le=1)] = 0.01
    """Of the users' GETs that Envoy writes into its access log for this."""
    max_rate: Annotated[float, Field(gt=0)] = 5.0
    """Requests a second that are compared at most. Each asks the old system twice and the new one once."""
    settle: Annotated[float, Field(ge=0, le=300)] = 1.0
    """Seconds after which answers that differ are asked for again, twice: more than the copy may be behind."""
    ignore: list[str] = []
    """Places that may differ, with all that lies within: `updatedAt`, `items[].links`, `items[].*.id`, `**.etag` at any
    depth."""
    unordered: list[str] = []
    """Lists whose order may differ: `items`, `**.tags`, `$` for the whole answer."""
    tolerance: Annotated[float, Field(ge=0)] = 0.0
    """By how much numbers may differ."""
    headers: list[str] = ["accept", "accept-language"]
    """Headers that are sent as the user did. They stand in the access log: name `authorization` or `cookie` only where
    that may be."""
    min_compared: Annotated[int, Field(ge=0)] = 20
    """Requests of a route that must have been compared before its reads take the next step."""

    @field_validator("headers")
    @classmethod
    def _headers_are_tokens(cls, value: list[str]) -> list[str]:
        if not all(_HEADER.fullmatch(one) for one in value):
            raise InvalidValue("has something that is no name of a header", "write names as in `[accept, cookie]`")
        return value


class FacadeConfig(Section):
    """An Envoy in front of both systems. Its routes are a file that pycdc writes and Envoy reads again."""

    listen: str = "127.0.0.1:8080"
    """Address and port that users come to."""
    admin: str = "127.0.0.1:0"
    """Address and port of Envoy's own interface, which needs no password: keep it on loopback. 0: any free port."""
    folder: str = "facade"
    """Where Envoy's files and the weights are kept, beside this file unless it begins with `/`."""
    clusters: dict[Name, str]
    """Name to `http://host:port`. One of them is `old`."""
    routes: Annotated[dict[Name, FacadeRouteConfig], Field(min_length=1)]
    """The requests that move."""
    steps: Annotated[list[Annotated[int, Field(ge=1, le=100)]], Field(min_length=1)] = [1, 5, 25, 50, 100]
    """Percentages on the way up."""
    bake: Annotated[float, Field(ge=0)] = 60.0
    """Seconds that each of them is kept at least, with all gates open."""
    min_requests: Annotated[int, Field(ge=0)] = 20
    """Requests that the new system must have answered at a step before the next one."""
    slow_after: Annotated[float, Field(gt=0)] = 0.5
    """Seconds after which a read that the new system has not answered is sent to the old one too; the first answer
    counts."""
    timeout: Annotated[float, Field(ge=0)] = 60.0
    """Seconds for a whole request, 0 for no limit."""
    read_your_writes: Annotated[int, Field(ge=0, le=3600)] = 10
    """Seconds for which the reads of a client that wrote go to the system that took the write: more than the greatest
    lag that the gates allow, and the five seconds in which a breach sends reads back. 0: no cookie is set."""
    held_writes: Literal["refuse", "queue"] = "refuse"
    """What becomes of writes that come while `pycdc cutover` holds them. `refuse`: 503 with Retry-After at once.
    `queue`: they wait, and reach the system that owns the rows then, once and in any order; 503 where they have waited
    as long as a pause may last, and at once where the body is larger than 1 MiB."""
    retry_after: Annotated[int, Field(ge=1)] = 1
    """Seconds that clients are told to wait (503 with Retry-After) while writes are held."""
    gates: FacadeGatesConfig = FacadeGatesConfig()
    """What sends reads back to the old system."""
    sample: FacadeSampleConfig | None = None
    """A part of the reads is compared between both systems, and no route takes a step while that finds a difference.
    Default: none."""
    tracing: TracingConfig | None = None
    """Envoy's spans, and `traceparent` for the systems. `sample` is the share of requests without a trace that begin
    one. Default: none."""

    @field_validator("listen", "admin")
    @classmethod
    def _is_address(cls, value: str) -> str:
        found = _ADDRESS.fullmatch(value)
        if found is None or int(found[2]) > 65535:
            raise InvalidValue("is no address with a port", "write `127.0.0.1:8080`")
        return value

    @field_validator("clusters")
    @classmethod
    def _clusters_are_http(cls, value: dict[str, str]) -> dict[str, str]:
        if "old" not in value:
            raise InvalidValue("has no `old`", "add `old: http://host:port`, the system that has all requests now")
        for url in value.values():
            parts = urlsplit(url)
            if parts.scheme != "http" or not parts.hostname or parts.path not in ("", "/") or parts.query:
                raise InvalidValue("has something that is no `http://host:port`", "write it without a path")
        return value

    @field_validator("steps")
    @classmethod
    def _steps_rise(cls, value: list[int]) -> list[int]:
        if sorted(set(value)) != value or value[-1] != 100:
            raise InvalidValue("does not rise to 100", "write `[1, 5, 25, 50, 100]`")
        return value

    @model_validator(mode="after")
    def _routes_lead_somewhere(self) -> FacadeConfig:
        strange = sorted({route.to for route in self.routes.values()} - set(self.clusters))
        if strange or any(route.to == "old" for route in self.routes.values()):
            raise InvalidValue(
                "has a route to a cluster that is not there, or to `old`", "write `to:` a name under `clusters`"
            )
        return self


def address(text: str) -> tuple[str, int]:
    """Host and port of ``host:port``."""
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)
