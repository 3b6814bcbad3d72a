"""The bus on Apache Kafka 2.4 or later. Import `harness.adapters.kafka.bus` where it is used: the client is not a small import."""
