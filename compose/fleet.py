"""A simulated fleet that publishes as sensors do: ``python -m compose.fleet TWIN ASSETS --to URL``.

Each asset of ASSETS (``host-[001-020]``) is a simulator of TWIN with a seed of its own, that begins now. What it gives in a second is
published at the end of that second, to ``mqtt(s)://USER@HOST:PORT/TOPIC`` (QoS 1, TOPIC with {asset} and {channel}) or to
``kafka(s)://USER@HOST:PORT/TOPIC`` (keyed by asset). Ends on SIGTERM, when what was published is acknowledged.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import signal
import ssl
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import SplitResult, urlsplit

from streams.codecs import open_codec
from streams.kafka.client import Kafka
from twin_engine.assets import expand
from twin_engine.clock import NS
from twin_engine.loader import load
from twin_engine.records import Codec, Reading


class Way(Protocol):
    """Where messages go."""

    async def send(self, messages: Sequence[tuple[str, bytes]]) -> None:
        """Take messages, each with its subject; returns when the server has acknowledged them."""
        ...


class Mqtt:
    """A broker of MQTT."""

    def __init__(self, url: SplitResult, password: str, trust: ssl.SSLContext | None) -> None:
        import paho.mqtt.client as mqtt  # noqa: PLC0415 - of the one way only
        from paho.mqtt.enums import CallbackAPIVersion  # noqa: PLC0415

        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
        self._open, self._done = 0, asyncio.Event()
        loop = asyncio.get_running_loop()

        def published(*_: object) -> None:  # in paho's thread
            loop.call_soon_threadsafe(self._acknowledged)

        self._client.on_publish = published
        if url.username:
            self._client.username_pw_set(url.username, password)
        if trust:
            self._client.tls_set_context(trust)
        self._client.connect(url.hostname or "", url.port or (8883 if trust else 1883))
        self._client.loop_start()

    async def send(self, messages: Sequence[tuple[str, bytes]]) -> None:
        """Publish; an outage is waited out: the client keeps what is not acknowledged and sends it again."""
        self._open += len(messages)
        self._done.clear()
        for topic, payload in messages:
            self._client.publish(topic, payload, qos=1)
        if messages:
            await self._done.wait()

    def _acknowledged(self) -> None:
        self._open -= 1
        if not self._open:
            self._done.set()


class KafkaTopic:
    """A topic of Kafka."""

    def __init__(self, producer: Any, topic: str) -> None:
        self._producer, self._topic = producer, topic

    async def send(self, messages: Sequence[tuple[str, bytes]]) -> None:
        """Produce with acks=all."""
        sent = [await self._producer.send(self._topic, payload, key=key.encode()) for key, payload in messages]
        await asyncio.gather(*sent)


@contextlib.asynccontextmanager
async def _way(url: SplitResult, password: str, ca: Path | None) -> AsyncIterator[Way]:
    """Give what the address names."""
    secured = url.scheme.endswith("s")
    if url.scheme.startswith("mqtt"):
        yield Mqtt(url, password, ssl.create_default_context(cafile=ca) if secured else None)
        return
    from aiokafka import AIOKafkaProducer  # noqa: PLC0415 - of the one way only

    cluster = Kafka(f"{url.hostname}:{url.port or 9092}", url.username or "", password, tls=secured, ca=ca)
    async with AIOKafkaProducer(acks="all", **cluster.options()) as producer:
        yield KafkaTopic(producer, url.path.lstrip("/"))


def seconds(twin: str, assets: Sequence[str], start: int, parameters: dict[str, str]) -> Iterator[list[Reading]]:
    """Yield what all assets give in each second from `start` (ns UTC) on."""
    simulator = load(twin).simulator
    if simulator is None:
        raise SystemExit(f"expected a twin with a simulator, found {twin}")
    fleet = [simulator(asset, start=start, seed=number, **parameters).blocks(0) for number, asset in enumerate(assets)]
    while True:
        yield [reading for blocks in fleet for reading in next(blocks)]


async def publish(fleet: Iterator[list[Reading]], codec: Codec, to: Way, start: int) -> None:
    """Publish each second's readings when the second is over."""
    for second, readings in zip(itertools.count(1), fleet, strict=False):
        await asyncio.sleep(max(0.0, start / NS + second - time.time()))
        await to.send([message for reading in readings for message in codec.encode(reading)])


async def main() -> None:
    """Run until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m compose.fleet", description="A simulated fleet that publishes as sensors do.")
    parser.add_argument("twin")
    parser.add_argument("assets")
    parser.add_argument("--to", required=True, metavar="URL")
    parser.add_argument("--codec", default="json")
    parser.add_argument("--password-file", type=Path)
    parser.add_argument("--ca", type=Path, help="the certificate of the authority that signed the server's")
    parser.add_argument(
        "--with", dest="parameters", action="append", default=[], metavar="NAME=VALUE", help="a parameter of the simulators"
    )
    given = parser.parse_args()
    url = urlsplit(given.to)
    password = given.password_file.read_text().strip() if given.password_file else ""
    codec = open_codec(given.codec, url.path.lstrip("/") if url.scheme.startswith("mqtt") else "{asset}")
    parameters = dict(entry.split("=", 1) for entry in given.parameters)
    start = (time.time_ns() // NS) * NS
    fleet = seconds(given.twin, expand([given.assets]), start, parameters)
    async with _way(url, password, given.ca) as to:
        running = asyncio.ensure_future(publish(fleet, codec, to, start))
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await running


if __name__ == "__main__":
    asyncio.run(main())
