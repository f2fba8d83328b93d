"""Run the command line: ``python -m pycdc``."""

from pycdc.cli import main

if __name__ == "__main__":
    main(prog_name="pycdc")
