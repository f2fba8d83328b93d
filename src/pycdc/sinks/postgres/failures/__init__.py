"""Decide what becomes of events that cannot be applied."""
