"""The bytes of a connection: read in large pieces and cut into packets, so that a message costs a slice and no system call of its own.

The client library reads a packet in three calls or more, each of which gives the interpreter's lock away, and gets it back only after the
engine's turn. Here one call reads what has come; messages (PUBLISH, QoS 0 and 1) are taken apart as MQTT 3.1.1, section 3.3, and MQTT 5,
section 3.3, say, and all other packets are the library's.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any, NamedTuple

import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

_PIECE = 1 << 18  # bytes read at once
_PUBLISH, _PUBACK, _DISCONNECT = 3, b"\x40\x02", b"\xe0\0"
_MOST = 2  # what a message's QoS is below
_LATER = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Message(NamedTuple):
    """A message as it came. number: by which it is acknowledged (0: QoS 0). headers: the user's properties of MQTT 5.

    retained: it was there before the subscription.
    """

    topic: bytes
    payload: bytes
    number: int
    headers: dict[str, bytes]
    retained: bool = False


class Wire:
    """A socket, blocking or not, as the client library uses one, with our own reading in front: ``fill``, then ``packets``."""

    def __init__(self, sock: Any) -> None:
        self._sock = sock
        self._in, self._out, self._given = bytearray(), bytearray(), b""
        self._ended = self._left = False
        with suppress(OSError):  # acknowledgements are small, and must not wait for the other side's
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def fill(self) -> None:
        """Read what has come."""
        try:
            data: bytes = self._sock.recv(_PIECE)
        except _LATER:
            return
        except OSError:
            data = b""
        self._ended = not data
        self._in += data

    def packets(self, version: int) -> Iterator[Message | None]:
        """Yield each message; None for another packet, which ``recv`` then holds, and for the end.

        What a caller does not take is yielded the next time. version: the protocol's number. Raises ValueError for what is no packet.
        """
        place, self._left = 0, True
        try:
            while (body := self._body(place)) is not None:
                begin, end = body
                kind, flags = self._in[place] >> 4, self._in[place] & 15
                qos = flags >> 1 & 3
                packet, place = place, end
                if kind == _PUBLISH and qos < _MOST:
                    yield _message(bytes(self._in[begin:end]), qos, version, retained=bool(flags & 1))
                else:
                    self._given = bytes(self._in[packet:end])
                    yield None
            self._left = False
        finally:
            del self._in[:place]
        if self._ended:
            yield None

    def _body(self, place: int) -> tuple[int, int] | None:
        """Return where the packet's body begins and ends, or None where it has not all come. Raises ValueError for what is no packet."""
        length = 0
        for i in range(4):
            if place + 1 + i >= len(self._in):
                return None
            byte = self._in[place + 1 + i]
            length |= (byte & 127) << 7 * i
            if byte < 128:
                begin = place + 2 + i
                return (begin, begin + length) if begin + length <= len(self._in) else None
        raise ValueError("a packet whose length has five bytes")

    def acknowledge(self, numbers: Iterable[int]) -> None:
        """Say that these messages are safe, at the next ``flush``."""
        self._out += b"".join([_PUBACK + number.to_bytes(2, "big") for number in numbers])

    def flush(self) -> bool:
        """Write what is waiting; return whether all of it is written."""
        if self._out:
            with suppress(*_LATER):
                del self._out[: self._sock.send(self._out)]
        return not self._out

    @property
    def waiting(self) -> bool:
        """Whether something is to be written."""
        return bool(self._out)

    @property
    def pending(self) -> bool:
        """Whether something that has come lies where ``select`` does not see it."""
        return self._left or (isinstance(self._sock, ssl.SSLSocket) and self._sock.pending() > 0)

    def recv(self, most: int) -> bytes:
        """Return of the packet that is the library's; raises BlockingIOError where there is none."""
        if not self._given and not self._ended:
            raise BlockingIOError
        found, self._given = self._given[:most], self._given[most:]
        return found

    def send(self, data: bytes) -> int:
        """Take what the library writes, in order with the acknowledgements."""
        self._out += data
        return len(data)

    def fileno(self) -> int:
        """As the socket's."""
        return self._sock.fileno()

    def setblocking(self, flag: bool) -> None:
        """As the socket's."""
        self._sock.setblocking(flag)

    def shutdown(self) -> None:
        """End the connection without a word."""
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def leave(self, patience: float) -> None:
        """Write what is waiting, disconnect, and wait until the broker has hung up.

        It has then read all acknowledgements; one that has not may meet our next connection first, and sends again what we have.
        """
        with suppress(OSError):
            self._sock.settimeout(patience)
            self._sock.sendall(self._out + _DISCONNECT)
            self._out.clear()
            while self._sock.recv(_PIECE):
                pass

    def close(self) -> None:
        """Close."""
        self._sock.close()


class Client(paho.Client):
    """The library's client on a wire of ours."""

    def _create_socket(self) -> Any:
        return Wire(super()._create_socket())


def _message(body: bytes, qos: int, version: int, *, retained: bool) -> Message:
    """Return a PUBLISH, from what comes after its length. Raises ValueError or IndexError for one that is not whole."""
    place = 2 + (body[0] << 8 | body[1])
    topic, number = body[2:place], 0
    if qos:
        number = body[place] << 8 | body[place + 1]
        place += 2
    headers: dict[str, bytes] = {}
    if version == paho.MQTTv5:
        if body[place]:
            properties: Any = Properties(PacketTypes.PUBLISH)
            _, size = properties.unpack(body[place:])
            headers = {name: value.encode() for name, value in getattr(properties, "UserProperty", ())}
            place += size
        else:
            place += 1
    return Message(topic, body[place:], number, headers, retained)
