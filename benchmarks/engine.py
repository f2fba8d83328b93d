"""Run one pipeline until it has delivered a number of events, and print what that took as a line of JSON.

    python -m benchmarks.engine CONFIG.json EVENTS [WARM]

The clock starts with the first event, or once WARM of them are delivered.

A process of its own, so that CPU time and peak memory are the engine's alone.
"""

from __future__ import annotations

import json
import resource
import sys
import threading
import time
from pathlib import Path

import pycdc
from pycdc.cli import gc_tuning as collector
from pycdc.config import validate


def main() -> None:
    config = validate(json.loads(Path(sys.argv[1]).read_text()))
    events = int(sys.argv[2])
    warm = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    pipeline = pycdc.Pipeline(config)
    collector.reduce_gc()  # as `pycdc run` does
    failures: list[BaseException] = []

    def run() -> None:
        try:
            pipeline.run()
        except BaseException as exc:
            failures.append(exc)

    thread = threading.Thread(target=run)
    started = time.perf_counter()
    thread.start()
    while pipeline.progress.events < warm and not failures:
        time.sleep(0.001)
    first, cpu = time.perf_counter(), time.process_time()
    already = pipeline.progress.events
    while pipeline.progress.events < events and not failures:
        time.sleep(0.005)
    counted = time.perf_counter()
    pipeline.stop()
    thread.join()
    stopped = time.perf_counter()
    if failures:
        raise failures[0]
    print(
        json.dumps(
            {
                "events": events,
                "start_seconds": round(first - started, 3),
                "seconds": round(counted - first, 3),
                "flush_seconds": round(stopped - counted, 3),
                "events_per_second": round((events - already) / (stopped - first)),
                "cpu_us_per_event": round((time.process_time() - cpu) / (events - already) * 1e6, 2),
                "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
            }
        )
    )


if __name__ == "__main__":
    main()
