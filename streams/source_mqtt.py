"""Messages of an MQTT broker: logged on disk, then acknowledged; the log is what the engine reads, and reads again after a crash."""

from __future__ import annotations

import hashlib
import secrets
import tempfile
from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from streams.codecs import OPTIONS as CODEC_OPTIONS
from streams.codecs import Pattern, open_codec
from streams.codecs.base import LIMIT
from streams.context import Context
from streams.mqtt_address import Broker, parse_broker
from streams.mqtt_client import Link, Session, Token
from streams.mqtt_log import CAP, Entry, Log, Placed
from streams.mqtt_wire import Message
from streams.uri import Uri
from twin_engine.clock import Clock
from twin_engine.errors import InputError
from twin_engine.records import Codec, Idle, Item, Position, Record

_DROPPED = "$SYS/broker/publish/messages/dropped"
_IDLE = 0.1  # seconds between Idle items while nothing comes
_OWN = ("codec", "receive_maximum", "session_expiry", "log_cap")


def open_mqtt(uri: Uri, context: Context) -> MqttSource:
    """Open ``mqtt://USER@HOST:1883/plant/{asset}/{channel}?codec=json&qos=1``, or ``mqtts:``; see docs/guide/mqtt.md."""
    name = uri.options.get("codec", "json")
    broker = parse_broker(uri, *_OWN, *CODEC_OPTIONS.get(name, ()))
    pattern = Pattern(broker.topic)
    options = {key: value for key, value in uri.options.items() if key in CODEC_OPTIONS.get(name, ())}
    open_codec(name, pattern, options, asset=context.asset or "")  # mistakes are told now
    return MqttSource(broker, pattern, name, options, context)


