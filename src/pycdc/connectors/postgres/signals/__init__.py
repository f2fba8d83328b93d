"""Send and receive signals."""
