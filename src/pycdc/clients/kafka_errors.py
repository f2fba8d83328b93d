"""What librdkafka says of its connections and options, whoever uses it."""

from __future__ import annotations

import re
from typing import Final

from confluent_kafka import KafkaError, KafkaException

from pycdc.errors import ConfigError, EnvironmentNotReady

_TLS: Final = re.compile(r"certificate|SSL alert number|wrong version number|unsupported protocol|no shared cipher")
"""Of a handshake that fails each time. One that is only cut short, as by a broker that stops, may succeed later."""


class LastError:
    """An `error_cb` that remembers what a client last said of its connections.

    An object of its own, because a client that calls its owner back is only freed by the garbage collector.
    """

    def __init__(self) -> None:
        self.error: KafkaError | None = None

    def __call__(self, error: KafkaError) -> None:
        # "All brokers are down" says less than the reason that came before it.
        if error.code() != KafkaError._ALL_BROKERS_DOWN:
            self.error = error


def refused_tls(words: str, where: str, option: str) -> EnvironmentNotReady | None:
    """The final error that it is where client and brokers cannot agree on TLS; `option` holds the client's settings."""
    if not _TLS.search(words):
        return None
    return EnvironmentNotReady(
        f"{where}: the TLS handshake with the brokers fails: {words}",
        hint=f"check `security.protocol`, `ssl.ca.location`, `ssl.certificate.location` and `ssl.key.location` in "
        f"{option}, and the names in the brokers' certificates",
    )


def refused_option(error: KafkaException, option: str) -> ConfigError:
    """librdkafka does not take an option: which one, without its value."""
    words = re.sub(r'".*"(?= for configuration property)', "a value", error.args[0].str(), flags=re.DOTALL)
    return ConfigError(f"librdkafka refuses the options: {words}", hint=f"correct {option}")