class MqttSource:
    """A source that goes on for ever. Its position: the log's offset, the items given out of the record there, the codec's memory.

    counts: ``messages`` logged, ``dropped_log_full`` (QoS 0 only), and ``dropped_by_broker``: what the broker says it has dropped, for any
    of its clients, since this source is connected. late: acknowledge to the broker only what ``acknowledge`` covers, not what is logged.
    """

    live = True

    def __init__(self, broker: Broker, pattern: Pattern, codec: str, options: dict[str, str], context: Context) -> None:
        self.counts: Counter[str] = Counter()
        self.late = False
        self._logged: deque[tuple[int, Token]] = deque()  # what is to be acknowledged late, and where in the log it ends
        self._broker, self._pattern, self._context = broker, pattern, context
        self._codec_name, self._codec_options = codec, options
        self._clock: Clock = context.clock
        self._maximum = self._whole("receive_maximum", 1000, 1, 65535)
        self._expiry = self._whole("session_expiry", 7 * 86400, 0, (1 << 32) - 1)
        self._cap = self._whole("log_cap", CAP, 32 << 20, 1 << 50)
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._log: Log | None = None
        self._link: Link | None = None
        self._dropped = 0  # the newest that the broker has told
        self._acknowledged = 0  # up to where in the log
        self._held: deque[tuple[Entry, Token]] = deque()  # what the log has no room for; the broker sends no more than receive_maximum

    def _whole(self, name: str, default: int, least: int, most: int) -> int:
        number = self._broker.uri.number(name, default)
        if not (least <= number <= most and number == int(number)):
            place = f"option {name!r} of {self._broker.place}"
            raise InputError(place, expected=f"a whole number, {least} to {most}", found=str(number), mend=f"Write {name}={default}.")
        return int(number)

    @property
    def assets(self) -> list[str]:
        """The asset that was named; raises InputError where none was, because a broker does not know who will publish."""
        if self._context.asset is not None:
            return [self._context.asset]
        raise InputError(self._broker.place, expected="the names of the assets", found="none", mend="Name them: --asset a --asset b.")

    def items(self, position: Position) -> Iterator[Item]:
        """Yield what the log holds after the position, then what comes. Raises InputError where the broker cannot be had at the start."""
        codec = open_codec(self._codec_name, self._pattern, self._codec_options, asset=self._context.asset or "")
        self._open()
        if self._log is None or self._link is None:
            return
        place: dict[str, Any] = position or {"offset": self._log.begin, "skip": 0, "memory": None}
        self._acknowledged = place["offset"]
        codec.recall(place["memory"])
        while True:
            if self._log.wait(place["offset"], _IDLE):
                for placed in self._log.read(place["offset"]):
                    for item in self._decode(codec, placed, place["skip"]):
                        place = item.position
                        yield item
                    place = {"offset": placed.end, "skip": 0, "memory": codec.memory}
                if self._temporary is not None:
                    self._log.acknowledge(place["offset"])
            else:
                self._link.check()
            yield Idle(place)

    def records(self, offset: int | None, wait: float) -> list[Record]:
        """Return what the log holds after an offset (None: all), as it came, or what comes within ``wait`` seconds. For a bridge."""
        if self._log is None:
            self._open()
        if self._log is None or self._link is None:
            return []
        begin = self._log.begin if offset is None else offset
        self._acknowledged = max(self._acknowledged, begin)
        if not self._log.wait(begin, wait):
            self._link.check()
            return []
        return [Record(p.entry.raw, p.entry.subject, "mqtt", p.end, p.entry.arrival, p.entry.headers) for p in self._log.read(begin)]

    @property
    def end(self) -> int:
        """Where the log ends now."""
        return self._log.end if self._log is not None else 0

    @property
    def waits(self) -> str:
        """What it waits for, empty while the broker is there."""
        return "" if self._link is not None and self._link.connected else "not connected to the broker of MQTT"

    def asset_of(self, subject: str) -> str:
        """Return the asset that a topic names, or the topic where the pattern says nothing of it."""
        return (self._pattern.match(subject) or {}).get("asset", "") or subject

    def _decode(self, codec: Codec, placed: Placed, skip: int) -> list[Any]:
        """Return what an entry says, without the first items; an item that is not the last leads back to this entry."""
        before, entry = codec.memory, placed.entry
        after: dict[str, Any] = {"offset": placed.end, "skip": 0, "memory": before}
        record = Record(entry.raw, entry.subject, self._broker.place, after, entry.arrival, entry.headers)
        found = list(codec.decode(record))
        after["memory"] = codec.memory
        if len(found) > 1:
            found[:-1] = [
                replace(item, position={"offset": placed.begin, "skip": i, "memory": before}) for i, item in enumerate(found[:-1], 1)
            ]
        return found[skip:]

    def _open(self) -> None:
        folder = self._context.folder
        if folder is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="twin-engine-")
        home = (folder or Path(self._temporary.name if self._temporary else "")) / "mqtt"
        self._log = Log(home, self._safe, cap=self._cap)
        expiry = self._expiry if folder else 0  # without a folder the log goes with the process, and so may the session
        session = Session(self._client_id(home), expiry, self._maximum, self._pattern.subscription, _DROPPED)
        self._link = Link(self._broker, session, take=self._take, room=self._room, ready=self._ready, tick=self._retake)
        self._link.start()

    def _client_id(self, home: Path) -> str:
        """Return a name that is the same for each run on this folder and subscription, so that the broker keeps what comes meanwhile."""
        if name := self._broker.uri.options.get("client_id"):
            return name
        file = home / "client"
        if not file.exists():
            file.write_text(secrets.token_hex(8))
        text = f"{file.read_text()} {self._broker.host} {self._pattern.subscription}"
        return f"twin-engine-{hashlib.sha256(text.encode()).hexdigest()[:10]}"  # 22 characters, which every broker takes

    def _take(self, message: Message, connection: int) -> None:
        """Log a message, in the network's thread, or hold it until there is room."""
        if message.topic == _DROPPED.encode():
            self._hear(message)
            return
        try:
            topic = message.topic.decode()
        except UnicodeDecodeError:
            topic = "\ufffd"  # no pattern has it: a reject
        payload = message.payload if len(message.payload) <= LIMIT else message.payload[: LIMIT + 1]  # what is longer is a reject as it is
        entry, token = Entry(self._clock.now(), topic, payload, message.headers), Token(connection, message.number)
        if not self._held and self._append(entry, token):
            return
        if not message.number:
            self.counts["dropped_log_full"] += 1
        else:
            self._held.append((entry, token))

    def _append(self, entry: Entry, token: Token) -> bool:
        """Log a message; False where there is no room."""
        if self._log is None or not self._log.append(entry, token):
            return False
        if self.late:
            self._logged.append((self._log.end, token))  # this thread alone appends
        self.counts["messages"] += 1
        return True

    def _hear(self, message: Message) -> None:
        """Take the broker's own count, which begins anew when the broker does; one that was there before us is no loss of ours."""
        if message.payload.isdigit():
            before, self._dropped = self._dropped, int(message.payload)
            self.counts["dropped_by_broker"] += 0 if message.retained else max(0, self._dropped - before)

    def _retake(self) -> None:
        """Log what was held, once there is room, and acknowledge late what is to be. In the network's thread.

        What came in an earlier connection comes again in this one.
        """
        if self._logged and self._link is not None:
            tokens: list[Token] = []
            while self._logged and self._logged[0][0] <= self._acknowledged:
                tokens.append(self._logged.popleft()[1])
            if tokens:
                self._link.acknowledge(tokens)
        while self._held and self._log is not None and self._link is not None:
            entry, token = self._held[0]
            if token.connection == self._link.connection and self._link.connected and not self._append(entry, token):
                return
            self._held.popleft()

    def _room(self) -> bool:
        """Whether more can be held: a broker of MQTT 3.1.1 knows nothing of ``receive_maximum``."""
        return len(self._held) < self._maximum

    def _ready(self) -> bool:
        return self._log is not None and not self._log.full

    def _safe(self, tokens: list[Any]) -> None:
        """Acknowledge what is on disk, in the log's thread."""
        if self._link is not None and not self.late:
            self._link.acknowledge(tokens)

    def figures(self) -> dict[str, float]:
        """Return counts, and the bytes of the log that no snapshot holds yet."""
        figures = {f"mqtt_{name}": float(n) for name, n in self.counts.items()}
        if self._log is not None and self._link is not None:
            figures["mqtt_log_bytes"] = float(self._log.end - max(self._acknowledged, self._log.begin))
            figures["mqtt_connected"] = float(self._link.connected)
            figures["mqtt_reconnects"] = float(self._link.reconnects)
        return figures

    def acknowledge(self, position: Position) -> None:
        """Let go of what a snapshot holds, or Kafka."""
        if position is None or self._log is None or self._link is None:
            return
        self._acknowledged = position["offset"]
        self._log.acknowledge(position["offset"])
        if self.late:
            self._link.wake()

    def close(self) -> None:
        """Log and acknowledge what has come, disconnect. The broker keeps the session where there is a folder."""
        if self._log is not None:
            self._log.close()
        if self._link is not None:
            self._link.close()
        self._log = self._link = None
        if self._temporary is not None:
            self._temporary.cleanup()
            self._temporary = None
