"""Under which names rows come: as the configuration has it, and as the publication does. No I/O.

Rows of a partition come under its own name, or with publish_via_partition_root under that of the topmost table that is
published. A name that is not captured would take its rows along, and one that is read by snapshots and not used by the
stream would get half of them.
"""

from __future__ import annotations

from collections.abc import Sequence

from pycdc.clients.quoting import quoted
from pycdc.config.postgres_source import PostgresSourceConfig
from pycdc.connectors.postgres.publication.published_state import PublishedState
from pycdc.errors import EnvironmentNotReady


def require_one_name(
    observation: PublishedState, uncaptured_partitions: Sequence[str], source: PostgresSourceConfig, name: str
) -> EnvironmentNotReady | None:
    """Return what is wrong, None where all is well.

    `uncaptured_partitions` are partitions of captured tables that are not captured.
    """
    published = observation.publication
    partitions = [
        found for found in observation.captured.values() if found.ref.kind == "p" or found.top != found.ref.oid
    ]
    if not partitions:
        return None
    via_root = source.via_partition_root if published is None else published.via_root
    if via_root != source.via_partition_root:
        actual, wanted = str(via_root).lower(), str(source.via_partition_root).lower()
        return EnvironmentNotReady(
            f"publication {name} publishes the rows of {_some(list(map(str, partitions)))} under "
            f"{'the names of their roots' if via_root else 'their own names'}, and via_partition_root is {wanted}",
            hint=f"set source.postgres.via_partition_root: {actual}; for a pipeline that has not begun also: "
            f"ALTER PUBLICATION {quoted(name)} SET (publish_via_partition_root = {wanted})",
        )
    if not via_root:
        return None
    if uncaptured_partitions and source.exclude_tables:
        return EnvironmentNotReady(
            f"{_some(uncaptured_partitions)} is excluded, and comes under the name of its root, which is captured",
            hint="set source.postgres.via_partition_root: false, detach it, or take it out of exclude_tables",
        )
    return _foreign_roots(observation, name)


def _foreign_roots(observation: PublishedState, name: str) -> EnvironmentNotReady | None:
    captured, published = observation.captured, observation.publication
    if published is None:
        return None
    known = {grant for grant, ref in published.listed.items() if ref.oid in captured}
    under = [str(found) for found in captured.values() if found.top not in captured and found.grants - known]
    if not under:
        return None
    return EnvironmentNotReady(
        f"publication {name} publishes {_some(under)} under the name of a root that is not captured",
        hint="name the root in source.postgres.tables, or publish the partition alone",
    )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
