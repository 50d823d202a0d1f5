"""A worker and a delivery in this process, on a real Kafka."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("aiokafka")

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from bench.fleet_of_one_channel import twin
from streams.kafka.client import Kafka
from streams.kafka.dead import Dead, dead_letters, settle
from streams.kafka.faust_runtime import FaustRuntime
from streams.kafka.runtime import AiokafkaRuntime
from streams.kafka.store import Fenced, SnapshotStore
from streams.kafka.topics import Names, ensure
from streams.kafka.updates import Updates
from streams.update_codec import encode_update
from twin_engine.delivery import Delivery
from twin_engine.detect import Level
from twin_engine.errors import InputError, SinkError, SnapshotError
from twin_engine.metrics import Metrics
from twin_engine.records import Update
from twin_engine.testing.fakes import ListSink
from twin_engine.twin import Twin
from twin_engine.worker import Worker, WorkerConfig

T0 = 1_700_000_000


RUNTIMES: list[Any] = [AiokafkaRuntime, FaustRuntime]


def worker_of(bootstrap: str, app: str, definition: Twin = twin, kind: Any = AiokafkaRuntime) -> Worker:
    settings = WorkerConfig(app, f"{app}.in", ["a", "b"], "json", snapshot_every=0.2)
    return Worker(definition, Kafka(bootstrap), settings, lambda: kind(Kafka(bootstrap), f"{app}.in", app))


async def until(done: Callable[[], bool], task: asyncio.Task[Any] | None = None) -> None:
    for _ in range(1200):
        if done():
            return
        if task is not None and task.done():
            await task
        await asyncio.sleep(0.05)
    raise TimeoutError


async def send(bootstrap: str, topic: str, messages: list[tuple[bytes, bytes]], partition: int = 0) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
    await producer.start()
    for key, value in messages:
        await producer.send(topic, value, key=key, partition=partition)
    await producer.stop()


def samples(lo: int, hi: int) -> list[tuple[bytes, bytes]]:
    return [(b"a", json.dumps({"ts": T0 + k / 2, "value": float(k % 5)}).encode()) for k in range(lo, hi)]


async def at_work(kafka: str, unique: str) -> tuple[Worker, asyncio.Task[None]]:
    """Return a worker, and its task, that has taken a hundred samples."""
    await ensure(Kafka(kafka), {f"{unique}.in": {}}, 1)
    worker = worker_of(kafka, unique)
    working = asyncio.create_task(worker.run())
    await send(kafka, f"{unique}.in", samples(0, 100))
    await until(lambda: worker.stats.records == 100, working)
    return worker, working


async def stopped(worker: Worker | Delivery, task: asyncio.Task[None]) -> None:
    worker.stop()
    await asyncio.wait_for(task, 60)


def test_rejects_go_to_the_dead_topic_with_their_reasons_and_the_rest_is_untouched(kafka: str, unique: str) -> None:
    async def main() -> None:
        await ensure(Kafka(kafka), {f"{unique}.in": {}}, 1)
        worker = worker_of(kafka, unique)
        task = asyncio.create_task(worker.run())
        bad = [(b"a", b"{"), (b"a", b"\xff\xfe"), (b"a", b'{"ts": "soon", "value": 1}')]
        await send(kafka, f"{unique}.in", [*samples(0, 20), *bad, *samples(20, 40)])
        await until(lambda: worker.stats.records == 43, task)
        assert (worker.stats.samples, sum(worker.stats.rejects.values())) == (40, 3)
        await stopped(worker, task)
        reader = AIOKafkaConsumer(Names(unique, "one").of("dead"), bootstrap_servers=kafka, auto_offset_reset="earliest")
        await reader.start()
        found = [await asyncio.wait_for(reader.getone(), 20) for _ in bad]
        await reader.stop()
        assert [m.value for m in found] == [value for _, value in bad]
        assert [json.loads(dict(m.headers)["reason"]) for m in found] == ["malformed", "not_utf8", "malformed"]
        assert [json.loads(dict(m.headers)["position"]) for m in found] == [20, 21, 22]

    asyncio.run(main())


def test_dead_letters_are_looked_at_and_sent_again_once(kafka: str, unique: str) -> None:
    topic, source = Names(unique, "one").of("dead"), f"{unique}.in"

    async def letters() -> list[Dead]:
        return [one async for one in dead_letters(Kafka(kafka), topic, f"{unique}.dead")]

    async def main() -> None:
        await ensure(Kafka(kafka), {source: {}}, 1)
        worker = worker_of(kafka, unique)
        task = asyncio.create_task(worker.run())
        await send(kafka, source, [*samples(0, 5), (b"a", b'{"ts": 1700000100, "value": "x"}'), (b"b", b"{")])
        await until(lambda: sum(worker.stats.rejects.values()) == 2, task)
        await until(lambda: worker.shards[0].saved == 7, task)
        found = await letters()
        assert [(d.asset, d.position) for d in found] == [("a", 5), ("b", 6)]
        await settle(Kafka(kafka), found, [], source, topic, f"{unique}.dead")
        await until(lambda: sum(worker.stats.rejects.values()) == 4, task)
        await stopped(worker, task)
        again = await letters()
        assert [(d.asset, d.raw) for d in again] == [(d.asset, d.raw) for d in found]
        assert min(d.position for d in again) > 6
        await settle(Kafka(kafka), again[:1], again[1:], None, topic, f"{unique}.dead")
        [kept] = await letters()
        assert kept == dataclasses.replace(again[1], place=kept.place)
        await settle(Kafka(kafka), [kept], [], None, topic, f"{unique}.dead")
        assert not await letters()

    asyncio.run(main())


def test_a_sink_that_is_down_is_waited_for_and_then_gets_everything_in_order(kafka: str, unique: str, tmp_path: Path) -> None:
    class Flaky(ListSink):
        down = 3

        def flush(self) -> Any:
            if self.updates and self.down:
                self.down -= 1
                raise SinkError("flaky", expected="to be up", found="down", mend="Wait.")
            return super().flush()

    async def main() -> None:
        worker, working = await at_work(kafka, unique)
        sink = Flaky()
        updates = Updates(Kafka(kafka), Names(unique, "one").of("updates"), f"{unique}.sink")
        delivery = Delivery(updates, sink, state=tmp_path / "position.json", retry=0.05)
        task = asyncio.create_task(delivery.run())
        await until(lambda: any(name == "sink_behind" and value for name, _, _, value in delivery.figures()), task)
        await until(lambda: delivery.stats.updates == worker.stats.updates, task)
        assert delivery.stats.failures == 3
        assert [value for name, _, _, value in delivery.figures() if name == "sink_behind"] == [0]
        await stopped(delivery, task)
        await stopped(worker, working)
        starts = [int(u.outputs["level.level" if "level.level" in u.outputs else next(iter(u.outputs))].start[0]) for u in sink.updates]
        assert starts == sorted(set(starts))

    asyncio.run(main())


def test_a_delivery_whose_client_falls_silent_reads_on_with_another(kafka: str, unique: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def silent(**_: object) -> dict[Any, Any]:
        await asyncio.sleep(0.01)
        return {}

    async def main() -> None:
        worker, working = await at_work(kafka, unique)
        updates, sink = Updates(Kafka(kafka), Names(unique, "one").of("updates"), f"{unique}.sink", patience=0.6), ListSink()
        delivery = Delivery(updates, sink, retry=0.05)
        task = asyncio.create_task(delivery.run())
        await until(lambda: 0 < delivery.stats.updates == worker.stats.updates, task)
        first, sent = updates._opened(), 100
        monkeypatch.setattr(first, "getmany", silent)
        async with asyncio.timeout(60):
            while updates._consumer is first:
                await send(kafka, f"{unique}.in", samples(sent, sent + 1))
                sent += 1
        await until(lambda: worker.stats.records == sent and delivery.stats.updates == worker.stats.updates, task)
        await stopped(delivery, task)
        await stopped(worker, working)
        ends = [update.until for update in sink.updates]
        assert ends == sorted(ends)

    asyncio.run(main())


def test_partitions_of_a_delivery_move_after_what_is_being_written(kafka: str, unique: str) -> None:
    class Slow(ListSink):
        def __init__(self) -> None:
            super().__init__()
            self.begun, self.goes_on = threading.Event(), threading.Event()

        def flush(self) -> Any:
            if self.updates:
                self.begun.set()
                assert self.goes_on.wait(60)
            return super().flush()

    async def say(lo: int, hi: int) -> None:
        for partition in range(2):
            messages = [(b"", encode_update(Update("t", [], {}, {}, until=k), ())) for k in range(lo, hi)]
            await send(kafka, unique, messages, partition)

    def both(sinks: list[Any]) -> list[int]:
        return sorted(update.until for sink in sinks for update in sink.updates)

    async def main() -> None:
        await ensure(Kafka(kafka), {unique: {}}, 2)
        await say(0, 50)
        sinks = [Slow(), Slow()]
        sinks[1].goes_on.set()
        updates = [Updates(Kafka(kafka), unique, f"{unique}.sink") for _ in sinks]
        one, other = (Delivery(u, sink) for u, sink in zip(updates, sinks, strict=True))
        tasks = [asyncio.create_task(one.run())]
        await until(sinks[0].begun.is_set, tasks[0])
        tasks.append(asyncio.create_task(other.run()))
        await until(lambda: bool(updates[0].busy._waiters), tasks[0])  # the first is to let go of its partitions
        sinks[0].goes_on.set()
        await until(lambda: [len(u.mine) for u in updates] == [1, 1], tasks[1])
        await say(50, 80)
        await until(lambda: len(both(sinks)) >= 160, tasks[0])
        assert all(len(sink.updates) >= 30 for sink in sinks)
        await stopped(other, tasks[1])
        await until(lambda: len(updates[0].mine) == 2, tasks[0])
        await say(80, 100)
        await until(lambda: len(both(sinks)) >= 200, tasks[0])
        await stopped(one, tasks[0])
        assert both(sinks) == sorted([*range(100)] * 2)

    asyncio.run(main())


def test_a_worker_that_was_taken_over_cannot_save(kafka: str, unique: str) -> None:
    async def main() -> None:
        await ensure(Kafka(kafka), {"s" + unique: {"cleanup.policy": "compact"}, "i" + unique: {}}, 1)
        await send(kafka, "i" + unique, samples(0, 10))
        first, second = (SnapshotStore(Kafka(kafka), "s" + unique, unique, 0, group=unique, source="i" + unique) for _ in range(2))
        assert await first.open() is None
        await first.save(b"x" * 1_200_000, 7, {"n": 1})
        manifest, data = await second.open() or pytest.fail("no snapshot")
        assert (manifest.offset, manifest.chunks, len(data)) == (7, 3, 1_200_000)
        with pytest.raises(Fenced):
            await first.save(b"old", 9, {})
        await second.save(b"new", 8, {})
        await first.close()
        await second.close()
        manifest, data = await first.open() or pytest.fail("no snapshot")
        assert (manifest.offset, data) == (8, b"new")
        await first.close()

    asyncio.run(main())


@pytest.mark.parametrize("kind", RUNTIMES)
def test_an_older_definition_and_another_number_of_partitions_are_refused(kafka: str, unique: str, kind: Any) -> None:
    newer = Twin(twin.name, twin.hop, twin.streams, twin.stages, show=twin.show, version=2)

    async def main() -> None:
        await ensure(Kafka(kafka), {f"{unique}.in": {}}, 1)
        worker = worker_of(kafka, unique, newer)
        task = asyncio.create_task(worker.run())
        await send(kafka, f"{unique}.in", samples(0, 10))
        await until(lambda: worker.stats.records == 10, task)
        await stopped(worker, task)
        with pytest.raises(SnapshotError, match="version 2 or newer"):
            await asyncio.wait_for(worker_of(kafka, unique, kind=kind).run(), 60)  # though nothing comes
        with pytest.raises(InputError, match="migrate"):
            await ensure(Kafka(kafka), {Names(unique, "one").of("updates"): {}}, 3)

    asyncio.run(main())


@pytest.mark.parametrize("kind", RUNTIMES)
def test_a_worker_is_ready_when_it_has_its_fleets_though_nothing_comes(kafka: str, unique: str, kind: Any) -> None:
    async def main() -> None:
        await ensure(Kafka(kafka), {f"{unique}.in": {}}, 2)
        worker = worker_of(kafka, unique, kind=kind)
        assert worker.ready
        task = asyncio.create_task(worker.run())
        await until(lambda: not worker.ready, task)
        assert worker.shards.keys() == {0, 1}
        await stopped(worker, task)

    asyncio.run(main())


def test_assets_that_are_not_configured_and_stages_that_begin_anew_are_told_once(
    kafka: str, unique: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        await ensure(Kafka(kafka), {f"{unique}.in": {}}, 1)
        for definition in (twin, dataclasses.replace(twin, stages={**twin.stages, "level": Level("s", memory="30 s")})):
            worker = worker_of(kafka, unique, definition)
            task = asyncio.create_task(worker.run())
            for _ in range(2):
                had = worker.stats.records
                await send(kafka, f"{unique}.in", [*samples(0, 5), (b"stranger", b'{"ts": 1700000000, "value": 1}')])
                await until(lambda w=worker, n=had + 6: w.stats.records >= n, task)
            await stopped(worker, task)

    with caplog.at_level(logging.WARNING):
        asyncio.run(main())
    told = [record.getMessage() for record in caplog.records if record.name == "twin_engine.worker"]
    assert [text.split(" is not")[0] for text in told if "configured" in text] == ["asset stranger"] * 2
    assert [text for text in told if "begun anew: level" in text]


def test_a_service_tells_how_it_stands(kafka: str, unique: str) -> None:
    def get(address: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(address, timeout=10) as answer:  # noqa: S310 - loopback
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    async def main() -> None:
        await ensure(Kafka(kafka), {f"{unique}.in": {}}, 1)
        worker = worker_of(kafka, unique)
        metrics = Metrics(worker)
        assert (await asyncio.to_thread(get, f"{metrics.address}/readyz"))[0] == 503
        task = asyncio.create_task(worker.run())
        await send(kafka, f"{unique}.in", [*samples(0, 10), (b"a", b"?")])
        await until(lambda: worker.stats.records == 11, task)
        assert await asyncio.to_thread(get, f"{metrics.address}/readyz") == (200, "ok\n")
        assert await asyncio.to_thread(get, f"{metrics.address}/livez") == (200, "ok\n")
        text = (await asyncio.to_thread(get, f"{metrics.address}/metrics"))[1]
        assert 'twin_engine_records_total{twin="one"} 11.0' in text
        assert 'twin_engine_rejects_total{reason="malformed",twin="one"} 1.0' in text
        assert 'twin_engine_lag_records{partition="0",twin="one"} 0.0' in text
        assert (await asyncio.to_thread(get, f"{metrics.address}/"))[0] == 404
        await stopped(worker, task)
        metrics.close()

    asyncio.run(main())
