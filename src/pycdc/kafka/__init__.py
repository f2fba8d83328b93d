"""What every client of Kafka's brokers shares."""
