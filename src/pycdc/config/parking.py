"""`parking`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, SecretStr, field_validator

from pycdc.config.section import Section, webhook_url


class ParkingConfig(Section):
    """What holds for rows that are parked. Keep this section while any are, also where no rule parks any more."""

    topic: str | None = None
    """Default `{name}.parked`: compacted, one partition. It holds the values of the rows."""
    limit: Annotated[int, Field(ge=1)] = 10_000
    """Rows that may be parked, those that wait behind others among them. One more stops the pipeline."""
    webhook: SecretStr | None = None
    """URL that is sent a JSON document (POST) when rows of a table are parked, and again when none is any more. Its
    `text` says it in a sentence, as chat services want it. The URL counts as secret."""

    _http = field_validator("webhook")(webhook_url)
