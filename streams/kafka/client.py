"""How a Kafka cluster is reached, the same for every client."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Awaitable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from aiokafka.errors import KafkaError as KafkaFailure

from twin_engine.errors import InputError

__all__ = ["LEAVING", "MECHANISMS", "Kafka", "KafkaFailure", "newest", "within"]

T = TypeVar("T")
AHEAD = 0.002  # seconds within which only what was fetched ahead is there
SINCE = 10  # ms that are waited for what came since
LEAVING = 30.0  # seconds that a client may take to stop
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")


@dataclass(frozen=True)
class Kafka:
    """A cluster.

    bootstrap: ``host:port,host:port``. user, password: SASL, by one of ``MECHANISMS`` (empty: none). tls: encrypted, the broker's name
    verified. ca: a file of authorities besides the system's; cert, key: the client's own, for mutual TLS.
    """

    bootstrap: str
    user: str = ""
    password: str = field(default="", repr=False)
    mechanism: str = "SCRAM-SHA-512"
    tls: bool = False
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None

    @property
    def protocol(self) -> str:
        """Kafka's name of what is spoken."""
        return ("SASL_" if self.user else "") + ("SSL" if self.tls else "PLAINTEXT")

    def context(self) -> ssl.SSLContext | None:
        """Return what TLS needs, None without it; raises InputError where a file cannot be used."""
        if not self.tls:
            return None
        try:
            context = ssl.create_default_context(cafile=self.ca)
            if self.cert:
                context.load_cert_chain(self.cert, self.key)
        except OSError as error:
            raise InputError(
                f"TLS of Kafka at {self.bootstrap}", expected="certificates in PEM files", found=str(error), mend="Check ca, cert and key."
            ) from None
        return context

    def options(self) -> dict[str, Any]:
        """Return the keyword arguments of an aiokafka client."""
        if self.user and self.mechanism not in MECHANISMS:
            raise InputError(
                f"SASL of Kafka at {self.bootstrap}", expected=" or ".join(MECHANISMS), found=self.mechanism, mend="Name one of these."
            )
        found: dict[str, Any] = {"bootstrap_servers": self.bootstrap.split(","), "security_protocol": self.protocol}
        if self.tls:
            found["ssl_context"] = self.context()
        if self.user:
            found |= {"sasl_mechanism": self.mechanism, "sasl_plain_username": self.user, "sasl_plain_password": self.password}
        return found


async def within(limit: float, work: Awaitable[T], what: str) -> T:
    """Return what is waited for; raises KafkaFailure after ``limit`` seconds: a client that was fenced may answer nothing any more.

    KafkaFailure too where the client cancels itself: aiokafka's stop lets the cancellation of its own fetches out while a broker is away.
    """
    task = asyncio.current_task()
    asked = task.cancelling() if task else 0
    try:
        return await asyncio.wait_for(work, limit)
    except TimeoutError:
        raise KafkaFailure(f"{what} took more than {limit:g} s") from None
    except asyncio.CancelledError:
        if task is None or task.cancelling() > asked:
            raise
        raise KafkaFailure(f"{what} broke off") from None


async def newest(consumer: Any, wait: int, most: int) -> dict[Any, list[Any]]:
    """Return what has come to a consumer until now, by partition; waits ``wait`` ms for the first of it.

    What it fetched ahead while the last batch was at work is as old as that work: what came since is fetched too, before a few are a batch.
    """
    begin = time.monotonic()
    found: dict[Any, list[Any]] = await consumer.getmany(timeout_ms=wait, max_records=most)
    left = most - sum(map(len, found.values()))
    if found and left > most // 2 and time.monotonic() - begin < AHEAD:
        for place, more in (await consumer.getmany(timeout_ms=SINCE, max_records=left)).items():
            found.setdefault(place, []).extend(more)
    return found


class Handed:
    """What is handed to a producer. failure: the first that any of it has failed of; it stays."""

    failure: BaseException | None = None

    async def hand(self, handing: Awaitable[asyncio.Future[Any]]) -> None:
        """Wait until the producer has taken it, not until the brokers have."""
        try:
            future = await handing
        except asyncio.CancelledError:
            self.failure = KafkaFailure("cut off on its way to the brokers")
            raise
        except BaseException as failure:
            self.failure = failure
            raise
        future.add_done_callback(self._answered)

    def _answered(self, future: asyncio.Future[Any]) -> None:
        if not future.cancelled() and (failure := future.exception()) is not None:
            self.failure = self.failure or failure
