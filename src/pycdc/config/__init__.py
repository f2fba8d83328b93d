"""Loading configurations: YAML in, `Config` out, or one error that tells all mistakes."""

from pycdc.config.loader import InvalidConfig, load, load_migration, load_text, validate, validate_capture
from pycdc.config.yaml_document import ConfigProblem

__all__ = ["ConfigProblem", "InvalidConfig", "load", "load_migration", "load_text", "validate", "validate_capture"]
