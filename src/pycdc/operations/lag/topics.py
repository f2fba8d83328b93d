"""The topics that a capture writes its tables to."""

from __future__ import annotations

from pycdc.config.pipeline import CapturePipeline
from pycdc.config.values import TableRule
from pycdc.connectors.postgres.catalog.metadata import TableRef, arriving
from pycdc.model.change import Table
from pycdc.rows.plan import plan_table
from pycdc.serialization.names import DEFAULT_TOPIC, routed, topic_name


def topics_of(config: CapturePipeline, tables: list[TableRef]) -> list[str]:
    """Return the topics of these tables, as the serializer names them."""
    named = set()
    for ref in arriving(tables, via_root=config.source.postgres.via_partition_root):
        table = Table(ref.oid, ref.schema, ref.name, ())
        plan = plan_table(table, _routing(config), config.values, config.compatibility)
        pattern = plan.topic or DEFAULT_TOPIC
        named.add(routed(pattern, name=config.name, schema=ref.schema, table=ref.name))
    return sorted(named)


def message_topic(config: CapturePipeline) -> str:
    """Return the topic of logical messages."""
    return topic_name(f"{config.name}.message")


def _routing(config: CapturePipeline) -> list[TableRule]:
    return [TableRule(tables=rule.tables, topic=rule.topic) for rule in config.rules]
