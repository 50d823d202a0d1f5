"""A small MQTT broker inside this process, for demonstrations: on the loopback, and only for those who know the password.

It is amqtt, which speaks MQTT 3.1.1 and some thousands of messages a second. For more, and to keep sessions over a restart, run Mosquitto.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import secrets
import socket
import threading
from dataclasses import dataclass, field
from typing import Any, Self

from amqtt.broker import Broker
from amqtt.plugins.base import BaseAuthPlugin
from amqtt.session import Session

from twin_engine.errors import InputError

_START = 10.0  # seconds


class Password(BaseAuthPlugin):
    """Lets in who has the password."""

    async def authenticate(self, *, session: Session) -> bool:
        """Return whether user and password are the right ones."""
        given = f"{session.username}\0{session.password}".encode()
        return hmac.compare_digest(given, f"{self.config.user}\0{self.config.password}".encode())

    @dataclass
    class Config:  # pyright: ignore[reportIncompatibleVariableOverride] - as amqtt's own plugins do
        """What is asked for."""

        user: str = ""
        password: str = field(default="", repr=False)


class EmbeddedBroker:
    """A broker in a thread. port: 0 takes a free one. user, password: random unless given. Use it in a ``with``."""

    def __init__(self, port: int = 0, *, user: str = "twins", password: str = "") -> None:
        self.user, self._password = user, password or secrets.token_urlsafe(18)
        self.port = port
        self._loop = asyncio.new_event_loop()
        self._up, self._down = threading.Event(), asyncio.Event()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="mqtt-broker", daemon=True)

    @property
    def password(self) -> str:
        """The password, for a variable that a client reads."""
        return self._password

    def address(self, topic: str) -> str:
        """Return the address of a topic, to which options may be added; the password is not in it."""
        return f"mqtt://{self.user}@127.0.0.1:{self.port}/{topic}?version=3.1.1"

    def start(self) -> Self:
        """Begin to listen; raises InputError where the port is taken."""
        if not self.port:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                self.port = probe.getsockname()[1]
        self._thread.start()
        if not self._up.wait(_START) or self._failure is not None:
            found = str(self._failure or f"none within {_START:g} s")
            raise InputError(f"the broker on port {self.port}", expected="it to listen", found=found, mend="Choose another port.")
        return self

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        except Exception as error:  # noqa: BLE001 - told by start
            self._failure = error
        finally:
            self._up.set()
            self._loop.close()

    async def _serve(self) -> None:
        logging.getLogger("amqtt").setLevel(logging.ERROR)  # it tells of every client
        logging.getLogger("transitions").setLevel(logging.ERROR)
        config: dict[str, Any] = {
            "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{self.port}"}},
            "plugins": {"streams.broker.Password": {"user": self.user, "password": self._password}},
        }
        broker = Broker(config)
        await broker.start()
        self._up.set()
        await self._down.wait()
        await broker.shutdown()

    def stop(self) -> None:
        """End it, connections too."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._down.set)
            self._thread.join()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
