"""A process that says all it can of a pipeline, as a program that logs too much would: it is started by the dozen.

    python -m tests.talkative CONFIG.json

runs the pipeline with every logger on, and prints it, its errors and its status.
"""

from __future__ import annotations

import json
import logging
import signal
import sys
import traceback
from pathlib import Path

import pycdc
from pycdc.observability.server import StatusServer


def main() -> None:
    """Run the pipeline of a configuration and print all there is: the role of a program that logs too much."""
    logging.basicConfig(level=logging.DEBUG, stream=sys.stdout, format="%(name)s %(levelname)s %(message)s %(args)s")
    try:
        pipeline = pycdc.Pipeline(json.loads(Path(sys.argv[1]).read_text()))
        signal.signal(signal.SIGTERM, lambda number, frame: pipeline.stop())
        print(repr(pipeline.config), pipeline.config, pipeline.progress, vars(pipeline))
        with StatusServer(pipeline.config.http, pipeline.progress) as status:
            try:
                pipeline.run()
            finally:
                print(pipeline.progress, *(status.answer(path) for path in ("/metrics", "/healthz", "/status")))
    except Exception as error:
        logging.exception("failed")
        traceback.print_exc()
        print(repr(error), error, vars(error))
        sys.exit(1)


if __name__ == "__main__":
    main()
