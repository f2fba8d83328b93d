"""A pipeline's loop, of either direction.

Only the chosen direction is imported: imports are most of what a start takes.
"""

from __future__ import annotations

import threading
from typing import Any, NamedTuple

from pycdc.config.pipeline import ApplyPipeline, PipelineConfig
from pycdc.interfaces import Connector, OffsetStore, Sink
from pycdc.observability.progress import Progress
from pycdc.pipeline import Loop


class OwnObjects(NamedTuple):
    """What a program brings in the place of what a capture's configuration names."""

    source: Connector | None = None
    sink: Sink | None = None
    offsets: OffsetStore | None = None


def build_loop(
    config: PipelineConfig, progress: Progress, stopping: threading.Event, own: OwnObjects | None = None
) -> Loop[Any, Any]:
    """Return everything that a pipeline is made of. Its parts end soon once `stopping` is set."""
    if isinstance(config, ApplyPipeline):
        from pycdc.build.apply import apply_loop

        return apply_loop(config, progress, stopping)
    from pycdc.build.capture import capture_loop

    return capture_loop(config, progress, stopping, own or OwnObjects())


def require_functions(config: PipelineConfig) -> None:
    """Raise ConfigError where a function that the configuration names cannot be used. Connects to nothing."""
    if not isinstance(config, ApplyPipeline):
        if config.transforms:
            from pycdc.transforms.capture import CaptureTransforms

            CaptureTransforms(config, Progress())
        return
    from pycdc.transforms.reverse import ReverseFunctions

    ReverseFunctions(config)
