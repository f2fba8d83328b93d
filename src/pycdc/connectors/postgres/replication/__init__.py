"""Read the replication stream and assemble its transactions."""
