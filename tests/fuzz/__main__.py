"""The coverage-guided fuzzer: ``python -m tests.fuzz [--seconds 60] [TARGET …]``.

Each target runs in a process of its own. An input that breaks it is printed; a crash, a hang of more than ten seconds
and two gigabytes of memory break it too.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from argparse import ArgumentParser
from collections.abc import Callable

_LIMITS = ("-timeout=10", "-rss_limit_mb=2048", "-max_len=4096", "-verbosity=0", "-print_final_stats=0")


def main() -> int:
    parser = ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="of each target")
    parser.add_argument("--within", action="store_true", help="run the one target in this process")
    parser.add_argument("targets", nargs="*")
    options = parser.parse_args()
    if options.within:
        _fuzz(options.targets[0], options.seconds)
        return 0
    from tests.fuzz.targets import TARGETS

    failed = []
    for name in options.targets or TARGETS:
        command = [sys.executable, "-m", "tests.fuzz", "--within", "--seconds", str(options.seconds), name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        print(f"{name}: {'nothing found' if done.returncode == 0 else 'BROKEN'}", flush=True)
        if done.returncode:
            print(done.stdout[-2000:] + done.stderr[-6000:], flush=True)
            failed.append(name)
    return 1 if failed else 0


def _fuzz(name: str, seconds: int) -> None:
    import atheris

    with atheris.instrument_imports(include=["pycdc"]):
        from tests.fuzz.targets import TARGETS
    target = TARGETS[name]
    with tempfile.TemporaryDirectory() as corpus, tempfile.TemporaryDirectory() as found:
        for number, seed in enumerate(target.seeds):
            with open(os.path.join(corpus, str(number)), "wb") as file:
                file.write(seed)
        options = [*_LIMITS, f"-max_total_time={seconds}", f"-artifact_prefix={found}/"]
        atheris.Setup([sys.argv[0], *options, corpus], lambda data: _shown(target, data))
        atheris.Fuzz()


def _shown(target: Callable[[bytes], None], data: bytes) -> None:
    try:
        target(data)
    except Exception:
        print(f"broken by {data!r}", flush=True)
        raise


if __name__ == "__main__":
    sys.exit(main())
