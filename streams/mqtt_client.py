"""A connection to a broker that is kept: one thread of ours that no exception ends, a watch on silence, reconnecting for ever.

All of the client's network work happens in that thread, so that an acknowledgement can never go to another connection than the one in
which its message came.
"""

from __future__ import annotations

import logging
import random
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from streams.mqtt_address import Broker
from streams.mqtt_wire import Client, Message, Wire
from twin_engine.errors import TwinError

SETUP = 10.0  # seconds for the first connection
_LONGEST = 30.0  # seconds between attempts at the most
_PARTING = 5.0  # seconds that the broker has to read what was said last
_TICK = 0.25  # seconds between looks at the clock
_DENIED = ("Not authorized", "Bad user name or password", "Bad authentication method", "Banned", "Client identifier not valid")
log = logging.getLogger("streams.mqtt")


class Token(NamedTuple):
    """A message to be acknowledged: in which connection it came, and its number there (0: none, QoS 0)."""

    connection: int
    message: int


class Session(NamedTuple):
    """What the broker keeps for a client. expiry: seconds after the connection is lost; 0: nothing is kept.

    watched: a second topic, with QoS 0, that the broker may refuse.
    """

    client_id: str
    expiry: int = 0
    receive_maximum: int = 1000
    subscription: str = ""
    watched: str = ""


