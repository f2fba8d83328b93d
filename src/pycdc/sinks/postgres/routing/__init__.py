"""Turn events into the writes that their routes mean."""
