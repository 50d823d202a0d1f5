"""The input topic kept as history by a process of its own: once, whatever it is cut off at, and played again as the workers had it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("aiokafka")
pytest.importorskip("pydantic_settings")

from bench.fleet_of_one_channel import twin
from streams import open_source
from streams.kafka.client import Kafka
from streams.kafka.topics import Names, ensure, partition_of
from streams.kafka.updates import Updates
from streams.segments import files
from tests.kafka.test_worker import T0, send, stopped, until, worker_of
from twin_engine.config import read_config
from twin_engine.deploy import keeper_of
from twin_engine.errors import InputError, SinkError
from twin_engine.keeper import Keeper
from twin_engine.records import Reading, Update
from twin_engine.run import Run
from twin_engine.testing.fakes import ListSink


def made(folder: Path, kafka: str, app: str) -> Keeper:
    path = folder / "service.toml"
    path.write_text(f'''
twin = "{Path(__file__).parents[2]}/bench/fleet_of_one_channel.py"
app = "{app}"
kafka = {{bootstrap = "{kafka}"}}
input = {{topic = "{app}.in", codec = "json"}}
history = {{folder = "{folder}/kept", every = 0.2}}
''')  # noqa: Q001 - it has quotes
    return keeper_of(read_config(path), twin)


def scores(updates: list[Update]) -> dict[tuple[str, str, int], str]:
    found: dict[tuple[str, str, int], str] = {}
    for update in updates:
        for key, block in update.outputs.items():
            if key.startswith("level."):
                for i, row in enumerate(block.rows.tolist()):
                    for t in np.flatnonzero(block.valid[i, 0]):
                        found[key, update.assets[row], int(block.start[i] + t)] = repr(block.values[i, 0, t])
    return found


def test_history_from_the_topic_gives_what_the_worker_gave(
    kafka: str, unique: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TWIN_ENGINE_TWINS", str(Path(__file__).parents[2] / "bench"))
    x = np.random.default_rng(3).normal(size=600)
    x[500] += 20
    live = ListSink()

    async def say(lo: int, hi: int) -> None:
        for name in "ab":
            messages = [(name.encode(), json.dumps({"ts": T0 + k / 2, "value": float(x[k])}).encode()) for k in range(lo, hi)]
            await send(kafka, f"{unique}.in", [*messages, (name.encode(), b"{")], partition_of(name, 2))

    def flushed(keeper: Keeper, samples: int) -> None:
        if keeper.counts["samples"] >= samples:
            keeper._sink.flush()
            keeper.stop()

    async def keep(samples: int, *, cut_off: bool = False) -> None:
        keeper = made(tmp_path, kafka, unique)
        if cut_off:  # segments are written, and then it is killed
            monkeypatch.setattr(keeper, "_save", lambda _: flushed(keeper, samples))
        task = asyncio.create_task(asyncio.to_thread(keeper.run))
        await until(lambda: keeper.counts["samples"] >= samples, task)
        if not cut_off:
            keeper.stop()
        await asyncio.wait_for(task, 60)
        figures = {name: value for name, _, _, value in keeper.figures()}
        assert figures["kept_samples_total"] == samples

    async def main() -> None:
        await ensure(Kafka(kafka), {f"{unique}.in": {}}, 2)
        await say(0, 200)
        await keep(400)
        await say(200, 400)
        await keep(400, cut_off=True)
        await say(400, 600)
        await keep(800)
        worker = worker_of(kafka, unique)
        task = asyncio.create_task(worker.run())
        await until(lambda: worker.stats.records == 1206, task)
        updates = Updates(Kafka(kafka), Names(unique, twin.name).of("updates"), f"{unique}.test")
        await updates.open({})
        await stopped(worker, task)
        while len(found := (await updates.batch()).updates) or len(live.updates) < worker.stats.updates:
            live.updates += found
        await updates.close()

    asyncio.run(asyncio.wait_for(main(), 180))
    again = ListSink()
    run = Run(twin, open_source(f"history:{tmp_path}/kept", twin=twin), [again], assets=["a", "b"])
    run()
    assert run.report.samples == 1200
    assert {k: v for k, v in scores(again.updates).items() if k in scores(live.updates)} == scores(live.updates)
    assert len(scores(live.updates)) > 1000
    first, second = ({(e.id, e.revision): e for update in sink.updates for e in update.events} for sink in (live, again))
    assert first
    assert {k: second[k] for k in first} == first
    kept = [item for item in open_source(f"history:{tmp_path}/kept").items(None) if isinstance(item, Reading)]
    assert len(kept) == 1200
    assert all(item.arrival > T0 for item in kept)


def test_segments_of_another_are_not_deleted(tmp_path: Path, kafka: str, unique: str) -> None:
    day = tmp_path / "kept" / "twin=one" / "output=input" / "day=2024-01-01"
    day.mkdir(parents=True)
    (day / "part-00000000-00000000.parquet").write_bytes(b"mine")
    with pytest.raises(SinkError, match="another folder"):
        made(tmp_path, kafka, unique).run()
    assert len(files(day)) == 1
    (tmp_path / "service.toml").write_text('twin = "host"\n')
    with pytest.raises(InputError, match=r"\[history\]"):
        keeper_of(read_config(tmp_path / "service.toml"), twin)
