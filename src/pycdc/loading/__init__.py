"""Loading configurations: YAML in, `Config` out, or one error that tells all mistakes."""

from pycdc.loading.document import Problem
from pycdc.loading.loader import InvalidConfig, load, load_text, validate

__all__ = ["InvalidConfig", "Problem", "load", "load_text", "validate"]
