"""What fails half-way is not taken for done: a fleet whose outputs were not all sent, a sink that comes back while Kafka is away."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

pytest.importorskip("aiokafka")
pytest.importorskip("prometheus_client")

from aiokafka.producer.message_accumulator import BatchBuilder

from bench.fleet_of_one_channel import twin
from streams.codecs import open_codec
from streams.kafka.client import Kafka, KafkaFailure
from streams.kafka.rejects import Rejects
from streams.kafka.updates import Batch
from twin_engine.delivery import Delivery
from twin_engine.errors import SinkError
from twin_engine.partition import Partition
from twin_engine.records import Reason, Record, Reject, Update
from twin_engine.testing.fakes import ListSink
from twin_engine.worker import Worker, WorkerConfig, _Shard

T0 = 1_700_000_000


class Failing:
    """Outputs of which the second fails."""

    def __init__(self, fails: int) -> None:
        self.sent, self.fails = 0, fails

    async def update(self, partition: int, update: Update) -> None:
        self.sent += 1
        if self.sent == self.fails:
            raise KafkaFailure("the message is too large")

    async def flush(self) -> None: ...


class Store:
    """Counts what is saved."""

    saved = 0

    async def save(self, data: bytes, offset: int, about: dict[str, Any]) -> None:
        self.saved += 1

    async def close(self) -> None: ...


@pytest.mark.parametrize("fails", [0, 1])
def test_a_fleet_whose_outputs_were_not_all_sent_is_not_saved(fails: int) -> None:
    async def main() -> int:
        worker = Worker(twin, Kafka("none:1"), WorkerConfig("app", "in", ["a"], "json"), lambda: pytest.fail("no runtime"))
        store: Any = Store()
        outputs: Any = Failing(fails)
        worker._outputs = outputs
        worker.shards[0] = _Shard(Partition(twin, ["a"], open_codec("json", "{asset}"), None, 0, 1), store, 0.0, 0, 0.0)
        records = [Record(json.dumps({"ts": T0 + k / 2, "value": 1.0}).encode(), "a", "in", k, T0 * 10**9) for k in range(8)]
        try:
            await worker.take(0, records, 0)
        except KafkaFailure:
            assert fails
        await worker.revoked([0])
        return store.saved

    assert asyncio.run(main()) == (0 if fails else 1)


def test_a_save_that_waits_for_the_brokers_does_not_put_off_the_next_one() -> None:
    async def main() -> None:
        worker = Worker(twin, Kafka("none:1"), WorkerConfig("app", "in", ["a"], "json"), lambda: pytest.fail("no runtime"))
        answered = asyncio.Event()

        class Slow(Store):
            async def save(self, data: bytes, offset: int, about: dict[str, Any]) -> None:
                await answered.wait()

        store: Any = Slow()
        outputs: Any = Failing(0)
        worker._outputs = outputs
        worker.shards[0] = shard = _Shard(Partition(twin, ["a"], open_codec("json", "{asset}"), None, 0, 1), store, 0.0, 0, 0.0)
        await worker.take(0, [Record(b'{"ts": %d, "value": 1}' % T0, "a", "in", 0, T0 * 10**9)], 0)
        await worker._save(shard)
        due = shard.due
        answered.set()
        await worker._saved(shard)
        assert shard.saved == 1
        assert shard.due == due

    asyncio.run(main())


def test_dead_letters_that_were_cut_off_are_a_failure_that_begins_again() -> None:
    class Hanging:
        def create_batch(self) -> Any:
            return BatchBuilder(1 << 14, 0, is_transactional=False)

        async def send_batch(self, *given: Any, **options: Any) -> None:
            await asyncio.Event().wait()

    async def main() -> None:
        rejects = Rejects(Hanging(), "dead")
        await rejects.put(0, [Reject(Reason.MALFORMED, "", "", b"{")])
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(rejects.flush(), 0.01)
        assert isinstance(rejects.failure, KafkaFailure)
        await rejects.close()

    asyncio.run(main())


class Log:
    """Updates 0, 1, 2 ... in one partition; going back fails once."""

    def __init__(self, count: int) -> None:
        self.count, self.at, self.done, self.down, self.whole = count, 0, 0, 1, asyncio.Event()
        self.busy, self.mine = asyncio.Lock(), {0}

    async def open(self, offsets: object) -> None: ...

    async def batch(self) -> Batch:
        await asyncio.sleep(0)
        if self.at >= self.count:
            return Batch()
        self.at += 1
        return Batch([Update("t", [], {}, {}, until=self.at - 1)], {0: self.at})

    async def commit(self, offsets: dict[int, int]) -> None:
        self.done = offsets[0]
        if self.done == self.count:
            self.whole.set()

    async def look(self) -> None: ...

    async def back(self) -> None:
        if self.down:
            self.down -= 1
            raise KafkaFailure("no coordinator")
        self.at = self.done

    async def close(self) -> None: ...


def test_a_sink_that_comes_back_while_kafka_is_away_misses_nothing() -> None:
    class Flaky(ListSink):
        fails = 1

        def flush(self) -> Any:
            if self.fails and len(self.updates) == 2:
                self.fails -= 1
                raise SinkError("flaky", expected="to be up", found="down", mend="Wait.")
            return super().flush()

    async def main() -> list[int]:
        log: Any = Log(5)
        sink = Flaky()
        delivery = Delivery(log, sink, retry=0.001)
        task = asyncio.create_task(delivery.run())
        await log.whole.wait()
        delivery.stop()
        await task
        return [update.until for update in sink.updates]

    assert asyncio.run(asyncio.wait_for(main(), 20)) == [0, 1, 2, 3, 4]


def test_an_asset_that_comes_in_a_partition_of_another_is_told(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        worker = Worker(twin, Kafka("none:1"), WorkerConfig("app", "in", ["a", "b"], "json"), lambda: pytest.fail("no runtime"))
        store: Any = Store()
        outputs: Any = Failing(0)
        worker._outputs = outputs
        worker.shards[0] = _Shard(Partition(twin, ["a"], open_codec("json", "{asset}"), None, 0, 2), store, 0.0, 0, 0.0)
        for k, name in enumerate(["a", "b", "b", "stranger"]):
            await worker.take(0, [Record(b'{"ts": %d, "value": 1}' % (T0 + k), name, "in", k, T0 * 10**9)], 0)

    asyncio.run(main())
    assert [r.message.split()[1] for r in caplog.records if r.levelname == "ERROR"] == ["b"]  # once