class Link:
    """A connection. ``start`` raises where the first attempt fails; later ones are retried for ever, and counted in ``reconnects``.

    take: called for each message in the network's thread, with the number of the connection. room: whether it can be called again; until
    then what comes waits in the socket, and the broker behind it. ready: whether a connection that was lost can be opened again, whereupon
    the broker sends again what was not acknowledged. tick: called in the network's thread at each turn. published: called with the number
    of each message of ours that the broker has answered, and why it did not take it (MQTT 5), empty where it has.
    """

    def __init__(
        self,
        broker: Broker,
        session: Session,
        *,
        take: Callable[[Message, int], None] | None = None,
        published: Callable[[int, str], None] | None = None,
        room: Callable[[], bool] = lambda: True,
        ready: Callable[[], bool] = lambda: True,
        tick: Callable[[], None] = lambda: None,
    ) -> None:
        self.broker, self.session = broker, session
        self.connection = 0  # which connection this is; grows with each
        self.connected = False
        self.reconnects = self.failures = 0
        self.errors = 0  # exceptions in the network's thread, each the end of a connection
        self._take, self._room, self._ready, self._tick = take, room, ready, tick
        self._acks: deque[Token] = deque()
        self._stop, self._settled = threading.Event(), threading.Event()
        self._problem: tuple[str, str, str] | None = None  # expected, found, mend
        self._again = self._subscribed = False
        self._beat = time.monotonic()
        self._wake_read, self._wake_write = socket.socketpair()
        for end in (self._wake_read, self._wake_write):
            end.settimeout(0)
        self.client = self._make()
        if published is not None:
            self.client.on_publish = lambda _c, _u, mid, reason, _p: published(mid, str(reason) if reason.is_failure else "")
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)

    def _make(self) -> paho.Client:
        keep = self.session.expiry > 0
        client = Client(
            CallbackAPIVersion.VERSION2, self.session.client_id, clean_session=None if self.broker.version == 5 else not keep,
            protocol=MQTTProtocolVersion(self.broker.version), manual_ack=True,
        )  # fmt: skip
        if self.broker.tls is not None:
            client.tls_set_context(self.broker.tls)
        client.connect_timeout = 5.0
        client.on_connect, client.on_subscribe = self._on_connect, self._on_subscribe
        client.on_socket_register_write = lambda *_: self.wake()
        return client

    def start(self) -> None:
        """Connect, and subscribe where there is something to subscribe to; raises the address's kind of error."""
        self._thread.start()
        if not self._settled.wait(SETUP):
            self._problem = self._problem or ("an answer", f"none within {SETUP:g} s", "Start the broker, or mend the address.")
        if self._problem is not None:
            self.close()
            expected, found, mend = self._problem
            raise self.broker.uri.error(self.broker.place, expected=expected, found=found, mend=mend)

    def check(self) -> None:
        """Raise unless the network's thread lives and moves."""
        silent = time.monotonic() - self._beat
        if self._thread.is_alive() and silent < max(60.0, 3 * self.broker.keepalive):
            return
        found = f"nothing from it for {silent:.0f} s" if self._thread.is_alive() else "it ended"
        raise self.broker.uri.error(
            self.broker.place, expected="the network's thread to run", found=found, mend="Run again: nothing is lost."
        )

    def acknowledge(self, tokens: list[Token]) -> None:
        """Tell the broker that these are safe, those of a connection that has ended excepted: they come again. From any thread."""
        self._acks.extend(tokens)
        self.wake()

    def wake(self) -> None:
        """Make the network's thread look at what there is to do."""
        with suppress(BlockingIOError, OSError):
            self._wake_write.send(b"x")

    def close(self) -> None:
        """Send what is waiting, disconnect and end the thread. A session with an expiry stays at the broker."""
        self._stop.set()
        self.wake()
        if self._thread.is_alive():
            self._thread.join(SETUP)
        self._wake_read.close()
        self._wake_write.close()

    def _run(self) -> None:
        attempt = 0
        while not self._stop.is_set():
            try:
                self._connect()
                while self._once():
                    attempt = 0 if self.connected else attempt
            except TwinError as error:
                self._refuse(error.expected, error.found, error.mend)
            except OSError as error:
                self._refuse(
                    "a broker that answers", str(error) or type(error).__name__, "Start it, or mend the address (and ca for mqtts)."
                )
            except Exception:  # the thread must live: a connection opened anew brings what was not acknowledged
                self.errors += 1
                log.exception("a connection to %s is given up", self.broker.place)
            self._drop()
            if not self._settled.is_set() and not self._stop.is_set():
                self._refuse(
                    "to be let in", "the connection closed by the broker", "See its log; it may want a client certificate (cert, key)."
                )
            if self._settled.is_set() and not self._stop.is_set():
                self._pause(attempt)
                attempt += 1
                self.reconnects += 1
        with suppress(Exception):
            self._leave()
        self._forget()

    def _connect(self) -> None:
        self.connection += 1
        self._acks.clear()
        self._again = self._subscribed = False
        self._beat = time.monotonic()
        broker, client = self.broker, self.client
        password = broker.password()
        if broker.user or password is not None:
            client.username_pw_set(broker.user or None, password)
        properties = None
        if broker.version == 5:
            properties = Properties(PacketTypes.CONNECT)
            properties.SessionExpiryInterval, properties.ReceiveMaximum = self.session.expiry, self.session.receive_maximum
        # The client gives up after two of its own intervals without a word, PINGRESP included: 1.5 of the one that was asked for.
        interval = max(1, int(broker.keepalive * 0.75))
        clean = self.session.expiry == 0 if broker.version == 5 else paho.MQTT_CLEAN_START_FIRST_ONLY
        client.connect(broker.host, broker.port, interval, clean_start=clean, properties=properties)

    def _once(self) -> bool:
        """Wait for the network, move what can be moved; return whether the connection goes on."""
        self._beat = time.monotonic()
        client = self.client
        wire: Any = client.socket()
        if wire is None or self._again or self._stop.is_set():
            return False
        read, write = self._room(), client.want_write() or wire.waiting
        pending = read and wire.pending
        mine = [wire] if read else []
        readable, _, _ = select.select([*mine, self._wake_read], [wire] if write else [], [], 0 if pending else _TICK)
        if self._wake_read in readable:
            with suppress(BlockingIOError):
                self._wake_read.recv(4096)
        if pending or wire in readable:
            wire.fill()
            for message in wire.packets(self.broker.version):
                if message is None:
                    client.loop_read()
                else:
                    self._on_message(message)
                if not self._room():
                    break
        self._tick()
        self._send_acks(wire)
        if client.want_write():
            client.loop_write()
        wire.flush()
        client.loop_misc()
        return True

    def _send_acks(self, wire: Wire) -> None:
        numbers: list[int] = []
        while self._acks:
            token = self._acks.popleft()
            if token.connection == self.connection and token.message:
                numbers.append(token.message)
        wire.acknowledge(numbers)

    def _drop(self) -> None:
        """Close the socket without a word: the broker keeps the session."""
        lost = self.connected
        self.connected = False
        wire: Any = self.client.socket()
        if wire is not None and not self._stop.is_set():
            wire.shutdown()
        if lost and not self._stop.is_set():
            log.warning("the connection to %s is lost", self.broker.place)

    def _pause(self, attempt: int) -> None:
        """Wait before the next attempt, longer each time, and until what comes can be taken."""
        end = time.monotonic() + min(_LONGEST, 0.1 * 2 ** min(attempt, 10)) * random.uniform(0.5, 1.0)  # noqa: S311 - to spread clients
        while not self._stop.is_set() and (time.monotonic() < end or not self._ready()):
            self._beat = time.monotonic()
            self._tick()
            self._stop.wait(min(_TICK, max(0.01, end - time.monotonic())))

    def _leave(self) -> None:
        wire: Any = self.client.socket()
        if wire is not None:
            self._send_acks(wire)
            self.client.loop_write()
            wire.leave(_PARTING)
        self.connected = False

    def _forget(self) -> None:
        """Close the socket: the client does so by itself only when it connects again."""
        sock: Any = self.client.socket()
        if sock is not None:
            sock.close()

    def _refuse(self, expected: str, found: str, mend: str) -> None:
        """Keep why an attempt failed; the first ends the start."""
        self.failures += 1
        if not self._settled.is_set():
            self._problem = (expected, found, mend)
            self._stop.set()
            self._settled.set()
        else:
            log.warning("%s: expected %s, found %s", self.broker.place, expected, found)

    def _on_connect(self, _client: Any, _data: Any, flags: paho.ConnectFlags, reason: ReasonCode, _properties: Any) -> None:
        if reason.is_failure:
            text = str(reason)
            mend = "Mend user and password, token, or client certificate." if text in _DENIED else "See the broker's log."
            self._refuse("to be let in", f"the broker's refusal: {text}", mend)
            self._again = True
            return
        self.connected = True
        first = not self._settled.is_set()
        if self.session.subscription and (first or not flags.session_present):
            if self.broker.version == 5:
                wanted = SubscribeOptions(qos=self.broker.qos, retainHandling=SubscribeOptions.RETAIN_SEND_IF_NEW_SUB)
                self.client.subscribe(self.session.subscription, options=wanted)
            else:
                self.client.subscribe(self.session.subscription, self.broker.qos)
        else:
            self._settled.set()

    def _on_subscribe(self, _client: Any, _data: Any, _mid: int, reasons: list[ReasonCode], _properties: Any) -> None:
        if self._subscribed:
            return
        granted = reasons[0]
        if granted.is_failure or granted.value < self.broker.qos:
            found = f"the broker's answer: {granted}"
            self._refuse(f"a subscription to {self.session.subscription} with QoS {self.broker.qos}", found, "Ask for rights to the topic.")
            self._again = True
            return
        self._subscribed = True
        self._settled.set()
        if self.session.watched:
            self.client.subscribe(self.session.watched, 0)

    def _on_message(self, message: Message) -> None:
        if self._again:
            return  # not taken and not acknowledged: it comes again
        try:
            if self._take is not None:
                self._take(message, self.connection)
        except Exception:  # what is raised here would end the network's thread
            self.errors += 1
            self._again = True
            log.exception("a message from %s is not taken", self.broker.place)
