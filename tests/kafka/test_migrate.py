"""More partitions for a twin that has run: every asset goes on where it was."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

pytest.importorskip("aiokafka")

from aiokafka import AIOKafkaProducer

from bench.kills import kills
from bench.trial import ROOT, Trial
from bench.trial_values import Values
from streams.kafka.client import Kafka
from streams.kafka.topics import partition_of
from twin_engine.config import read_config
from twin_engine.deploy import migrate, worker_of
from twin_engine.errors import InputError
from twin_engine.loader import load


def test_assets_keep_their_state_when_partitions_are_added(
    kafka: str, unique: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TWIN_ENGINE_TWINS", str(ROOT / "bench"))
    trial = Trial(Kafka(kafka), tmp_path, unique, messages=3000, rate=10_000, assets=30)
    asyncio.run(trial.run(kills(0)))
    config = tmp_path / "config.toml"
    migrate(config, 5)
    with pytest.raises(InputError, match="at least its 5"):
        migrate(config, 4)
    with pytest.raises(InputError, match="5 already"):
        migrate(config, 5)

    async def go_on() -> dict[str, list[float]]:
        producer = AIOKafkaProducer(bootstrap_servers=kafka)
        await producer.start()
        for key, value in [message for k in range(100, 120) for message in trial.step(k)]:
            await producer.send(f"{unique}.in", value, key=key, partition=partition_of(key.decode(), 5))
        await producer.stop()
        settings = read_config(config)
        worker = worker_of(settings, load(settings.twin), [f"a{a:03d}" for a in range(30)])
        task = asyncio.create_task(worker.run())
        for _ in range(2400):
            await asyncio.sleep(0.05)
            if task.done() or worker.stats.records == 600:
                break
        rows = {}
        for shard in worker.shards.values():
            engine = shard.partition.engine
            for name, array in engine.fleet.arrays().items():
                for row, asset in enumerate(engine.assets):
                    rows[asset, name] = array[row].tobytes()
        worker.stop()
        await task
        return rows

    rows = asyncio.run(go_on())
    trial.messages, trial.partitions = 3600, 1
    whole = trial.undisturbed(0, {}, Values(30, 120))
    arrays = whole.engine.fleet.arrays()
    assert len(rows) == 30 * len(arrays)
    for row, asset in enumerate(whole.engine.assets):
        for name, array in arrays.items():
            assert rows[asset, name] == array[row].tobytes(), (asset, name)


def test_input_that_no_snapshot_has_is_refused(kafka: str, unique: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWIN_ENGINE_TWINS", str(ROOT / "bench"))
    trial = Trial(Kafka(kafka), tmp_path, unique, messages=300, rate=10_000, assets=30)
    asyncio.run(trial.run(kills(0)))

    async def more() -> None:
        producer = AIOKafkaProducer(bootstrap_servers=kafka)
        await producer.start()
        await producer.send_and_wait(f"{unique}.in", b"{}", key=b"a001", partition=1)
        await producer.stop()

    asyncio.run(more())
    with pytest.raises(InputError, match="catch up"):
        migrate(tmp_path / "config.toml", 3)
