"""What every client of a Postgres server shares: how it connects, how long it waits, and what errors mean."""
