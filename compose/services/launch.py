"""Start a server by name: the first way to have it that works."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from compose.services import influx, kafka, mosquitto
from compose.services.programs import Missing, Program
from compose.services.server import Server


class Prepare(Protocol):
    """Write a server's files into its folder and say how it is started there."""

    def __call__(self, program: Program, folder: Path, *, secure: bool) -> Server:
        """Return the server, not started yet."""
        ...


@dataclass(frozen=True)
class Kind:
    """How one kind of server is had and set up."""

    ways: tuple[Callable[[], Program], ...]
    prepare: Prepare
    after: Callable[[Server], None]
    variables: tuple[str, ...]


def _nothing(server: Server) -> None:
    del server


KINDS = {
    "kafka": Kind(kafka.WAYS, kafka.prepare, _nothing, ("KAFKA_BOOTSTRAP",)),
    "mosquitto": Kind(mosquitto.WAYS, mosquitto.prepare, _nothing, ("MQTT_URL",)),
    "influx": Kind(influx.WAYS, influx.prepare, influx.set_up, ("INFLUX_URL", "INFLUX_TOKEN", "INFLUX_ORG", "INFLUX_BUCKET")),
}


def start(name: str, folder: Path, *, secure: bool = False) -> Server:
    """Start a server with its data in `folder`, which is made and must hold nothing else; ready when this returns.

    `secure`: Kafka takes SASL over TLS only; Mosquitto TLS, by password or by client certificate. `Server.facts` has what clients need.
    Missing gives the reasons of every way that was tried.
    """
    kind = KINDS[name]
    folder = folder.resolve()
    reasons: list[str] = []
    for way in kind.ways:
        try:
            program = way()
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(mode=0o700, parents=True)
            server = kind.prepare(program, folder, secure=secure).run()
            kind.after(server)
        except Missing as reason:
            reasons.append(str(reason))
        else:
            return server
    raise Missing("; ".join(reasons))
