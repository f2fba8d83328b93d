"""A capture between a database and brokers that are simulated, with time, threads and faults decided by a seed."""
