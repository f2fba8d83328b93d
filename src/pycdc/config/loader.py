"""From YAML to a `PipelineConfig`: `${…}` filled in, and every mistake told at once with its place and its remedy.

The steps: compose the YAML (places, duplicate keys), fill in variables, validate. A step's mistakes do not keep the
later ones from being found. Values are never shown, because any of them may be a secret: only keys, places and what
is allowed.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from pycdc.config.pipeline import CapturePipeline, PipelineConfig, pipeline_model, require_capture
from pycdc.config.section import Section
from pycdc.config.validation_errors import explain
from pycdc.config.variables import expand
from pycdc.config.yaml_document import ConfigProblem, YamlPath, compose, shown
from pycdc.errors import ConfigError
from pycdc.printable import Lines

if TYPE_CHECKING:
    from pycdc.config.migration import MigrationConfig

_BUILDING = threading.Lock()
_TEXT = re.compile(r"\s*\{|.*\n", re.DOTALL)


class InvalidConfig(ConfigError):
    """`problems` are all that was found, in the order of the file."""

    def __init__(self, where: str, problems: Iterable[ConfigProblem]) -> None:
        self.problems = tuple(sorted(set(problems), key=lambda problem: (problem.line or 0, shown(problem.place))))
        if len(self.problems) == 1:
            only = self.problems[0]
            super().__init__(f"{where}{_line(only, ', line ')}: {only}", hint=only.remedy)
            return
        listed = "".join(f"\n  {_line(one, 'line ', ': ')}{one}\n      try: {one.remedy}" for one in self.problems)
        super().__init__(Lines(f"{where} has {len(self.problems)} errors:{listed}"))


def _line(problem: ConfigProblem, before: str, after: str = "") -> str:
    return "" if problem.line is None else f"{before}{problem.line}{after}"


def load(source: str | Path) -> PipelineConfig:
    """Load a file; or `source` itself, where that is a text of several lines or begins with ``{``.

    Raises ConfigError.
    """
    if isinstance(source, str) and _TEXT.match(source):
        return load_text(source)
    return load_text(_read(Path(source)), str(source))


def load_text(text: str, where: str = "the configuration") -> PipelineConfig:
    """Load the configuration that `text` holds. `where` stands for it in errors. Raises ConfigError."""
    return _loaded(text, where, pipeline_model)


def load_migration(path: str | Path) -> MigrationConfig:
    """Return a migration's configuration. Raises ConfigError."""
    from pycdc.config.migration import MigrationConfig  # a pipeline's configuration is loaded without its models

    return _loaded(_read(Path(path)), str(path), lambda data: MigrationConfig)


S = TypeVar("S", bound=Section)


def _loaded(text: str, where: str, choose: Callable[[Any], type[S]]) -> S:
    """`choose` returns the root model for the document."""
    document = compose(text, where)
    filled, unknown = expand(document)
    problems = [*document.problems, *unknown]
    blind = {problem.place for problem in unknown}
    root = _built(choose(filled))
    try:
        config = root.model_validate(filled)
    except ValidationError as error:
        found = explain(error, document.line, root=root)
        problems += [one for one in found if not _below(one.place, blind)]
        raise InvalidConfig(where, problems) from None
    if problems:
        raise InvalidConfig(where, problems)
    return config


def validate(data: Mapping[str, Any]) -> PipelineConfig:
    """Make a configuration of a mapping of the YAML's shape. `${…}` stays as it is. Raises ConfigError."""
    root = _built(pipeline_model(data))
    try:
        return root.model_validate(dict(data))
    except ValidationError as error:
        raise InvalidConfig("the configuration", explain(error, root=root)) from None


def validate_capture(data: Mapping[str, Any]) -> CapturePipeline:
    """Return what `validate` does, for a pipeline that captures. Raises ConfigError."""
    return require_capture(validate(data))


def _built(root: type[S]) -> type[S]:
    """Build the schema of a root model at its first use. Older versions of pydantic must not do so in two threads."""
    with _BUILDING:
        root.model_rebuild()
    return root


def _below(place: YamlPath, places: set[YamlPath]) -> bool:
    return any(place[:length] in places for length in range(len(place) + 1))


def _read(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"cannot read {path}: {(error.strerror or type(error).__name__).lower()}",
            hint="check the path and its permissions; `pycdc init` writes a first configuration",
        ) from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 at byte {error.start}", hint="save the file as UTF-8") from None
