"""Events and shown outputs to an MQTT broker: at least once, in order, complete at flush."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import quote

import msgspec

from streams.codecs import open_codec
from streams.mqtt_address import Broker, parse_broker
from streams.publisher import Publisher
from streams.shown import shown_readings, shown_tables
from streams.uri import Uri
from twin_engine.clock import iso
from twin_engine.errors import SinkError
from twin_engine.records import Position, Update, event_line

_LEVEL = re.compile(r"[/+#%\x00]")


def open_mqtt_sink(uri: Uri, show: tuple[str, ...]) -> MqttSink:
    """Open ``mqtt://USER@HOST:1883/PREFIX?outputs=yes``, or ``mqtts:``: topics ``PREFIX/ASSET/STAGE``.

    Events are JSON as in a file of events; with ``outputs=yes`` the shown outputs go to ``PREFIX/ASSET/STAGE.PORT``, a JSON of columns
    as the codec ``json`` reads it (tables as a JSON of columns, times in ISO 8601). retain: ``yes`` keeps the last of each topic at the
    broker. For the rest see ``mqtt_address``.
    """
    broker = parse_broker(uri, "outputs", "retain")
    if any(c in broker.topic for c in "+#{}"):
        raise SinkError(broker.place, expected="a topic to publish below", found=broker.topic, mend="Write mqtt://HOST/twins.")
    outputs, retain = uri.choice("outputs", ("yes", "no"), "no") == "yes", uri.choice("retain", ("yes", "no"), "no") == "yes"
    return MqttSink(broker, show if outputs else (), retain=retain)


class MqttSink:
    """Publishes; flush waits until the broker has acknowledged all. It cannot overwrite: after a crash an id may come twice."""

    def __init__(self, broker: Broker, show: tuple[str, ...], *, retain: bool = False) -> None:
        self._prefix, self._show, self._retain = broker.topic, show, retain
        self._codec = open_codec("json", "{asset}")
        self._publisher = Publisher(broker)

    def open(self, position: Position) -> None:
        """Connect; raises SinkError where the broker is down or refuses."""
        del position
        self._publisher.open()

    def write(self, update: Update) -> None:
        """Publish an update's events and shown outputs; waits only while many are unacknowledged."""
        for topic, raw in self._messages(update):
            self._publisher.publish(f"{self._prefix}/{topic}", raw, retain=self._retain)

    def _messages(self, update: Update) -> Iterator[tuple[str, bytes]]:
        for key, reading in shown_readings(update, self._show):
            for _, raw in self._codec.encode(reading):
                yield f"{_level(reading.asset)}/{_level(key)}", raw
        for key, asset, _, columns in shown_tables(update, self._show):
            said = {name: list(map(iso, c.astype(int).tolist())) if c.dtype.kind == "M" else c.tolist() for name, c in columns.items()}
            yield f"{_level(asset)}/{_level(key)}", msgspec.json.encode(said)
        for event in update.events:
            yield f"{_level(event.asset)}/{_level(event.stage)}", event_line(event).rstrip(b"\n")

    def flush(self) -> Position:
        """Wait until the broker has everything; raises SinkError."""
        self._publisher.flush()

    def close(self) -> None:
        """Flush and disconnect."""
        self._publisher.close()


def _level(name: str) -> str:
    """Return a name as one level of a topic; what a level cannot hold is percent-encoded."""
    return _LEVEL.sub(lambda match: quote(match[0], safe=""), name)
