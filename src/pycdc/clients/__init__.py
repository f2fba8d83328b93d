"""Clients of the servers: one Postgres, one Kafka, one schema registry, one error table each."""
