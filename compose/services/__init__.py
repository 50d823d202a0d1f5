"""Real Kafka, Mosquitto and InfluxDB on free loopback ports, with or without containers; the standard library is all it needs.

``python -m compose.services start`` is for people (``make services``); tests call `start`:

    with start("kafka", folder) as kafka:
        kafka.env["KAFKA_BOOTSTRAP"]; kafka.stop(); kafka.run(); kafka.kill(); kafka.run()

A server keeps its ports, credentials and data from run to run, until `Server.close` removes them.
"""

from compose.services.launch import KINDS, start
from compose.services.programs import Missing
from compose.services.server import Server

__all__ = ["KINDS", "Missing", "Server", "start"]
