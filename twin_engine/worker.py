"""A worker of the streaming service: partitions of a twin's input from Kafka, outputs and snapshots back to it.

The order is that of the run loop: outputs are acknowledged by the brokers, then the snapshot is saved together with the input position.
What fails is begun again from the newest snapshot: outputs made twice have the same ids and values.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from streams.codecs import open_codec
from streams.kafka.client import Kafka, KafkaFailure
from streams.kafka.outputs import Outputs
from streams.kafka.runtime import Runtime
from streams.kafka.store import Fenced, SnapshotStore
from streams.kafka.topics import Names, ensure, partition_of, partitions
from streams.kafka.watch import Watch
from twin_engine.errors import InputError
from twin_engine.metrics import Figure
from twin_engine.partition import Partition, Taken
from twin_engine.records import Codec, Reason, Record
from twin_engine.rehearsal import rehearse
from twin_engine.snapshot import unpack
from twin_engine.twin import Twin

SNAPSHOT_SHARE = 20  # snapshots of a partition are spaced by at least so many times what the last one held the fleet up
QUICK = 0.02  # processor seconds of a step that is not worth a thread: handing it over and back costs 2 ms, and much of it holds the GIL
STUCK = 60.0  # seconds without a turn after which a worker is not alive
RETRY = 1.0  # seconds between attempts when the cluster does not answer
YOUNG = 50_000  # objects more than before at which the collector looks: records come and go by thousands, and none is in a cycle
log = logging.getLogger("twin_engine.worker")


@dataclass(frozen=True)
class WorkerConfig:
    """What a worker does.

    assets: all of the twin, over all partitions. codec, pattern, options: of the input (see ``streams.codecs.open_codec``; the subject is
    the record's key). snapshot_every: seconds. retention: hours that outputs stay in Kafka. replication: of the topics it makes.
    partitioner: of those who produce the input (see ``partition_of``).
    """

    app: str
    topic: str
    assets: Sequence[str]
    codec: str = "arrow"
    pattern: str = "{asset}"
    options: Mapping[str, str] = field(default_factory=dict[str, str])
    snapshot_every: float = 10.0
    retention: float = 24.0
    replication: int = 1
    partitioner: str = "murmur2"


@dataclass
class WorkerStats:
    """What a worker has done since its start.

    hops: seconds spent, by hop: ``input`` (broker to worker), ``step``, ``send``, summed over batches. latency: of the newest batch, from
    the broker's time to its outputs being sent. behind: records left, by partition.
    """

    records: int = 0
    samples: int = 0
    updates: int = 0
    events: int = 0
    batches: int = 0
    rejects: Counter[str] = field(default_factory=Counter[str])
    restarts: int = 0
    fenced: int = 0
    latency: float = 0.0
    hops: dict[str, float] = field(default_factory=lambda: {"input": 0.0, "step": 0.0, "send": 0.0})
    behind: dict[int, int] = field(default_factory=dict[int, int])
    snapshot_seconds: float = 0.0
    snapshot_bytes: int = 0


@dataclass
class _Shard:
    """A partition that this worker has. due: when it is saved next (monotonic)."""

    partition: Partition
    store: SnapshotStore
    due: float
    saved: int  # offset in the newest snapshot
    saved_at: float
    saving: asyncio.Task[None] | None = None
    whole: bool = True  # all that the fleet gave was sent: only then may it be saved
    took: float = QUICK  # processor seconds a record, of the newest batch
    strange: int = 0  # samples of assets that the fleet does not have


def _stepped(partition: Partition, records: Sequence[Record]) -> tuple[Taken, float]:
    """Step a partition's fleet; return what it gives and the processor seconds it took."""
    begin = time.thread_time()
    return partition.take(records), time.thread_time() - begin


class Worker:
    """Drives partitions of a twin: the handler of both runtimes."""

    def __init__(self, twin: Twin, kafka: Kafka, config: WorkerConfig, runtime: Callable[[], Runtime]) -> None:
        self.twin, self.config, self.stats = twin, config, WorkerStats()
        self._kafka, self._make_runtime = kafka, runtime
        self._names = Names(config.app, twin.name)
        self._partitions = 0
        self.shards: dict[int, _Shard] = {}
        self._mine, self._told = set(config.assets), set[str]()  # assets; those that were told to be strange
        self._outputs = Outputs(kafka, self._names, tuple(twin.show))
        self._runtime: Runtime | None = None
        self._watching: asyncio.Task[None] | None = None
        self._stopped = False
        self._connected = False
        self._waits = "compiles kernels"
        self._turned = time.monotonic()

    def stop(self) -> None:
        """Save everything and end."""
        self._stopped = True
        if self._runtime is not None:
            self._runtime.stop()

    @property
    def ready(self) -> str:
        """As ``metrics.Observed``: it is ready with the fleets of all partitions that the group has given it."""
        if not self._connected or self._runtime is None:
            return self._waits
        if self._runtime.given is None:
            return "waits for its partitions"
        return "restores its partitions" if set(self._runtime.given) - self.shards.keys() else ""

    @property
    def alive(self) -> str:
        """As ``metrics.Observed``."""
        still = time.monotonic() - self._turned
        return f"no turn for {still:.0f} s" if self._connected and still > STUCK else ""

    def figures(self) -> Iterator[Figure]:
        """As ``metrics.Observed``."""
        stats, now, twin = self.stats, time.monotonic(), {"twin": self.twin.name}
        for name, value in (("records", stats.records), ("samples", stats.samples), ("updates", stats.updates), ("events", stats.events)):
            yield f"{name}_total", f"{name} since the start", twin, value
        for reason, n in list(stats.rejects.items()):
            yield "rejects_total", "messages that went to the dead letter", {**twin, "reason": reason}, n
        yield "restarts_total", "times that everything was begun again from snapshots", twin, stats.restarts
        yield "fenced_total", "partitions lost to another worker", twin, stats.fenced
        yield "latency_seconds", "of the newest batch, from the broker's time to its outputs being sent", twin, stats.latency
        for hop, spent in stats.hops.items():
            yield "hop_seconds_total", "seconds of batches in each hop", {**twin, "hop": hop}, spent
        yield "batches_total", "batches", twin, stats.batches
        yield "snapshot_bytes", "of the newest snapshot", twin, stats.snapshot_bytes
        yield "snapshot_seconds", "that the newest snapshot took", twin, stats.snapshot_seconds
        dropped: dict[str, int] = {}
        for number, shard in list(self.shards.items()):
            place = {**twin, "partition": str(number)}
            yield "lag_records", "records behind the end of the partition", place, stats.behind.get(number, 0)
            unsaved = shard.partition.offset != shard.saved
            yield "snapshot_age_seconds", "since the partition was saved (0: nothing came since)", place, unsaved * (now - shard.saved_at)
            yield "assets", "assets of the partition", place, len(shard.partition.engine.assets)
            for reason, n in shard.partition.engine.telemetry.dropped.items():
                dropped[reason] = dropped.get(reason, 0) + n
        for reason, n in dropped.items():
            yield "dropped_samples", "samples dropped or masked, kept in snapshots", {**twin, "reason": reason}, n

    async def run(self) -> None:
        """Work until ``stop``. While the cluster does not answer, try again; raises InputError where it never has."""
        await asyncio.to_thread(rehearse, self.twin)
        self._waits = "not connected to Kafka"
        self._partitions = await partitions(self._kafka, self.config.topic)
        if not self._partitions:
            raise InputError(f"topic {self.config.topic}", expected="the input topic", found="none", mend="Create it, or check its name.")
        configs = self._names.configs(int(self.config.retention * 3_600_000))
        await ensure(self._kafka, configs, self._partitions, self.config.replication)
        while not self._stopped:
            try:
                await self._session()
            except (KafkaFailure, OSError, Fenced) as error:
                log.warning("beginning again from the newest snapshots: %s: %s", type(error).__name__, error)
                self.stats.restarts += 1
                await asyncio.sleep(RETRY)

    async def _session(self) -> None:
        """Work until ``stop`` or a failure; nothing of it is left after."""
        self._outputs, self._runtime = Outputs(self._kafka, self._names, tuple(self.twin.show)), self._make_runtime()
        if self._stopped:
            return
        try:
            now = await partitions(self._kafka, self.config.topic)
        except InputError as error:  # it was there at the start: it is waited for
            raise KafkaFailure(str(error)) from error
        if now != self._partitions:
            raise InputError(
                f"topic {self.config.topic}", expected=f"{self._partitions} partitions, as at the start", found=str(now),
                mend="Assets would change places: let the workers end, and run twin-engine migrate.",
            )  # fmt: skip
        self._watching = asyncio.create_task(Watch(self._kafka, self.config.topic, self._offsets).run())
        try:
            await self._outputs.open()
            self._connected, self._turned = True, time.monotonic()
            await self._runtime.run(self)
        finally:
            self._connected = False
            self._watching.cancel()
            await asyncio.wait([self._watching])
            for number in list(self.shards):
                await self._drop(number)
            gc.unfreeze()
            await self._outputs.close()

    def _offsets(self) -> dict[int, int]:
        return {number: shard.partition.offset for number, shard in self.shards.items() if shard.whole}  # the rest is at work

    def _assets(self, number: int) -> list[str]:
        return [asset for asset in self.config.assets if partition_of(asset, self._partitions, self.config.partitioner) == number]

    def _codec(self) -> Codec:
        return open_codec(self.config.codec, self.config.pattern, self.config.options)

    async def assigned(self, partitions: Sequence[int]) -> dict[int, int]:
        """Build each partition's fleet from its newest snapshot."""
        opened = await asyncio.gather(*(self._open(n) for n in partitions if n not in self.shards), return_exceptions=True)
        for failure in opened:
            if failure is not None:
                raise failure
        gc.collect()
        gc.set_threshold(YOUNG, *gc.get_threshold()[1:])
        gc.freeze()  # the collector's passes over a fleet of thousands take a tenth of a second, and free nothing
        return {number: self.shards[number].partition.offset for number in partitions}

    async def _open(self, number: int) -> None:
        config, topic = self.config, self._names.of("snapshots")
        store = SnapshotStore(self._kafka, topic, f"{config.app}-{self.twin.name}", number, group=config.app, source=config.topic)
        try:
            found = await store.open()
            snapshot = unpack(found[1], f"snapshot of partition {number} in {topic}") if found else None
            partition = await asyncio.to_thread(
                Partition, self.twin, self._assets(number), self._codec(), snapshot, number, self._partitions
            )
        except BaseException:
            await store.close()
            raise
        share = config.snapshot_every * (1 + number / self._partitions)  # staggered
        now = time.monotonic()
        strange = partition.engine.telemetry.dropped[Reason.UNKNOWN_ASSET]
        self.shards[number] = _Shard(partition, store, now + share, partition.offset, now, strange=strange)
        log.info("partition %d: %d assets, from offset %d", number, len(partition.engine.assets), partition.offset)
        if partition.engine.fresh:
            stages = ", ".join(partition.engine.fresh)
            log.warning(
                "partition %d: not defined as in the snapshot, so begun anew: %s. Unless the twin's version is raised too, a worker "
                "with the old definition can take the partition back",
                number, stages,
            )  # fmt: skip

    async def revoked(self, partitions: Sequence[int]) -> None:
        """Save what can be saved, and let go: the newest whole snapshot is the truth."""
        for number in partitions:
            if number in self.shards:
                shard = self.shards[number]
                try:
                    await self._saved(shard)
                    await self._save(shard)
                    await self._saved(shard)
                except (Fenced, KafkaFailure, OSError) as error:
                    log.warning("partition %d let go without a snapshot: %s", number, error)
                finally:
                    await self._drop(number)

    async def _drop(self, number: int) -> None:
        shard = self.shards.pop(number)
        self.stats.behind.pop(number, None)
        if shard.saving is not None:
            shard.saving.cancel()
            await asyncio.wait([shard.saving], timeout=RETRY)
        try:
            await shard.store.close()
        except (KafkaFailure, OSError) as error:
            log.warning("partition %d: %s", number, error)

    async def take(self, partition: int, records: Sequence[Record], behind: int) -> None:
        """Step a partition's fleet and send what it gives."""
        shard, stats = self.shards.get(partition), self.stats
        if shard is None:
            return
        came = time.time()
        shard.whole = False
        quick = shard.took * len(records) < QUICK
        taken, took = _stepped(shard.partition, records) if quick else await asyncio.to_thread(_stepped, shard.partition, records)
        shard.took = took / len(records)
        stepped = time.time()
        await self._send(partition, taken)
        shard.whole = True
        self._warn(partition, shard)
        sent, newest = time.time(), records[-1].arrival / 1e9
        stats.records += taken.records
        stats.samples += taken.samples
        stats.batches += 1
        stats.behind[partition] = behind
        stats.latency = sent - newest
        for hop, spent in (("input", max(0.0, came - newest)), ("step", stepped - came), ("send", sent - stepped)):
            stats.hops[hop] += spent

    def _warn(self, number: int, shard: _Shard) -> None:
        """Tell of assets that are not the fleet's, or come in another partition than their names say: their samples are dropped."""
        engine = shard.partition.engine
        if (strange := engine.telemetry.dropped[Reason.UNKNOWN_ASSET]) > shard.strange:
            shard.strange = strange
            for name in [text.removeprefix("asset ") for text in engine.telemetry.unknown if text.startswith("asset ")]:
                if name in self._told or name in engine.aligner.row or name in shard.partition.removed:
                    continue
                self._told.add(name)
                if name in self._mine:
                    log.error("asset %s comes in partition %d: is the partitioner of [input] that of its producer?", name, number)
                else:
                    log.warning("asset %s is not one of those that are configured: its samples are dropped and counted", name)

    async def _send(self, number: int, taken: Taken) -> None:
        for update in taken.updates:
            await self._outputs.update(number, update)
            self.stats.updates += 1
            self.stats.events += len(update.events)
        if taken.rejects:
            await self._outputs.reject(number, taken.rejects)
            self.stats.rejects.update([reject.reason for reject in taken.rejects])

    async def tick(self) -> None:
        """Save the partitions that are due; raises what outputs failed of, Stuck, and Fenced: this worker is then to join anew."""
        self._outputs.check()
        if self._watching is not None and self._watching.done():
            self._watching.result()
        self._turned = time.monotonic()
        for number, shard in list(self.shards.items()):
            try:
                if shard.saving is not None and shard.saving.done():
                    await self._saved(shard)
                if shard.saving is None and time.monotonic() >= shard.due:
                    await self._save(shard)
            except Fenced:
                log.warning("partition %d is another worker's now", number)
                self.stats.fenced += 1
                raise

    async def _save(self, shard: _Shard) -> None:
        """Begin to save a partition as it stands; it goes on meanwhile."""
        begin, partition = time.monotonic(), shard.partition
        shard.due = begin + self.config.snapshot_every
        if partition.offset != shard.saved and shard.whole:
            data = await asyncio.to_thread(partition.pack)
            shard.due = begin + max(self.config.snapshot_every, SNAPSHOT_SHARE * (time.monotonic() - begin))
            shard.saving = asyncio.create_task(self._store(shard, data, partition.offset, begin))

    async def _store(self, shard: _Shard, data: bytes, offset: int, begin: float) -> None:
        """Have the outputs acknowledged, then save the snapshot with the input position; the fleet goes on, however long brokers take."""
        await self._outputs.flush()
        about = {"definition": self.twin.digest(), "version": self.twin.version, "partitions": self._partitions}
        await shard.store.save(data, offset, about)
        shard.saved, shard.saved_at = offset, time.monotonic()
        self.stats.snapshot_seconds, self.stats.snapshot_bytes = shard.saved_at - begin, len(data)

    async def _saved(self, shard: _Shard) -> None:
        """Wait for a save that was begun; raises what it failed of."""
        saving, shard.saving = shard.saving, None
        if saving is not None:
            await saving
