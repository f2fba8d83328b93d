"""What `pycdc doctor` asks of the brokers that are read. Changes nothing, and joins no group."""

from __future__ import annotations

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from pycdc import config
from pycdc.connectors.kafka.faults import LastTrouble, refused_option, unreadable
from pycdc.connectors.kafka.settings import consumer_settings
from pycdc.patterns import names_any

_CONSUMER = (
    "group.",
    "isolation.",
    "enable.auto.",
    "enable.partition.",
    "auto.offset.",
    "partition.",
    "queued.",
    "fetch.",
    "session.",
    "statistics.",
)


def matching_topics(settings: config.KafkaSource, *, timeout: float = 5.0) -> dict[str, list[str]]:
    """The topics that there are for each of `topics`. Raises PycdcError."""
    trouble = LastTrouble()
    client = {k: v for k, v in consumer_settings(settings, "-").items() if not k.startswith(_CONSUMER)}
    try:
        admin = AdminClient({**client, "error_cb": trouble})
    except KafkaException as error:
        raise refused_option(error) from None
    try:
        found = admin.list_topics(timeout=timeout).topics
    except KafkaException as error:
        admin.poll(0)
        raise unreadable(trouble.error or error.args[0], f"the cluster at {settings.brokers}") from None
    return {topic: sorted(name for name in found if names_any([topic], name)) for topic in settings.topics}
