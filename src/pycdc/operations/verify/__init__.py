"""Compare the tables that a pipeline writes with those that its events come from, exactly, while both are written."""
