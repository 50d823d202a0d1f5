"""Dead letters are gathered, and nothing is told to be safe before the brokers have them."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

pytest.importorskip("aiokafka")

from streams.kafka import rejects
from streams.kafka.client import Kafka, KafkaFailure
from streams.kafka.dead import Dead, dead_letters
from streams.kafka.outputs import Outputs
from streams.kafka.topics import Names, ensure
from twin_engine.records import SUBJECT, Reason, Reject


class Batch:
    """Three records."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []

    def append(self, **record: Any) -> object:
        if len(self.records) == 3:
            return None
        self.records.append(record)
        return record

    def close(self) -> None:
        pass


class Producer:
    """Takes batches; answers when told."""

    def __init__(self) -> None:
        self.sent: list[tuple[Batch, str, int]] = []
        self.answers: list[asyncio.Future[Any]] = []
        self.refuses: BaseException | None = None
        self.free = asyncio.Event()
        self.free.set()
        self.came = asyncio.Event()

    def create_batch(self) -> Batch:
        return Batch()

    async def send_batch(self, batch: Batch, topic: str, *, partition: int) -> asyncio.Future[Any]:
        await self.free.wait()
        if self.refuses is not None:
            raise self.refuses
        self.sent.append((batch, topic, partition))
        self.came.set()
        self.answers.append(asyncio.get_running_loop().create_future())
        return self.answers[-1]


def reject(i: int) -> Reject:
    return Reject(Reason.MALFORMED, f"no {i}", "in", b"%d" % i, i, "a")


def sent(producer: Producer) -> list[tuple[int, list[bytes]]]:
    return [(partition, [record["value"] for record in batch.records]) for batch, _, partition in producer.sent]


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


def test_a_batch_goes_when_it_is_full_and_all_when_they_are_asked_for() -> None:
    async def work() -> None:
        producer = Producer()
        one = rejects.Rejects(producer, "dead")
        for i in range(7):
            await one.put(i % 2, [reject(i)])
        assert sent(producer) == [(0, [b"0", b"2", b"4"])]
        await one.flush()
        assert sent(producer) == [(0, [b"0", b"2", b"4"]), (1, [b"1", b"3", b"5"]), (0, [b"6"])]
        await one.put(0, [reject(7)])
        await one.close()
        assert sent(producer)[3:] == [(0, [b"7"])]

    run(work())


def test_a_batch_does_not_wait_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        producer = Producer()
        monkeypatch.setattr(rejects, "LINGER", 0.001)
        one = rejects.Rejects(producer, "dead")
        await one.put(0, [reject(0)])
        await asyncio.wait_for(producer.came.wait(), 10)
        assert sent(producer) == [(0, [b"0"])]
        await one.close()

    run(work())


def test_all_is_handed_over_only_when_what_another_sends_is_too() -> None:
    async def work() -> None:
        producer = Producer()
        one = rejects.Rejects(producer, "dead")
        await one.put(0, [reject(0)])
        producer.free.clear()
        first, second = asyncio.create_task(one.flush()), asyncio.create_task(one.flush())
        await asyncio.wait([first, second], timeout=0.01)
        assert not first.done()
        assert not second.done()
        producer.free.set()
        await asyncio.gather(first, second)
        assert sent(producer) == [(0, [b"0"])]
        await one.close()

    run(work())


@pytest.mark.parametrize("when", ["handed over", "answered", "given up"])
def test_a_batch_that_fails_is_told_for_good(when: str) -> None:
    async def work() -> None:
        producer = Producer()
        one = rejects.Rejects(producer, "dead")
        await one.put(0, [reject(0)])
        if when == "handed over":
            producer.refuses = KafkaFailure("no room")
            with pytest.raises(KafkaFailure):
                await one.flush()
        elif when == "given up":
            producer.free.clear()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(one.flush(), 0.01)
        else:
            await one.flush()
            producer.answers[0].set_exception(KafkaFailure("no leader"))
            await asyncio.sleep(0)
        assert one.failure is not None
        await one.close()

    run(work())


def test_dead_letters_are_whole_and_in_order(kafka: str, unique: str) -> None:
    async def work() -> list[Dead]:
        names, cluster = Names(unique, "t"), Kafka(kafka)
        await ensure(cluster, {names.of(what): {} for what in ("updates", "events", "dead")}, 2)
        outputs = Outputs(cluster, names, ())
        await outputs.open()
        for i in range(300):
            raw = b"x" * 900_000 if i == 150 else b"\xff%d" % i
            await outputs.reject(i % 2, [Reject(Reason.NOT_UTF8, f"\N{DEGREE SIGN} {i}", "in", raw, i, "a", {SUBJECT: b"t", "other": b""})])
        await outputs.flush()
        found = [letter async for letter in dead_letters(cluster, names.of("dead"), unique)]
        await outputs.close()
        return found

    found = asyncio.run(work())
    for partition in (0, 1):
        mine = [letter for letter in found if letter.partition == partition]
        assert [letter.position for letter in mine] == list(range(partition, 300, 2))
        assert all(letter.raw == (b"x" * 900_000 if letter.position == 150 else b"\xff%d" % letter.position) for letter in mine)
        assert {(letter.reason, letter.asset, tuple(letter.headers.items())) for letter in mine} == {("not_utf8", "a", ((SUBJECT, b"t"),))}
        assert [letter.detail for letter in mine[:2]] == [f"\N{DEGREE SIGN} {partition}", f"\N{DEGREE SIGN} {partition + 2}"]
