"""Messages to an MQTT broker, at least once and in order: a bounded number on the way, all of them acknowledged at flush."""

from __future__ import annotations

import secrets
import threading
import time

from streams.mqtt_address import Broker, parse_broker
from streams.mqtt_client import Link, Session
from streams.uri import parse
from twin_engine.errors import SinkError

IN_FLIGHT = 1000  # messages that the broker has not acknowledged
_PATIENCE = 10.0  # seconds without an acknowledgement


def open_publisher(uri: str) -> Publisher:
    """Return what publishes to the broker of ``mqtt://USER@HOST:PORT/TOPIC``; ``open`` comes before publishing. Raises SinkError."""
    return Publisher(parse_broker(parse(uri, ("mqtt", "mqtts"), {}, SinkError)))


class Publisher:
    """A connection that sends."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._link: Link | None = None
        self._open: set[int] = set()  # numbers of messages that are not acknowledged
        self._done: set[int] = set()  # those that were before we knew their numbers
        self._refused = ""  # why the broker did not take one of them
        self._moved = threading.Condition()

    def open(self) -> None:
        """Connect, anew if need be; raises SinkError where the broker is down or refuses."""
        self._end()
        self._open, self._done, self._refused = set(), set(), ""
        name = self._broker.uri.options.get("client_id") or f"twin-engine-{secrets.token_hex(5)}"
        self._link = Link(self._broker, Session(name), published=self._published)
        self._link.start()

    def publish(self, topic: str, raw: bytes, *, retain: bool = False) -> None:
        """Send a message; waits only while many are unacknowledged. Raises SinkError."""
        link = self._link
        if link is None:
            raise SinkError(self._broker.place, expected="an open connection", found="a closed one", mend="Open it first.")
        self._wait(IN_FLIGHT - 1)
        info = link.client.publish(topic, raw, self._broker.qos, retain)
        with self._moved:
            if info.mid in self._done:
                self._done.remove(info.mid)
            else:
                self._open.add(info.mid)

    def _published(self, message: int, refused: str) -> None:
        with self._moved:
            self._refused = self._refused or refused
            if message in self._open:
                self._open.remove(message)
            else:
                self._done.add(message)
            self._moved.notify_all()

    def _wait(self, most: int) -> None:
        """Wait until no more than ``most`` are unacknowledged; raises SinkError where nothing moves, or where one was refused."""
        end = time.monotonic() + _PATIENCE
        with self._moved:
            while (before := len(self._open)) > most:
                self._moved.wait(0.1)
                if len(self._open) < before:
                    end = time.monotonic() + _PATIENCE
                elif self._link is None or not self._link.connected or time.monotonic() > end:
                    found = f"{len(self._open)} messages without"
                    raise SinkError(self._broker.place, expected="acknowledgements", found=found, mend="Start the broker again.")
            if self._refused:
                mend = "Give the user the right to publish there, or see the broker's limits."
                raise SinkError(self._broker.place, expected="messages to be taken", found=self._refused, mend=mend)

    def flush(self) -> None:
        """Wait until the broker has everything; raises SinkError."""
        if self._link is not None:
            self._wait(0)

    def close(self) -> None:
        """Flush and disconnect."""
        try:
            self.flush()
        finally:
            self._end()

    def _end(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.close()
