"""Detect and resolve conflicts."""
