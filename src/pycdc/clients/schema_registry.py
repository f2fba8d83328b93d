"""Schema ids from a registry that speaks Confluent's REST API.

A schema goes out as the exact text it has: registries tell schemas apart by their text, and the text that Debezium
would have sent gets the id that Debezium's consumers know. Ids are asked for once per subject and schema, before the
first record that carries them, never per row. What the registry answers is checked, because a wrong id makes every
record behind it unreadable: the id must lead back to the same schema.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Final, Literal, TypeVar
from urllib.parse import quote

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    sleep_using_event,
    stop_after_delay,
    stop_any,
    stop_when_event_set,
    wait_random_exponential,
)

from pycdc.clients.registry_compatibility import CompatibilityOverrides
from pycdc.clients.registry_http import PASSING, RegistryAnswer, RegistryAway, client_of, without_credentials
from pycdc.clients.registry_tokens import TokenRefused
from pycdc.clients.registry_wait import awaited
from pycdc.clients.schema_diff import differences
from pycdc.config.kafka import RegistryConfig
from pycdc.errors import (
    ConfigError,
    ConnectionLost,
    EnvironmentNotReady,
    ProtocolError,
    PycdcError,
    RegistryLost,
    SchemaIncompatible,
    UnknownSchema,
)
from pycdc.observability.outages import Outages
from pycdc.printable import lines, printable

K = TypeVar("K")
T = TypeVar("T")
log = logging.getLogger(__name__)

_MAX_ID: Final = 2**31 - 1
"""The wire format has four bytes for the id, and Java reads them as a signed integer."""
_MAX_PAUSE: Final = 5.0
_NOT_FOUND: Final = 404
_NO_SCHEMA: Final = 40403
"""What a registry says of an id that it does not have; a 404 without it comes from something else at its address."""
_CONFLICT: Final = 409
_AWAY: Final = "check that it runs and that `registry.url` is right"
_REMEMBERED: Final = 10_000
"""Schemas whose ids are kept, and ids whose texts are: whoever writes rows keeps his own, and the oldest is asked for
again where it is needed."""


class SchemaRegistry:
    """Thread-safe. Faults that may pass are tried again for `timeout` seconds, then they are ConnectionLost.

    `levels` remembers compatibility levels that are to be restored; it should outlive this object. `stopping` ends
    the wait for a registry that does not answer, and `outages` tells of it.
    """

    def __init__(
        self,
        settings: RegistryConfig,
        levels: CompatibilityOverrides | None = None,
        *,
        stopping: threading.Event | None = None,
        outages: Outages | None = None,
    ) -> None:
        self._settings = settings
        self._stopping = stopping
        self._outages = outages or Outages()
        self._levels = CompatibilityOverrides() if levels is None else levels
        self._ids: dict[tuple[str, str], int] = {}
        self._texts: dict[int, str] = {}
        self._lock = threading.Lock()
        try:
            self._url = without_credentials(settings.url)
            self._client = client_of(settings)
        except (ValueError, TypeError, OSError) as error:
            raise ConfigError(
                f"the registry's settings cannot be used: {type(error).__name__}",
                hint="check `registry`: the URL with http:// or https://, the certificate files (`key_password` for an "
                "encrypted key), and that credentials stand in one place only",
            ) from None

    @classmethod
    def for_inspection(cls, settings: RegistryConfig, *, timeout: float = 5.0) -> SchemaRegistry:
        """Return the client that a pipeline has, with less patience (seconds), for who asks and changes nothing."""
        patience = min(timeout, settings.timeout)
        return cls(settings.model_copy(update={"timeout": patience, "register_schemas": True}))

    def __repr__(self) -> str:
        return f"SchemaRegistry({self._url})"

    def subject(self, topic: str, record: str, part: Literal["key", "value"]) -> str:
        """Return the subject for a schema whose record has the full name `record`."""
        strategy = self._settings.subjects
        if strategy == "topic":
            return f"{topic}-{part}"
        return record if strategy == "record" else f"{topic}-{record}"

    def id_for(self, subject: str, text: str) -> int:
        """Return the id of the Avro schema `text` under `subject`, registering it where that is allowed.

        Raises SchemaIncompatible, EnvironmentNotReady, ConnectionLost.
        """
        with self._lock:
            known = self._ids.get((subject, text))
            if known is None:
                known = self._ask(subject, text)
                _keep(self._ids, (subject, text), known)
            return known

    def text_for(self, schema_id: int) -> str:
        """Return the text of the schema with that id."""
        with self._lock:
            if schema_id not in self._texts:
                _keep(self._texts, schema_id, self._text(schema_id))
            return self._texts[schema_id]

    def subjects(self) -> int:
        """Return how many subjects there are. Raises PycdcError where it does not answer as a registry does."""
        try:
            found = self._call(self._client.subjects)
        except RegistryAnswer as error:
            raise self._refused(error, "the list of subjects", None) from None
        if not isinstance(found, list):
            raise ProtocolError(
                f"what answers at {self._url} is no schema registry",
                hint="check `registry.url`, its path too (Apicurio: /apis/ccompat/v7)",
            )
        return len(found)

    def latest(self, subject: str) -> str | None:
        """Return the text of the newest schema; None where there is none, or it is not told."""
        try:
            found = self._call(lambda: self._client.latest(subject))
        except RegistryAnswer:
            return None
        return found if isinstance(found, str) else None

    def close(self) -> None:
        self._client.close()

    def _ask(self, subject: str, text: str) -> int:
        ask = self._client.register if self._settings.register_schemas else self._client.look_up
        try:
            self._call(lambda: self._levels.restore(self._client))
            answer = self._call(lambda: ask(subject, text))
        except RegistryAnswer as error:
            refusal = self._refused(error, subject, text)
            if error.status != _CONFLICT or self._settings.on_incompatible != "new_subject_version_none":
                raise refusal from None
            answer = self._forced(subject, text, refusal)
        schema_id = self._plausible(answer, subject)
        self._require_same(schema_id, text, subject)
        return schema_id

    def _forced(self, subject: str, text: str, refusal: PycdcError) -> object:
        """Return the id of a schema that was refused, registered while the subject's level is NONE."""
        try:
            level = self._call(lambda: self._levels.override(self._client, subject))
            log.warning("%s\n  registering it all the same; the level before: %s", refusal.fact, level or "none")
            try:
                return self._call(lambda: self._client.register(subject, text))
            finally:
                self._restore(subject)
        except RegistryAnswer as error:
            if error.status != _CONFLICT:
                raise self._refused(error, subject, text) from None
            raise SchemaIncompatible(
                lines(refusal.fact, "  and refuses it with the subject's level NONE too"),
                hint="a rule for all subjects holds in this registry whatever a subject's own level is (Apicurio): "
                "set the level of subjects instead of the global one",
                subject=subject,
            ) from None

    def _restore(self, subject: str) -> None:
        try:
            self._call(lambda: self._levels.restore(self._client))
        except (RegistryAnswer, PycdcError):
            log.error("the compatibility level of %s at %s is still NONE: set it back", subject, self._url)
            raise

    def _plausible(self, answer: object, subject: str) -> int:
        if type(answer) is not int or not 0 < answer <= _MAX_ID:
            raise ProtocolError(
                f"the registry at {self._url} gave {subject} an id that is no positive 32-bit integer",
                hint="check that `registry.url` leads to Confluent's REST API",
            )
        return answer

    def _require_same(self, schema_id: int, text: str, subject: str) -> None:
        found = self._text(schema_id)
        if found != text and _canonical(found) != _canonical(text):
            raise ProtocolError(
                f"the registry at {self._url} gave {subject} the id {schema_id}, which leads to another schema",
                hint="check whether the registry was restored from a backup; its ids must not change",
            )

    def _text(self, schema_id: int) -> str:
        try:
            text = self._call(lambda: self._client.schema(schema_id))
        except RegistryAnswer as error:
            if error.code == _NO_SCHEMA:
                raise UnknownSchema(
                    f"the registry at {self._url} has no schema with the id {schema_id}",
                    hint="use the registry that the records were written with",
                ) from None
            if error.status == _NOT_FOUND:
                raise ConnectionLost(
                    f"what answers at {self._url} is not the registry: HTTP 404 without its code",
                    hint="check that the registry runs behind its proxy, and the path of `registry.url` (Apicurio: "
                    "/apis/ccompat/v7)",
                ) from None
            raise self._refused(error, f"schema {schema_id}", None) from None
        if not isinstance(text, str):
            raise ProtocolError(f"the registry at {self._url} returned no schema for the id {schema_id}")
        return text

    def _call(self, work: Callable[[], T]) -> T:
        """Do `work`, again after faults that may pass; other answers of the registry come out as they are."""
        stopping = self._stopping or threading.Event()
        retrying = Retrying(
            stop=stop_any(stop_after_delay(self._settings.timeout), stop_when_event_set(stopping)),
            wait=wait_random_exponential(multiplier=0.1, max=_MAX_PAUSE),
            sleep=sleep_using_event(stopping),
            retry=retry_if_exception(_may_pass),
            before_sleep=self._log_retry,
            reraise=True,
        )
        try:
            answer = retrying(lambda: awaited(work, self._stopping, self._silent))
            self._outages.end(self._name)
            return answer
        except RegistryAnswer as error:
            if _may_pass(error):
                raise self._away(f"HTTP {error.status}") from None
            raise
        except RegistryAway as error:
            if error.distrusted:
                raise EnvironmentNotReady(
                    f"the registry at {self._url} is not trusted: {error}",
                    hint="set `registry.ca` to the authority of its certificate, and check the host in the URL",
                ) from None
            raise self._away(str(error)) from None
        except TokenRefused as error:
            raise EnvironmentNotReady(
                f"the server of the registry's tokens gives none (HTTP {error.status}): {error.reason}",
                hint="check `registry.oauth`: token_url, client_id, client_secret, scope",
            ) from None
        except ValueError:
            raise ProtocolError(
                f"what answers at {self._url} is no schema registry: not JSON",
                hint="check `registry.url`, its path too (Apicurio: /apis/ccompat/v7)",
            ) from None

    def _log_retry(self, state: RetryCallState) -> None:
        error = None if state.outcome is None else state.outcome.exception()
        reason = f"HTTP {error.status}" if isinstance(error, RegistryAnswer) else str(error)
        self._outages.begin(self._name, reason, _AWAY, seconds=time.monotonic() - state.start_time)

    def _silent(self, seconds: float) -> None:
        self._outages.begin(self._name, "no answer yet", _AWAY, seconds=seconds)

    @property
    def _name(self) -> str:
        return f"the schema registry at {self._url}"

    def _away(self, reason: str) -> ConnectionLost:
        stopped = self._stopping is not None and self._stopping.is_set()
        waited = "and the pipeline was stopped" if stopped else f"for {self._settings.timeout:g} s"
        return RegistryLost(f"{self._name} is out of reach {waited}: {reason}", hint=_AWAY)

    def _refused(self, error: RegistryAnswer, subject: str, text: str | None) -> PycdcError:
        status = error.status
        if status in (401, 403):
            return EnvironmentNotReady(
                f"the registry at {self._url} denies access to {subject} (HTTP {status})",
                hint="check `registry.username` and `password`, or `registry.token` or `registry.oauth`, and the "
                "user's right to read and write the subject",
            )
        if status == _CONFLICT and text is not None:
            return self._incompatible(subject, text)
        if status == 422:
            return SchemaIncompatible(
                f"the registry at {self._url} finds the schema of {subject} invalid (code {error.code})",
                hint=_about_defaults(text)
                or "names that Avro does not allow are the usual cause, a schema or table "
                "that begins with a digit too: `envelope.adjust_names: strict` makes them legal",
                subject=subject,
            )
        if status == _NOT_FOUND and not self._settings.register_schemas:
            log.debug("the schema of %s that is wanted: %s", subject, text)
            return EnvironmentNotReady(
                f"the registry at {self._url} does not know this schema of {subject}",
                hint="register it (`pycdc --debug run …` logs its text), or set `registry.register_schemas: true`",
            )
        return ProtocolError(
            f"the registry at {self._url} answers HTTP {status} (code {error.code}) for {subject}",
            hint="check `registry.url`, its path too (Apicurio: /apis/ccompat/v7)",
        )

    def _incompatible(self, subject: str, text: str) -> SchemaIncompatible:
        changes = self._changes(subject, text)
        fact = f"the registry at {self._url} refuses the new schema of {subject}; against the latest version:"
        listed = [f"    {change}" for change in changes]
        body = json.dumps({"compatibility": "NONE"})
        return SchemaIncompatible(
            lines(fact, *listed) if listed else f"{fact} (the registry does not show the latest version)",
            hint="change the table in steps that consumers can follow (new columns nullable or with a default, no "
            f"change of type), or allow it: curl -X PUT -H 'Content-Type: application/json' -d '{body}' "
            f"{self._url}/config/{quote(subject, safe='')}, or choose `registry.on_incompatible`: "
            "new_subject_version_none to let it through, park to set the table's rows aside",
            subject=subject,
        )

    def _changes(self, subject: str, text: str) -> list[str]:
        try:
            latest = self._call(lambda: self._client.latest(subject))
        except (RegistryAnswer, PycdcError):
            # The refusal is what counts; without the latest version it is told without the comparison.
            return []
        return differences(json.loads(latest), json.loads(text)) if latest else []


