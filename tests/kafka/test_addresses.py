"""`kafka:` as an address of `run`, on a real Kafka: in and out, killed and resumed, transactions, partitions, passwords, mistakes."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest

pytest.importorskip("aiokafka")

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from compose.services import Server
from streams.codecs import open_codec
from streams.context import Context
from streams.kafka.client import Kafka
from streams.kafka.outputs import send_command
from streams.kafka.topics import ensure, partition_of
from streams.registry import sink_at, source_at
from tests.room import room
from twin_engine.errors import InputError, SinkError
from twin_engine.records import Command, Idle, Item, Position, Reading, parse_line
from twin_engine.run import SNAPSHOT
from twin_engine.service import run
from twin_engine.snapshot import read_snapshot

T0, COUNT = 1_700_000_000, 1200


async def _send(bootstrap: str, topic: str, said: list[tuple[str, bytes, int]], **options: Any) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, **options)
    await producer.start()
    try:
        for key, value, partition in said:
            await producer.send(topic, value, key=key.encode(), partition=partition)
    finally:
        await producer.stop()


def send(bootstrap: str, topic: str, said: list[tuple[str, bytes, int]]) -> None:
    asyncio.run(_send(bootstrap, topic, said))


def topic(bootstrap: str, name: str, partitions: int = 1) -> str:
    asyncio.run(ensure(Kafka(bootstrap), {name: {}}, partitions))
    return name


def samples(lo: int, hi: int, partitions: int = 2) -> list[tuple[str, bytes, int]]:
    x = np.random.default_rng(5).normal(size=COUNT)
    x[[700, 1100]] += 20
    return [
        (a, msgspec.json.encode({"ts": T0 + i, "value": float(x[i])}), partition_of(a, partitions)) for i in range(lo, hi) for a in "abcd"
    ]


async def _consume(bootstrap: str, name: str, partitions: int) -> list[tuple[str, dict[str, str], bytes]]:
    """Return all that is there: key, headers, value."""
    reader = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    await reader.start()
    try:
        places = [TopicPartition(name, p) for p in range(partitions)]
        reader.assign(places)
        left, found = await reader.end_offsets(places), []
        while any([await reader.position(p) < end for p, end in left.items()]):
            for messages in (await reader.getmany(timeout_ms=500)).values():
                found += [(m.key.decode(), {k: v.decode() for k, v in m.headers}, m.value) for m in messages]
        return found
    finally:
        await reader.stop()


def consume(bootstrap: str, name: str, partitions: int = 1) -> list[tuple[str, dict[str, str], bytes]]:
    return asyncio.run(_consume(bootstrap, name, partitions))


def taken(folder: Path) -> int:
    found = read_snapshot(folder / SNAPSHOT)
    return found.document["telemetry"]["samples"] if found else 0


def events(folder: Path) -> dict[str, list[bytes]]:
    """Return them by asset, but silence: a slow machine hears nothing for a while."""
    lines = [line for line in (folder / "events.jsonl").read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
    return {a: [line for line in lines if (e := parse_line(line)).asset == a and e.kind != "absence"] for a in "abcd"}


def outputs(found: list[tuple[str, dict[str, str], bytes]]) -> tuple[dict[Any, bytes], dict[Any, float]]:
    """Return events by id and revision, and values by asset and time; what comes twice must be the same."""
    said: dict[Any, bytes] = {}
    values: dict[Any, float] = {}
    for key, headers, value in found:
        assert headers["twin"] == "room"
        if headers["output"] == "event":
            event = parse_line(value)
            assert event.asset == key
            assert event.kind == "absence" or said.setdefault((event.id, event.revision), value) == value
        else:
            assert (headers["output"], headers["codec"]) == ("level.score", "arrow")
            table = pa.ipc.open_stream(value).read_all()
            for when, score in zip(table[0].cast(pa.int64()).to_pylist(), table[1].to_pylist(), strict=True):
                assert values.setdefault((key, when), repr(score)) == repr(score)
    return said, values


def test_a_run_that_is_killed_and_begun_again_equals_an_undisturbed_one(
    kafka: str, unique: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("room.py").write_text(room("value"))
    name, outs = topic(kafka, unique, 2), [topic(kafka, f"{unique}.{i}", 2) for i in range(2)]
    uri = f"kafka://{kafka}/{name}?codec=json&group={unique}"
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    send(kafka, name, samples(0, 600))
    names = [part for a in "abcd" for part in ("--asset", a)]
    line = [sys.executable, "-m", "twin_engine.cli", "run", "room.py", "--from", uri, "--to", f"kafka://{kafka}/{outs[0]}"]
    line += ["--to", f"jsonl:{killed}/events.jsonl", *names, "--state", str(killed)]
    with subprocess.Popen(line, env={**os.environ, "TWIN_ENGINE_TWINS": str(tmp_path)}) as process:
        end = time.monotonic() + 120
        while taken(killed) < 2400 and process.poll() is None and time.monotonic() < end:
            threading.Event().wait(0.05)
        send(kafka, name, samples(600, 900))
        while not any(events(killed).values()) and process.poll() is None and time.monotonic() < end:
            threading.Event().wait(0.01)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    send(kafka, name, samples(900, COUNT))
    for folder, out in ((killed, outs[0]), (whole, outs[1])):
        sinks = [f"kafka://{kafka}/{out}", f"jsonl:{folder}/events.jsonl"]
        report = run("room.py", f"{uri}&follow=no", sinks, assets=list("abcd"), state=folder)
        assert report.resumed == (folder == killed)
    assert taken(killed) == taken(whole) == 4 * COUNT
    assert events(killed) == events(whole)
    assert all(events(whole).values())
    first, second = (outputs(consume(kafka, out, 2)) for out in outs)
    assert first == second
    assert len(first[1]) >= 4 * (COUNT - 1)
    assert {json.loads(line)["asset"] for line in first[0].values()} == set("abcd")

    async def committed() -> list[int | None]:
        reader = AIOKafkaConsumer(bootstrap_servers=kafka, group_id=unique, enable_auto_commit=False)
        await reader.start()
        try:
            return [await reader.committed(TopicPartition(name, p)) for p in range(2)]
        finally:
            await reader.stop()

    assert sum(offset or 0 for offset in asyncio.run(committed())) == 4 * COUNT


def take(items: Iterator[Item], count: int, idle: int = 100) -> list[Any]:
    """Return so many items, or what has come within so many idle turns."""
    found: list[Any] = []
    for item in items:
        found += [] if isinstance(item, Idle) else [item]
        idle -= isinstance(item, Idle)
        if len(found) >= count or not idle:
            break
    return found


def samples_of(reading: Reading) -> str:
    return repr((reading.asset, reading.times.tolist(), reading.values.tolist()))


def read(uri: str, position: Position = None, count: int = 1 << 30) -> list[Any]:
    source = source_at(uri, Context())
    try:
        return take(source.items(position), count)
    finally:
        source.close()


def value(item: Any) -> Any:
    return (item.asset, float(item.values[0, -1])) if isinstance(item, Reading) else item.reason.value


def test_what_was_aborted_and_what_is_for_workers_is_not_read(kafka: str, unique: str) -> None:
    name = topic(kafka, unique, 2)
    uri = f"kafka://{kafka}/{name}?codec=json&follow=no"

    async def main() -> None:
        producer = AIOKafkaProducer(bootstrap_servers=kafka, transactional_id=unique)
        await producer.start()
        for good in (True, False, True):
            await producer.begin_transaction()
            await producer.send(name, msgspec.json.encode({"ts": T0 + 1, "value": float(good)}), key=b"a", partition=1)
            await (producer.commit_transaction() if good else producer.abort_transaction())
        await producer.stop()
        await send_command(Kafka(kafka), name, Command("restart", "*"), [0, 1])

    assert read(uri) == []
    asyncio.run(main())
    send(kafka, name, [("b", b'{"ts": 1700000000, "value": 5}', 0), ("b", b"{", 0)])
    found = read(uri)
    assert sorted(map(str, map(value, found))) == ["('a', 1.0)", "('a', 1.0)", "('b', 5.0)", "malformed"]
    assert [value(item) for item in read(f"{uri}&partitions=1")] == [("a", 1.0)] * 2
    assert read(f"{uri}&begin=latest") == []
    bad = next(item for item in found if not isinstance(item, Reading))
    assert bad.source.startswith(f"kafka://{kafka}/{name} 0 2")
    assert read(uri, found[-1].position) == []


def test_a_record_is_taken_up_where_it_was_left_and_a_codec_goes_on_with_what_it_knows(kafka: str, unique: str) -> None:
    name = topic(kafka, unique)
    uri = f"kafka://{kafka}/{name}?codec=json&follow=no&pattern=%23"
    send(kafka, name, [("all", msgspec.json.encode([{"asset": a, "ts": T0, "x": 1.0} for a in "abc"]), 0)] * 2)
    found = read(uri)
    assert [item.asset for item in found] == list("abcabc")
    for i, item in enumerate(found):
        position = json.loads(json.dumps(item.position))
        assert [later.asset for later in read(uri, position)] == list("abcabc")[i + 1 :]

    births = topic(kafka, f"{unique}.s")
    codec = open_codec("sparkplug", "#", {"group": "g"})
    first, second = (
        [(subject, raw, 0) for subject, raw in codec.encode(Reading("pump", ("x",), np.array([(T0 + i) * 10**9]), np.array([[float(i)]])))]
        for i in range(2)
    )
    send(kafka, births, first)
    uri = f"kafka://{kafka}/{births}?codec=sparkplug&pattern=%23&follow=no"
    position = json.loads(json.dumps(read(uri)[-1].position))
    assert b"pump" not in second[0][1]  # an alias stands for the name
    send(kafka, births, second)
    assert [value(item) for item in read(uri, position)] == [("pump", 1.0)]


def test_what_a_topic_let_go_of_is_counted(kafka: str, unique: str) -> None:
    from aiokafka.admin import AIOKafkaAdminClient
    from aiokafka.admin.records_to_delete import RecordsToDelete

    name = topic(kafka, unique)
    send(kafka, name, [("a", msgspec.json.encode({"ts": T0 + i, "value": float(i)}), 0) for i in range(10)])

    async def forget() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
        await admin.start()
        await admin.delete_records({TopicPartition(name, 0): RecordsToDelete(before_offset=6)})
        await admin.close()

    uri = f"kafka://{kafka}/{name}?codec=json&follow=no"
    second = read(uri, count=2)[-1].position
    asyncio.run(forget())
    source = source_at(uri, Context())
    assert [value(item)[1] for item in take(source.items(second), 99)] == [6.0, 7.0, 8.0, 9.0]
    assert source.figures() == {"kafka_records": 4.0, "kafka_expired": 4.0, "kafka_behind": 0.0}
    source.close()


def test_a_secured_cluster_lets_in_who_has_the_password_and_is_waited_for_while_it_is_down(
    own_server: Callable[..., Server], unique: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    server, secret = own_server("kafka", secure=True), tmp_path / "password"
    secret.write_text(server.facts["password"])
    base = f"kafkas://{server.facts['user']}@{server.env['KAFKA_BOOTSTRAP']}"
    said = f"ca={server.facts['ca']}&password_file={secret}"
    Path("room.py").write_text(room("value"))
    Path("next.py").write_text(room("value", "1", name="next"))
    Path("in.jsonl").write_text("".join(f'{{"asset": "a", "channel": "value", "ts": {T0 + i}, "value": {i}}}\n' for i in range(100)))

    def say() -> None:
        run("room.py", "lines:in.jsonl?unit=s", [f"{base}/{unique}?partitions=1&events=no&{said}"])

    say()
    report = run("next.py", f"{base}/{unique}?follow=no&{said}", ["jsonl:e.jsonl"], assets=["a"])
    assert report.samples >= 50  # one twin reads what another shows, once its level is known
    assert not report.rejects
    source = source_at(f"{base}/{unique}?{said}", Context())
    items = source.items(None)
    first = take(items, 1 << 30, idle=1)
    for uri, error, told in (
        (f"{base}/none?{said}", InputError, "Create it"),
        (f"{base}/{unique}?partitions=3&{said}", InputError, "partition 3"),
    ):
        with pytest.raises(error, match=told):
            read(uri)
    with pytest.raises(SinkError, match="partitions=4"):
        sink_at(f"{base}/none?{said}", ()).open(None)
    server.stop()
    assert isinstance(next(items), Idle)
    with pytest.raises(InputError, match="Is it up"):
        read(f"{base}/{unique}?{said}")
    with pytest.raises(SinkError, match="cluster"):
        sink_at(f"{base}/{unique}?{said}", ()).open(None)
    server.run()
    say()
    again = take(items, len(first), idle=600)
    source.close()
    assert list(map(samples_of, again)) == list(map(samples_of, first))
    secret.write_text("wrong")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # aiokafka leaves the transport of a refused connection open
        with pytest.raises(SinkError, match="password") as refused:
            sink_at(f"{base}/{unique}?{said}", ()).open(None)
        gc.collect()
    assert server.facts["password"] not in str(refused.value)


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("kafka://h", "the name of a topic.*found none.*kafka://h/TOPIC"),
        ("kafka:///t", "a broker.*HOST:9092"),
        ("kafka://h:0/t", "a broker"),
        ("kafka://h:9092,:9093/t", "a broker"),
        ("kafka://h/a b", "letters, digits"),
        ("kafka://h/a/b", "letters, digits"),
        ("kafka://u:secret@h/t", "password_env=KAFKA_PASSWORD"),
        ("kafka://u@h/t", "set KAFKA_PASSWORD"),
        ("kafka://u@h/t?password_env=UNSET", r"\$UNSET"),
        ("kafka://h/t?ca=x", "kafkas://"),
        ("kafkas://h/t?ca=/none/x.pem", "PEM"),
        ("kafka://h/t?mechanism=NONE", "SCRAM-SHA-256"),
        ("kafka://h/t?topik=1", "expected an option"),
        ("kafca://h/t", "Did you mean 'kafka'"),
    ],
)
def test_a_wrong_address_says_how_to_mend_it(uri: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KAFKA_PASSWORD", raising=False)
    for kind, opened in ((InputError, lambda: source_at(uri, Context())), (SinkError, lambda: sink_at(uri, ()))):
        with pytest.raises(kind, match=told) as wrong:
            opened()
        assert "secret" not in str(wrong.value)


def test_wrong_options_say_how_to_mend_them() -> None:
    for options, told in (
        ("codec=arow", "'arrow'"),
        ("partitions=x", "partitions=0,1"),
        ("follow=maybe", "yes or no"),
        ("pattern={aset}", "asset"),
    ):
        with pytest.raises(InputError, match=told):
            source_at(f"kafka://h/t?{options}", Context())
    for options, told in (("codec=arow", "'arrow'"), ("outputs=cleen", "'clean'"), ("events=maybe", "yes or no")):
        with pytest.raises(SinkError, match=told):
            sink_at(f"kafka://h/t?{options}", ("clean",))
    with pytest.raises(InputError, match="--asset a"):
        _ = source_at("kafka://h/t", Context()).assets
