"""Webhooks: a JSON document is posted to a URL that counts as secret."""

from __future__ import annotations

import json
from typing import Any, Final

import urllib3

from pycdc.observability.logger import get_logger

log = get_logger()

_SECONDS: Final = 5.0


def post(url: str, document: dict[str, Any]) -> bool:
    """Post the document; log a webhook that does not take it, without its URL. Return whether it did."""
    try:
        answer = urllib3.request(
            "POST",
            url,
            body=json.dumps(document).encode(),
            headers={"Content-Type": "application/json"},
            timeout=urllib3.Timeout(total=_SECONDS),
            retries=False,
            redirect=False,
        )
    except urllib3.exceptions.HTTPError as error:
        log.warning("the webhook does not answer", error=type(error).__name__)
        return False
    if answer.status >= 300:
        log.warning("the webhook refuses", status=answer.status)
    return answer.status < 300
