"""What a run has done so far, so that one that was interrupted can go on. Figures themselves are in latest.json."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.figures import RESULTS
from benchmarks.plan import Options


def _path() -> Path:
    return RESULTS / "unfinished.json"


@dataclass(slots=True)
class Journal:
    """`chosen` are the scenarios of the run, in order; `done` are those whose figures are saved."""

    options: Options
    chosen: list[str]
    done: list[str] = field(default_factory=list)

    @property
    def left(self) -> list[str]:
        return [name for name in self.chosen if name not in self.done]

    def finish(self, name: str) -> None:
        """Note that the figures of a scenario are saved. The file goes away with the last one."""
        self.done.append(name)
        if self.left:
            self.write()
        else:
            _path().unlink(missing_ok=True)

    def write(self) -> None:
        _path().parent.mkdir(exist_ok=True)
        _path().write_text(json.dumps(asdict(self), indent=1) + "\n")


def unfinished() -> Journal | None:
    """The run that was interrupted, None where the last one came to its end."""
    if not _path().exists():
        return None
    found = json.loads(_path().read_text())
    return Journal(Options(**found["options"]), found["chosen"], found["done"])
