"""Updates from Kafka into a sink: a consumer group of its own, so that a sink that is down blocks nobody.

A batch is written and flushed, then its offsets are committed. While the sink fails, the records stay in Kafka and it is opened again at
its last good position. ``state`` keeps that beside the offsets: a file is cut back to it, and a summary of an interval that is open goes
on. Without it, events and values in full are overwritten as they were, and one interval of a summary can be missing after a kill.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from streams.kafka.client import KafkaFailure
from streams.kafka.topics import unreachable
from streams.kafka.updates import Batch, Updates
from twin_engine.errors import SinkError
from twin_engine.metrics import Figure
from twin_engine.records import Position, Sink
from twin_engine.whole import write_whole

RETRY = 1.0  # seconds between attempts at a sink that fails
TOLD = 60.0  # seconds between lines of the log on it
log = logging.getLogger("twin_engine.delivery")
T = TypeVar("T")


@dataclass
class DeliveryStats:
    """What a delivery has done. latency: seconds from the arrival of the newest input to the sink's word, of the newest update."""

    updates: int = 0
    events: int = 0
    failures: int = 0
    unreadable: int = 0
    latency: float = 0.0


class _Kept(msgspec.Struct):
    offsets: dict[str, int]
    sink: Any


class Delivery:
    """One sink on the updates of a twin."""

    def __init__(self, updates: Updates, sink: Sink, *, state: Path | None = None, retry: float = RETRY) -> None:
        self.stats = DeliveryStats()
        self._updates, self._sink, self._state, self._retry = updates, sink, state, retry
        kept = msgspec.json.decode(state.read_bytes(), type=_Kept) if state and state.exists() else None
        self._position: Position = kept.sink if kept else None
        self._offsets: dict[int, int] = {int(k): v for k, v in kept.offsets.items()} if kept else {}
        self._stop = asyncio.Event()
        self._waits = "not connected to Kafka"
        self._thread = ThreadPoolExecutor(1, "sink")  # a sink lives in one thread

    def stop(self) -> None:
        """Finish the batch at hand and end."""
        self._stop.set()

    @property
    def ready(self) -> str:
        """As ``metrics.Observed``."""
        return self._waits or self._updates.waits

    @property
    def alive(self) -> str:
        """As ``metrics.Observed``: a sink that is down is waited for."""
        return ""

    def figures(self) -> Iterator[Figure]:
        """As ``metrics.Observed``."""
        stats = self.stats
        yield "delivered_updates_total", "updates that the sink has taken", {}, stats.updates
        yield "delivered_events_total", "events that the sink has taken", {}, stats.events
        yield "sink_failures_total", "times that the sink failed", {}, stats.failures
        yield "unreadable_total", "messages that were no updates", {}, stats.unreadable
        yield "delivery_latency_seconds", "from the arrival of the newest input to the sink's word", {}, stats.latency
        for partition, behind in list(self._updates.behind.items()):
            yield "sink_behind", "messages of updates that the sink has not taken", {"partition": str(partition)}, behind
        yield "sink_down", "1 while the sink is waited for", {}, float(bool(self._waits))

    async def _in_thread(self, call: Callable[..., T], *given: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call, *given)

    async def run(self) -> None:
        """Deliver until ``stop``; raises SinkError, or InputError, where sink or cluster cannot be reached at the very beginning."""
        await self._in_thread(self._sink.open, self._position)
        try:
            await self._updates.open(self._offsets)
        except (KafkaFailure, OSError) as error:
            await self._in_thread(self._sink.close)
            raise unreachable(self._updates.kafka, error) from None
        self._waits = ""
        try:
            while not self._stop.is_set():
                try:
                    await self._step()
                except KafkaFailure as error:
                    log.warning("Kafka fails: %s: %s", type(error).__name__, error)
                    await asyncio.sleep(self._retry)
        finally:
            await self._updates.close()
            await self._in_thread(self._sink.close)

    async def _step(self) -> None:
        async with self._updates.busy:
            batch = await self._updates.batch()
            if not batch.updates and not batch.unreadable:
                return
            self.stats.unreadable += batch.unreadable
            try:
                self._position = await self._in_thread(self._write, batch)
            except SinkError as error:
                log.warning("the sink fails, what it misses stays in Kafka: %s", error)
            else:
                mine = self._updates.mine | set(batch.offsets)
                self._offsets = {p: offset for p, offset in (self._offsets | batch.offsets).items() if p in mine}
                self._keep()
                await self._updates.commit(batch.offsets)
                self._count(batch)
                return
        self.stats.failures += 1
        self._waits = "the sink is down"
        await self._again()
        self._waits = ""

    def _count(self, batch: Batch) -> None:
        self.stats.updates += len(batch.updates)
        self.stats.events += sum(len(update.events) for update in batch.updates)
        if batch.updates:
            self.stats.latency = time.time() - max(update.arrival for update in batch.updates) / 1e9

    def _write(self, batch: Batch) -> Position:
        for update in batch.updates:
            self._sink.write(update)
        return self._sink.flush()

    async def _again(self) -> None:
        """Open the sink at its last good position, and go back to the records after it."""
        told = time.monotonic()
        while not self._stop.is_set():
            await asyncio.sleep(self._retry)
            try:
                await self._updates.look()
                await self._in_thread(self._reopen)
                await self._updates.back()
            except (SinkError, KafkaFailure) as error:  # both again: what comes next must follow on what the sink has
                if time.monotonic() - told >= TOLD:
                    told = time.monotonic()
                    log.warning("the sink still fails: %s", error)
            else:
                return

    def _reopen(self) -> None:
        try:
            self._sink.close()
        except SinkError:
            log.debug("closing what fails")
        self._sink.open(self._position)

    def _keep(self) -> None:
        if self._state is not None:
            write_whole(self._state, msgspec.json.encode(_Kept({str(k): v for k, v in self._offsets.items()}, self._position)))
