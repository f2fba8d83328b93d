"""The cut-over: writes of a group of tables move to another database, and back, in seconds."""
