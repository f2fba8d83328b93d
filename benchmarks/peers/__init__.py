"""The others: Debezium in Kafka Connect, its JDBC sink, pg_recvlogical. They use the same servers as pycdc."""