def _about_defaults(text: str | None) -> str | None:
    """Return what to do about defaults that a registry takes for JSON, where the schema has any."""
    found = sorted({f"{name} ({shown})" for name, shown in _braced_defaults(json.loads(text or "null"))})
    if not found:
        return None
    return (
        f"Apicurio refuses defaults that look like JSON, those of {', '.join(found)}: `compatibility: "
        "{column_defaults: plain}` leaves them out of the schema; else a name is the cause that Avro does not allow"
    )


def _braced_defaults(schema: Any) -> Iterator[tuple[str, str]]:
    """Fields whose default is a text that begins like a JSON object or array."""
    if isinstance(schema, list):
        for part in schema:
            yield from _braced_defaults(part)
    elif isinstance(schema, dict):
        default = schema.get("default")
        if "name" in schema and isinstance(default, str) and default.lstrip()[:1] in ("{", "["):
            yield printable(schema["name"]), printable(default[:20])
        for part in schema.values():
            yield from _braced_defaults(part) if isinstance(part, dict | list) else ()


def _may_pass(error: BaseException) -> bool:
    if isinstance(error, RegistryAnswer | TokenRefused):
        return error.status in PASSING
    return isinstance(error, RegistryAway) and not error.distrusted


def _canonical(text: str) -> str:
    """Avro's parsing canonical form: what decides how bytes are read."""
    # Here, because few registries need it and it takes 40 ms of every start.
    from fastavro.schema import SchemaParseException, parse_schema, to_parsing_canonical_form

    try:
        form: str = to_parsing_canonical_form(parse_schema(json.loads(text)))
        return form
    except (ValueError, KeyError, TypeError, SchemaParseException):
        return text


def _keep(kept: dict[K, T], key: K, value: T) -> None:
    if len(kept) >= _REMEMBERED:
        del kept[next(iter(kept))]
    kept[key] = value
