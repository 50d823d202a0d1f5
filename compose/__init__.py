"""Servers for the engine: in containers (``docker-compose.yml``), and without them (`compose.services`)."""
