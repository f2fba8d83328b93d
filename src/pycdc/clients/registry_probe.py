"""What `pycdc doctor` asks of the schema registry. Changes nothing."""

from __future__ import annotations

from pycdc.clients.registry_http import RegistryAnswer
from pycdc.clients.schema_registry import SchemaRegistry
from pycdc.config.kafka import RegistryConfig
from pycdc.errors import ProtocolError


class RegistryProbe(SchemaRegistry):
    """The client that the pipeline uses, with less patience."""

    def __init__(self, settings: RegistryConfig, *, timeout: float = 5.0) -> None:
        patience = min(timeout, settings.timeout)
        super().__init__(settings.model_copy(update={"timeout": patience, "register_schemas": True}))

    def subjects(self) -> int:
        """How many subjects there are. Raises PycdcError where it does not answer as a registry does."""
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
        """The newest schema's text; None where there is none, or it is not told."""
        try:
            found = self._call(lambda: self._client.latest(subject))
        except RegistryAnswer:
            return None
        return found if isinstance(found, str) else None
