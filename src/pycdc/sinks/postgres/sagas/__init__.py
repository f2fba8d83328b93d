"""Sagas: what becomes of business transactions over several services, followed by their events."""
