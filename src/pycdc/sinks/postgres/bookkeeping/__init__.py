"""Store which events were applied, in the target database."""
