"""Kafka: clients, topics, the snapshot store, the two runtimes of a worker, and events out. Needs the ``kafka`` extra."""
