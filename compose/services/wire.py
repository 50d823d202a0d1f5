"""As much of Kafka's protocol as it takes to ask a broker which brokers work: when it names one, it is ready for clients.

A broker listens, and says in its log that it has started, some time before its own cluster lets it work; a client that comes in between
finds no controller. https://kafka.apache.org/protocol
"""

from __future__ import annotations

import socket
import ssl
import struct

_METADATA, _HANDSHAKE, _AUTHENTICATE = (3, 4), (17, 1), (36, 0)  # number and version of a request


def brokers(address: str, user: str = "", password: str = "", ca: str = "") -> int:
    """Return how many brokers `address` (host:port) knows of; TLS with `ca`, SASL/PLAIN with `user`. Raises OSError, also when refused."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=5) as plain:
        connection = ssl.create_default_context(cafile=ca).wrap_socket(plain, server_hostname=host) if ca else plain
        with connection:
            if user:
                _accepted(_ask(connection, _HANDSHAKE, _text("PLAIN")))
                word = f"\0{user}\0{password}".encode()
                _accepted(_ask(connection, _AUTHENTICATE, struct.pack(">i", len(word)) + word))
            # No topics, and none is to be made; before the brokers comes the time that a client is asked to wait.
            answer = _ask(connection, _METADATA, struct.pack(">ib", 0, 0))
            return struct.unpack_from(">i", answer, 4)[0]


def _text(text: str) -> bytes:
    return struct.pack(">h", len(text)) + text.encode()


def _ask(connection: socket.socket, request: tuple[int, int], body: bytes) -> bytes:
    """Return the answer to a request, without its length and number."""
    message = struct.pack(">hhi", *request, 1) + _text("ready") + body
    connection.sendall(struct.pack(">i", len(message)) + message)
    (length,) = struct.unpack(">i", _take(connection, 4))
    return _take(connection, length)[4:]


def _take(connection: socket.socket, count: int) -> bytes:
    taken = b""
    while len(taken) < count:
        part = connection.recv(count - len(taken))
        if not part:
            raise ConnectionError("closed by the broker")
        taken += part
    return taken


def _accepted(answer: bytes) -> None:
    if error := struct.unpack_from(">h", answer)[0]:
        raise PermissionError(f"refused with error {error}")
