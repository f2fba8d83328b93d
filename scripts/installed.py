"""What an installed wheel must have: every module imports, the names are right. Run in the environment that has it."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from importlib.metadata import distribution
from pathlib import Path

import pycdc

NEEDS_MORE = ("pycdc.demo",)
"""Packages that the extra `demo` belongs to."""


def main(version: str) -> int:
    assert pycdc.__version__ == version, f"the version is {pycdc.__version__}"
    found = distribution("pycdc-postgres")
    assert found.version == version, f"the distribution's version is {found.version}"
    assert [one.value for one in found.entry_points if one.name == "pycdc"] == ["pycdc.cli:main"]
    folder = Path(pycdc.__file__).parent
    assert (folder / "py.typed").is_file(), "py.typed is missing"
    modules = [one.name for one in pkgutil.walk_packages([str(folder)], "pycdc.") if one.name != "pycdc.__main__"]
    for name in modules:
        if not name.startswith(NEEDS_MORE):
            importlib.import_module(name)
    sys.stdout.write(f"{len(modules)} modules of {folder}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
