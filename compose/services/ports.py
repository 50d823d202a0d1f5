"""Loopback ports."""

from __future__ import annotations

import random
import socket
from contextlib import ExitStack


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on.

    They are below the range that the system gives to outgoing connections (32768 and up): there, a client that tries again and again
    while its server is down can connect to itself, and any client can take the port before the server is back.
    """
    with ExitStack() as held:
        found: list[int] = []
        while len(found) < count:
            probe = held.enter_context(socket.socket())
            try:
                probe.bind(("127.0.0.1", random.SystemRandom().randrange(20000, 32000)))
            except OSError:
                continue
            found.append(probe.getsockname()[1])
        return found


def listening(port: int) -> bool:
    """Whether a server accepts connections on a loopback port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
