"""Find the capture that writes the topics of a pipeline, among the configurations beside its own."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pycdc.config import load
from pycdc.config.pipeline import ApplyPipeline, CapturePipeline, PipelineConfig
from pycdc.errors import ConfigError
from pycdc.model.patterns import names_any

_SUFFIXES: Final = (".yaml", ".yml", ".json")
_HINT: Final = "name it with --capture; for another capture than pycdc's: --source-dsn and --slot"


def capture_beside(path: Path, config: PipelineConfig) -> CapturePipeline:
    """Return the one configuration in the folder of `path` that captures into topics which the pipeline reads.

    Raises ConfigError where there is none, or several.
    """
    found = {}
    for other in sorted(path.resolve().parent.iterdir()):
        if other.suffix not in _SUFFIXES or other == path.resolve():
            continue
        try:
            candidate = load(other)
        except ConfigError:
            continue
        if isinstance(candidate, CapturePipeline) and _feeds(candidate, config):
            found[other.name] = candidate
    if len(found) == 1:
        return next(iter(found.values()))
    what = f"several do: {', '.join(found)}" if found else "none does"
    raise ConfigError(
        f"of the configurations beside {path.name}, one has to capture the topics of {config.name}, and {what}",
        hint=_HINT,
    )


def _feeds(capture: CapturePipeline, config: PipelineConfig) -> bool:
    if not isinstance(config, ApplyPipeline) or capture.sink.kafka is None:
        return False
    return any(
        topic.partition(".")[0] == capture.name or names_any([topic], f"{capture.name}.public.table")
        for topic in config.source.kafka.topics
        if topic != "*"
    )
